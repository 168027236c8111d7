/// A JSON value to be written. Members keep their order, so that equal values give equal bytes.
public enum JSONText: Sendable, Equatable {
  case null
  case bool(Bool)
  case int(Int)
  case number(Double)
  case string(String)
  case array([JSONText])
  case object([(String, JSONText)])

  /// The value as it was read: whole numbers that fit become `int`, other numbers the nearest `Double`.
  public init(_ json: JSON) throws(Failure) {
    switch json.kind {
    case .null: self = .null
    case .true, .false: self = .bool(json.kind == .true)
    case .number:
      if let value = try? json.integer(in: .min ... .max) {
        self = .int(value)
      } else {
        self = .number(try json.double())
      }
    case .string: self = .string(try json.string())
    case .array:
      var values: [JSONText] = []
      for element in try json.elements() { values.append(try JSONText(element)) }
      self = .array(values)
    case .object:
      var members: [(String, JSONText)] = []
      for (key, value) in try json.members() {
        members.append((String(decoding: key, as: UTF8.self), try JSONText(value)))
      }
      self = .object(members)
    }
  }

  /// A member of an object; nil for other values, and where it is not there.
  public subscript(_ key: String) -> JSONText? {
    guard case .object(let members) = self else { return nil }
    return members.first { $0.0 == key }?.1
  }

  /// Equality by the bytes written.
  public static func == (a: JSONText, b: JSONText) -> Bool { a.bytes() == b.bytes() }

  /// The value as UTF-8, without white space, or indented by two spaces a level when `pretty`.
  ///
  /// A number that is not finite becomes `null`: JSON has no other way to say it.
  public func bytes(pretty: Bool = false) -> [UInt8] {
    var result: [UInt8] = []
    write(to: &result, pretty: pretty, level: 0)
    return result
  }

  public func text(pretty: Bool = false) -> String { String(decoding: bytes(pretty: pretty), as: UTF8.self) }

  private func write(to out: inout [UInt8], pretty: Bool, level: Int) {
    switch self {
    case .null: out += "null".utf8
    case .bool(let value): out += (value ? "true" : "false").utf8
    case .int(let value): out += String(value).utf8
    case .number(let value): out += (value.isFinite ? JSONText.shortest(value) : "null").utf8
    case .string(let value): JSONText.quote(value, &out)
    case .array(let values):
      JSONText.list(values, "[", "]", &out, pretty && !values.allSatisfy(\.isScalar), level) { value, out in
        value.write(to: &out, pretty: pretty, level: level + 1)
      }
    case .object(let members):
      JSONText.list(members, "{", "}", &out, pretty, level) { member, out in
        JSONText.quote(member.0, &out)
        out += (pretty ? ": " : ":").utf8
        member.1.write(to: &out, pretty: pretty, level: level + 1)
      }
    }
  }

  private var isScalar: Bool {
    switch self {
    case .array, .object: false
    default: true
    }
  }

  /// Swift prints `1.0` and `1e-05`; both are JSON, and the shortest text that reads back as the same number.
  private static func shortest(_ value: Double) -> String { value.description }

  private static func list<T>(
    _ items: [T], _ open: String, _ close: String, _ out: inout [UInt8], _ pretty: Bool, _ level: Int,
    _ write: (T, inout [UInt8]) -> Void
  ) {
    out += open.utf8
    for (index, item) in items.enumerated() {
      if index > 0 { out.append(UInt8(ascii: ",")) }
      if pretty { out += ("\n" + String(repeating: "  ", count: level + 1)).utf8 }
      write(item, &out)
    }
    if pretty, !items.isEmpty { out += ("\n" + String(repeating: "  ", count: level)).utf8 }
    out += close.utf8
  }

  private static func quote(_ text: String, _ out: inout [UInt8]) {
    out.append(UInt8(ascii: "\""))
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\""): out += "\\\"".utf8
      case UInt8(ascii: "\\"): out += "\\\\".utf8
      case 0x0A: out += "\\n".utf8
      case 0..<0x20:
        out += "\\u00".utf8
        out += (byte < 16 ? "0" : "").utf8
        out += String(byte, radix: 16).utf8
      default: out.append(byte)
      }
    }
    out.append(UInt8(ascii: "\""))
  }
}

extension JSONText: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
  ExpressibleByFloatLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  public init(stringLiteral value: String) { self = .string(value) }
  public init(integerLiteral value: Int) { self = .int(value) }
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  public init(floatLiteral value: Double) { self = .number(value) }
  public init(arrayLiteral elements: JSONText...) { self = .array(elements) }
  public init(dictionaryLiteral elements: (String, JSONText)...) { self = .object(elements) }
}
