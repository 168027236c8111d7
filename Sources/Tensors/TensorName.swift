import Bytes

/// A tensor's name: bytes, compared as bytes. (Swift's `String` calls two spellings of "é" equal; a checkpoint does
/// not.)
public struct TensorName: Hashable, Comparable, Sendable {
  public let bytes: [UInt8]

  public init(_ bytes: [UInt8]) { self.bytes = bytes }

  public init(_ text: String) { bytes = Array(text.utf8) }

  public static func < (a: TensorName, b: TensorName) -> Bool { a.bytes.lexicographicallyPrecedes(b.bytes) }

  /// The name as text, for files that hold UTF-8 names (all of ours do).
  public var text: String { String(decoding: bytes, as: UTF8.self) }

  /// The name in quotes, safe to print.
  public var quoted: String { Failure.quoted(bytes) }

  /// A name for something made from this tensor: `a.weight` and `scaled` give `a.weight+scaled`.
  public func made(_ how: String) -> TensorName { TensorName(bytes + Array("+\(how)".utf8)) }

  /// Why the bytes cannot be a name, nil when they can. The rule is the same for every format.
  public static func problem(with bytes: [UInt8]) -> Failure? {
    if bytes.isEmpty { return Failure(.malformed, "empty name") }
    if bytes.count > Limits.nameBytes {
      return Failure(
        .limit, "name longer than \(Limits.nameBytes) bytes (\(bytes.count))", thing: "tensor \(Failure.quoted(bytes))")
    }
    if bytes.contains(where: { $0 < 0x20 || $0 == 0x7F }) {
      return Failure(.malformed, "control character in name \(Failure.quoted(bytes))")
    }
    return nil
  }
}

extension TensorName: ExpressibleByStringLiteral {
  public init(stringLiteral value: String) { self.init(value) }
}
