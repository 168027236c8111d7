/// Reads numbers and byte strings from a view, front to back; every length is compared with what is left
/// before anything is sized by it.
public struct ByteReader {
  private let view: ByteView
  private var window: [UInt8] = []
  private var windowAt = 0
  /// Where the next byte is read.
  public private(set) var at = 0
  /// Whether numbers have their most significant byte first.
  public var isBigEndian = false
  private static let windowSize = 1 << 18

  public init(_ view: ByteView) { self.view = view }

  public var left: Int { view.count - at }

  /// Where in the window the next `count` bytes are, which it then holds.
  private mutating func advance(_ count: Int, _ what: String) throws(Failure) -> Int {
    guard count >= 0, count <= left else {
      throw Failure(.malformed, "truncated: \(what) of \(count) bytes, \(left) left", place: "byte \(at)")
    }
    if at < windowAt || at + count > windowAt + window.count {
      let size = min(left, max(count, ByteReader.windowSize))
      var fresh = [UInt8](repeating: 0, count: size)
      let view = view
      let from = at
      let result: Result<Void, Failure> = fresh.withUnsafeMutableBytes { target in
        do throws(Failure) { return .success(try view.read(at: from, into: target)) } catch { return .failure(error) }
      }
      try result.get()
      (window, windowAt) = (fresh, at)
    }
    defer { at += count }
    return at - windowAt
  }

  /// The next `count` bytes.
  /// - Throws: `malformed` "truncated" when there are fewer.
  public mutating func bytes(_ count: Int, _ what: String) throws(Failure) -> [UInt8] {
    let start = try advance(count, what)
    return Array(window[start..<start + count])
  }

  /// The next number.
  public mutating func integer<T: FixedWidthInteger>(_ type: T.Type, _ what: String) throws(Failure) -> T {
    let start = try advance(MemoryLayout<T>.size, what)
    let value = window.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: start, as: T.self) }
    return isBigEndian ? T(bigEndian: value) : T(littleEndian: value)
  }

  /// A length of at most `limit`, as a number of type `T`.
  public mutating func count<T: FixedWidthInteger & UnsignedInteger>(
    _ what: String, limit: Int, as type: T.Type = UInt64.self
  ) throws(Failure) -> Int {
    let place = at
    let value = try integer(T.self, what)
    guard value <= UInt64(max(0, limit)) else {
      throw Failure(.malformed, "\(what) \(value) is more than \(limit)", place: "byte \(place)")
    }
    return Int(value)
  }
}
