extension JSON {
  /// Parses one document and nothing after it.
  ///
  /// - Refuses: anything outside RFC 8259, byte-order marks, UTF-16, repeated keys (compared after escapes are
  ///   decoded), nesting above `Limits.jsonDepth`, numbers that are not finite, lone surrogates, long numbers and
  ///   strings.
  /// - Cost: linear in the bytes (a sort by hash for the keys of large objects); 16 to 20 bytes for each value.
  /// - Parameters:
  ///   - what: what the bytes are, for messages: `header`.
  ///   - topKey: what the keys of the outermost object are, for messages: `tensor name`.
  public static func parse(
    _ bytes: [UInt8], what: String = "JSON", topKey: String = "key"
  ) throws(Failure) -> JSON {
    guard bytes.count < Int(UInt32.max) else { throw Failure(.limit, "\(what) of \(bytes.count) bytes is too long") }
    var parser = Parser(what: what, topKey: topKey, count: bytes.count)
    do {
      try bytes.withUnsafeBufferPointer { (source) throws(Failure) in try parser.document(source) }
    }
    return JSON(
      document: Document(bytes: bytes, unescaped: parser.unescaped, nodes: parser.nodes, what: what), index: 0)
  }

  private struct Parser {
    let what: String
    let topKey: String
    let count: Int
    var at = 0
    var nodes: [Node] = []
    var unescaped: [UInt8] = []

    init(what: String, topKey: String, count: Int) {
      self.what = what
      self.topKey = topKey
      self.count = count
    }

    typealias Source = UnsafeBufferPointer<UInt8>

    func failure(_ problem: String, _ kind: Failure.Kind = .malformed, at position: Int? = nil) -> Failure {
      Failure(kind, problem, place: "\(what) byte \(position ?? at)")
    }

    mutating func document(_ source: Source) throws(Failure) {
      if count >= 3, source[0] == 0xEF, source[1] == 0xBB, source[2] == 0xBF {
        throw failure("starts with a byte-order mark")
      }
      if count >= 2, (source[0] == 0xFE && source[1] == 0xFF) || (source[0] == 0xFF && source[1] == 0xFE) {
        throw failure("starts with a UTF-16 byte-order mark; not UTF-8 at \(what) byte 0")
      }
      skipSpace(source)
      guard at < count else { throw failure("\(what) is empty") }
      try value(source, depth: 0)
      let closing = nodes[0].kind == .object ? "the \(what)'s closing brace" : "the \(what)'s only value"
      skipSpace(source)
      guard at == count else {
        throw failure("\(Parser.shown(source[at])) after \(closing); padding must be spaces")
      }
    }

    mutating func skipSpace(_ source: Source) {
      while at < count, source[at] == 0x20 || source[at] == 0x0A || source[at] == 0x0D || source[at] == 0x09 { at += 1 }
    }

    mutating func value(_ source: Source, depth: Int) throws(Failure) {
      guard at < count else { throw failure("unfinished: a value is expected") }
      switch source[at] {
      case UInt8(ascii: "{"): try container(source, .object, UInt8(ascii: "}"), depth: depth + 1)
      case UInt8(ascii: "["): try container(source, .array, UInt8(ascii: "]"), depth: depth + 1)
      case UInt8(ascii: "\""): try string(source)
      case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): try number(source)
      case UInt8(ascii: "t"): try literal(source, "true", .true)
      case UInt8(ascii: "f"): try literal(source, "false", .false)
      case UInt8(ascii: "n"): try literal(source, "null", .null)
      case let byte where byte >= 0x80:
        _ = try sequenceLength(source)
        throw failure("\(Parser.shown(byte)) where a value is expected")
      case let byte: throw failure("\(Parser.shown(byte)) where a value is expected")
      }
    }

    mutating func container(_ source: Source, _ kind: Kind, _ close: UInt8, depth: Int) throws(Failure) {
      guard depth <= Limits.jsonDepth else { throw failure("nested deeper than \(Limits.jsonDepth)") }
      let name = kind == .object ? "object" : "array"
      let own = nodes.count
      nodes.append(Node(start: UInt32(at), length: 0, next: 0, position: UInt32(at), kind: kind))
      at += 1
      var children: UInt32 = 0
      skipSpace(source)
      while true {
        guard at < count else { throw failure("\(what) ends inside an \(name): unfinished \(name)") }
        if source[at] == close {
          if children > 0 { throw failure("trailing comma before the end of the \(name)") }
          at += 1
          break
        }
        if kind == .object {
          guard source[at] == UInt8(ascii: "\"") else {
            throw failure("\(Parser.shown(source[at])) where a key in double quotes is expected")
          }
          try string(source)
          skipSpace(source)
          guard at < count else { throw failure("\(what) ends inside an object: unfinished object") }
          guard source[at] == UInt8(ascii: ":") else {
            throw failure("\(Parser.shown(source[at])) where \":\" is expected")
          }
          at += 1
          skipSpace(source)
        }
        try value(source, depth: depth)
        children += 1
        skipSpace(source)
        guard at < count else { throw failure("\(what) ends inside an \(name): unfinished \(name)") }
        if source[at] == close {
          at += 1
          break
        }
        guard source[at] == UInt8(ascii: ",") else {
          throw failure("\(Parser.shown(source[at])) where \",\" or the end of the \(name) is expected")
        }
        at += 1
        skipSpace(source)
      }
      nodes[own].length = children
      nodes[own].next = UInt32(nodes.count)
      if kind == .object, children > 1 { try refuseRepeatedKeys(source, own) }
    }

