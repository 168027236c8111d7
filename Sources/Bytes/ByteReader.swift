/// Reads little-endian numbers and byte strings from a view, front to back; every length is compared with what is left
/// before anything is sized by it.
public struct ByteReader {
  private let view: ByteView
  private var window: [UInt8] = []
  private var windowAt = 0
  /// Where the next byte is read.
  public private(set) var at = 0
  private static let windowSize = 1 << 18

  public init(_ view: ByteView) { self.view = view }

  public var left: Int { view.count - at }

  /// The next `count` bytes.
  /// - Throws: `malformed` "truncated" when there are fewer.
  public mutating func bytes(_ count: Int, _ what: String) throws(Failure) -> [UInt8] {
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
    return Array(window[at - windowAt..<at - windowAt + count])
  }

  /// The next number, little endian.
  public mutating func integer<T: FixedWidthInteger>(_ type: T.Type, _ what: String) throws(Failure) -> T {
    try bytes(MemoryLayout<T>.size, what).reversed().reduce(T(0)) { $0 << 8 | T(truncatingIfNeeded: $1) }
  }

  /// A length of at most `limit`, as 64 bits.
  public mutating func count(_ what: String, limit: Int) throws(Failure) -> Int {
    let place = at
    let value = try integer(UInt64.self, what)
    guard value <= UInt64(limit) else {
      throw Failure(.malformed, "\(what) \(value) is more than \(limit)", place: "byte \(place)")
    }
    return Int(value)
  }
}
