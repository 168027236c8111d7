/// A value inside a strictly parsed JSON document (RFC 8259, and stricter: see Formats/json/spec.md).
///
/// A document is one flat table of nodes over the original bytes, so that the 100 MB header of a hostile checkpoint
/// costs a small multiple of its size. Strings are bytes, known to be valid UTF-8, escapes decoded.
public struct JSON: Sendable {
  public enum Kind: UInt8, Sendable { case null, `false`, `true`, number, string, array, object }

  struct Node {
    var start: UInt32  // first byte: in the source, or in `unescaped` when `isUnescaped`
    var length: UInt32  // bytes of a number or string; children of an array, members of an object
    var next: UInt32  // index of the node after this one's subtree
    var position: UInt32  // byte in the source where the value begins
    var kind: Kind
    var isUnescaped = false
  }

  final class Document: Sendable {
    let bytes: [UInt8]
    let unescaped: [UInt8]
    let nodes: [Node]
    let what: String

    init(bytes: [UInt8], unescaped: [UInt8], nodes: [Node], what: String) {
      self.bytes = bytes
      self.unescaped = unescaped
      self.nodes = nodes
      self.what = what
    }
  }

  let document: Document
  let index: Int

  private var node: Node { document.nodes[index] }

  public var kind: Kind { node.kind }

  /// Where the value stands, as the `place` of a failure: `header byte 12`.
  public var place: String { "\(document.what) byte \(node.position)" }

  public func failure(_ problem: String, _ kind: Failure.Kind = .malformed) -> Failure {
    Failure(kind, problem, place: place)
  }

  // MARK: Scalars

  private func raw(_ node: Node) -> ArraySlice<UInt8> {
    let range = Int(node.start)..<(Int(node.start) + Int(node.length))
    return node.isUnescaped ? document.unescaped[range] : document.bytes[range]
  }

  /// The bytes of a string, escapes decoded.
  public func bytes(_ name: String = "value") throws(Failure) -> [UInt8] {
    guard kind == .string else { throw failure("\(name) must be a string") }
    return Array(raw(node))
  }

  public func string(_ name: String = "value") throws(Failure) -> String {
    String(decoding: try bytes(name), as: UTF8.self)
  }

  public func bool(_ name: String = "value") throws(Failure) -> Bool {
    guard kind == .true || kind == .false else { throw failure("\(name) must be true or false") }
    return kind == .true
  }

  /// A whole number from 0 to 2^64 - 1, written without fraction or exponent; `-0` is 0.
  public func unsigned(_ name: String = "value") throws(Failure) -> UInt64 {
    let text = try integerText(name)
    if text.first == UInt8(ascii: "-") {
      guard text.dropFirst().allSatisfy({ $0 == UInt8(ascii: "0") }) else { throw failure("\(name) is negative") }
      return 0
    }
    guard let value = UInt64(String(decoding: text, as: UTF8.self)) else { throw failure("\(name) is out of range") }
    return value
  }

  /// A whole number inside `range`.
  public func integer(_ name: String = "value", in range: ClosedRange<Int>) throws(Failure) -> Int {
    let text = try integerText(name)
    guard let value = Int(String(decoding: text, as: UTF8.self)), range.contains(value) else {
      let found = String(decoding: text.prefix(24), as: UTF8.self)
      throw failure("\(name) \(found) is out of range \(range.lowerBound)…\(range.upperBound)")
    }
    return value
  }

  private func integerText(_ name: String) throws(Failure) -> ArraySlice<UInt8> {
    let text = raw(node)
    guard kind == .number, text.allSatisfy({ $0 == UInt8(ascii: "-") || ($0 >= 48 && $0 <= 57) }) else {
      throw failure("\(name) must be an integer")
    }
    return text
  }

  /// Any number, rounded to the nearest `Double`; always finite, because the parser refuses the others.
  public func double(_ name: String = "value") throws(Failure) -> Double {
    guard kind == .number, let value = Double(String(decoding: raw(node), as: UTF8.self)) else {
      throw failure("\(name) must be a number")
    }
    return value
  }

  // MARK: Structure

  /// Elements of an array, members of an object, 0 for anything else.
  public var count: Int { kind == .array || kind == .object ? Int(node.length) : 0 }

  /// The values of an array, in order.
  public func elements(_ name: String = "value") throws(Failure) -> [JSON] {
    guard kind == .array else { throw failure("\(name) must be an array") }
    var result: [JSON] = []
    result.reserveCapacity(Int(node.length))
    var at = index + 1
    for _ in 0..<node.length {
      result.append(JSON(document: document, index: at))
      at = Int(document.nodes[at].next)
    }
    return result
  }

  /// Calls `body` with each key and value of an object, in the order written.
  public func forEachMember(
    _ name: String = "value", _ body: (JSON, JSON) throws(Failure) -> Void
  ) throws(Failure) {
    guard kind == .object else { throw failure("\(name) must be an object") }
    var at = index + 1
    for _ in 0..<node.length {
      let value = JSON(document: document, index: at + 1)
      try body(JSON(document: document, index: at), value)
      at = Int(document.nodes[at + 1].next)
    }
  }

  public func members(_ name: String = "value") throws(Failure) -> [(key: [UInt8], value: JSON)] {
    var result: [(key: [UInt8], value: JSON)] = []
    try forEachMember(name) { (key, value) throws(Failure) in result.append((try key.bytes(), value)) }
    return result
  }

  /// The value under `key`, nil when this is no object or has no such key. Looks at every member: for small objects.
  public subscript(_ key: String) -> JSON? {
    guard kind == .object else { return nil }
    var at = index + 1
    for _ in 0..<node.length {
      if raw(document.nodes[at]).elementsEqual(key.utf8) { return JSON(document: document, index: at + 1) }
      at = Int(document.nodes[at + 1].next)
    }
    return nil
  }

  /// The value under `key`, nil when it is absent or `null`.
  public func optional(_ key: String) -> JSON? {
    let value = self[key]
    return value?.kind == .null ? nil : value
  }

  public func required(_ key: String) throws(Failure) -> JSON {
    guard kind == .object else { throw failure("must be an object with the key \(Failure.quoted(key))") }
    guard let value = self[key] else { throw failure("the key \(Failure.quoted(key)) is missing") }
    return value
  }

  /// Throws `malformed` naming the first key that is not in `known`.
  public func refuseUnknownKeys(_ known: [String]) throws(Failure) {
    for (key, value) in try members() where !known.contains(where: { key.elementsEqual($0.utf8) }) {
      throw value.failure("unknown key \(Failure.quoted(key)); known: \(known.joined(separator: ", "))")
    }
  }
}