    mutating func literal(_ source: Source, _ word: StaticString, _ kind: Kind) throws(Failure) {
      let length = word.utf8CodeUnitCount
      let matches = count - at >= length && (0..<length).allSatisfy { source[at + $0] == word.utf8Start[$0] }
      guard matches else { throw failure("expected \(word)") }
      let next = UInt32(nodes.count + 1)
      nodes.append(Node(start: UInt32(at), length: UInt32(length), next: next, position: UInt32(at), kind: kind))
      at += length
    }

    mutating func number(_ source: Source) throws(Failure) {
      let start = at
      func digits(_ at: inout Int) -> Int {
        let first = at
        while at < count, source[at] >= 48, source[at] <= 57 { at += 1 }
        return at - first
      }
      if source[at] == UInt8(ascii: "-") { at += 1 }
      let leading = at
      let whole = digits(&at)
      guard whole > 0 else { throw failure("a digit is expected") }
      if whole > 1, source[leading] == UInt8(ascii: "0") { throw failure("number with a leading zero", at: leading) }
      if at < count, source[at] == UInt8(ascii: ".") {
        at += 1
        guard digits(&at) > 0 else { throw failure("a digit is expected after the point") }
      }
      var hasExponent = false
      if at < count, source[at] | 0x20 == UInt8(ascii: "e") {
        hasExponent = true
        at += 1
        if at < count, source[at] == UInt8(ascii: "+") || source[at] == UInt8(ascii: "-") { at += 1 }
        guard digits(&at) > 0 else { throw failure("a digit is expected in the exponent") }
      }
      guard at - start <= Limits.jsonNumber else {
        throw failure("number too long: \(at - start) bytes, limit \(Limits.jsonNumber)", .limit, at: start)
      }
      // Fewer than 300 digits and no exponent: finite without asking.
      if hasExponent || whole > 300 {
        let text = String(decoding: UnsafeBufferPointer(rebasing: source[start..<at]), as: UTF8.self)
        guard let value = Double(text), value.isFinite else { throw failure("not a finite number", at: start) }
      }
      nodes.append(
        Node(
          start: UInt32(start), length: UInt32(at - start), next: UInt32(nodes.count + 1), position: UInt32(start),
          kind: .number))
    }

    mutating func string(_ source: Source) throws(Failure) {
      let position = at
      at += 1
      let start = at
      let side = unescaped.count
      var isUnescaped = false
      var copied = start  // everything before this is in `unescaped` once that is in use
      while true {
        guard at < count else { throw failure("unfinished string", at: position) }
        let byte = source[at]
        if byte == UInt8(ascii: "\"") { break }
        if byte < 0x20 { throw failure("raw control character \(Parser.shown(byte)) in a string") }
        if byte == UInt8(ascii: "\\") {
          unescaped.append(contentsOf: source[copied..<at])
          isUnescaped = true
          try escape(source)
          copied = at
        } else {
          at += byte < 0x80 ? 1 : try sequenceLength(source)
        }
        guard at - start <= Limits.jsonString else {
          throw failure("string longer than \(Limits.jsonString) bytes", .limit, at: position)
        }
      }
      if isUnescaped { unescaped.append(contentsOf: source[copied..<at]) }
      nodes.append(
        Node(
          start: UInt32(isUnescaped ? side : start),
          length: UInt32(isUnescaped ? unescaped.count - side : at - start), next: UInt32(nodes.count + 1),
          position: UInt32(position), kind: .string, isUnescaped: isUnescaped))
      at += 1
    }

    mutating func escape(_ source: Source) throws(Failure) {
      let start = at
      guard at + 1 < count else { throw failure("unfinished escape") }
      let letter = source[at + 1]
      at += 2
      switch letter {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): unescaped.append(letter)
      case UInt8(ascii: "b"): unescaped.append(8)
      case UInt8(ascii: "f"): unescaped.append(12)
      case UInt8(ascii: "n"): unescaped.append(10)
      case UInt8(ascii: "r"): unescaped.append(13)
      case UInt8(ascii: "t"): unescaped.append(9)
      case UInt8(ascii: "u"):
        var code = try hexadecimal(source, start)
        if code >= 0xD800, code < 0xDC00, at + 1 < count, source[at] == UInt8(ascii: "\\"),
          source[at + 1] == UInt8(ascii: "u")
        {
          at += 2
          let low = try hexadecimal(source, start)
          guard low >= 0xDC00, low < 0xE000 else { throw failure("lone surrogate", at: start) }
          code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
        }
        guard let scalar = Unicode.Scalar(code) else { throw failure("lone surrogate", at: start) }
        unescaped.append(contentsOf: UTF8.encode(scalar).map(Array.init) ?? [])
      default: throw failure("unknown escape", at: start)
      }
    }

    mutating func hexadecimal(_ source: Source, _ start: Int) throws(Failure) -> UInt32 {
      guard count - at >= 4 else { throw failure("unfinished escape", at: start) }
      var code: UInt32 = 0
      for _ in 0..<4 {
        guard let digit = Character(Unicode.Scalar(source[at])).hexDigitValue, source[at] < 0x80 else {
          throw failure("four hexadecimal digits are expected after \\u", at: start)
        }
        code = code << 4 | UInt32(digit)
        at += 1
      }
      return code
    }

    /// Length of the UTF-8 sequence at `at`, by the table of RFC 3629 (no overlong forms, no surrogates).
    func sequenceLength(_ source: Source) throws(Failure) -> Int {
      let lead = source[at]
      func isContinuation(_ offset: Int, _ low: UInt8 = 0x80, _ high: UInt8 = 0xBF) -> Bool {
        at + offset < count && source[at + offset] >= low && source[at + offset] <= high
      }
      switch lead {
      case 0xC2...0xDF: if isContinuation(1) { return 2 }
      case 0xE0: if isContinuation(1, 0xA0), isContinuation(2) { return 3 }
      case 0xED: if isContinuation(1, 0x80, 0x9F), isContinuation(2) { return 3 }
      case 0xE1...0xEF: if isContinuation(1), isContinuation(2) { return 3 }
      case 0xF0: if isContinuation(1, 0x90), isContinuation(2), isContinuation(3) { return 4 }
      case 0xF4: if isContinuation(1, 0x80, 0x8F), isContinuation(2), isContinuation(3) { return 4 }
      case 0xF1...0xF3: if isContinuation(1), isContinuation(2), isContinuation(3) { return 4 }
      default: break
      }
      throw failure("not UTF-8 at \(what) byte \(at)")
    }

    /// Repeated keys are refused after escapes are decoded. Small objects are compared in pairs; large ones sort hashes
    /// and compare bytes only when two hashes agree, so that no choice of keys makes this quadratic.
    func refuseRepeatedKeys(_ source: Source, _ object: Int) throws(Failure) {
      var keys: [Int] = []
      keys.reserveCapacity(Int(nodes[object].length))
      var at = object + 1
      for _ in 0..<nodes[object].length {
        keys.append(at)
        at = Int(nodes[at + 1].next)
      }
      if keys.count <= 8 {
        for second in keys.indices.dropFirst() {
          for first in 0..<second where compare(source, keys[first], keys[second]) == 0 {
            throw repeated(source, keys[second], in: object)
          }
        }
        return
      }
      var hashes = keys.map { hash(source, $0) }
      hashes.sort()
      guard zip(hashes, hashes.dropFirst()).contains(where: { $0 == $1 }) else { return }
      keys.sort { compare(source, $0, $1) < 0 }
      for (first, second) in zip(keys, keys.dropFirst()) where compare(source, first, second) == 0 {
        throw repeated(source, max(first, second), in: object)
      }
    }

    func repeated(_ source: Source, _ key: Int, in object: Int) -> Failure {
      failure(
        "duplicate \(object == 0 ? topKey : "key") \(withKey(source, key) { Failure.quoted($0) })",
        at: Int(nodes[key].position))
    }

    func withKey<R>(_ source: Source, _ key: Int, _ body: (Source) -> R) -> R {
      let range = Int(nodes[key].start)..<(Int(nodes[key].start) + Int(nodes[key].length))
      return nodes[key].isUnescaped
        ? unescaped.withUnsafeBufferPointer { body(Source(rebasing: $0[range])) }
        : body(Source(rebasing: source[range]))
    }

    func compare(_ source: Source, _ a: Int, _ b: Int) -> Int {
      withKey(source, a) { first in
        withKey(source, b) { second in
          for (x, y) in zip(first, second) where x != y { return x < y ? -1 : 1 }
          return first.count - second.count
        }
      }
    }

    func hash(_ source: Source, _ key: Int) -> UInt64 {
      withKey(source, key) { XXH64.hash(UnsafeRawBufferPointer($0)) }
    }

    static func shown(_ byte: UInt8) -> String {
      byte > 0x20 && byte < 0x7F ? Failure.quoted([byte]) : "byte " + hex(byte)
    }

    static func hex(_ byte: UInt8) -> String { (byte < 16 ? "0" : "") + String(byte, radix: 16) }
  }
}
