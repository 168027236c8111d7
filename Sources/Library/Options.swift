import Bytes

/// Options by the names that the program gives them, without the dashes before them: `["bits": 4, "threads": 2]`.
///
/// `llvconv COMMAND --help` explains each. A switch is `true`; what may be given several times is an array. In the
/// place of a `-` inside a name there may be a `_`.
public struct Options: Sendable, ExpressibleByDictionaryLiteral {
  public var values: [String: Value]

  public enum Value: Sendable, Equatable {
    case text(String)
    case number(Double)
    case flag(Bool)
    case list([String])
  }

  public init(_ values: [String: Value] = [:]) { self.values = values }

  public init(dictionaryLiteral elements: (String, Value)...) {
    values = Dictionary(elements) { $1 }
  }

  /// The members of a JSON object; null for what is not given.
  package init(_ json: JSON) throws(Failure) {
    values = [:]
    for (key, value) in try json.members() {
      let name = String(decoding: key, as: UTF8.self)
      switch value.kind {
      case .null: break
      case .true, .false: values[name] = .flag(try value.bool())
      case .number: values[name] = .number(try value.double())
      case .string: values[name] = .text(try value.string())
      case .array: values[name] = .list(try value.elements().map { (text) throws(Failure) in try text.string() })
      case .object: throw value.failure("option \(Failure.quoted(name)) must be a text, a number, a flag or a list")
      }
    }
  }

  /// What the program would be given.
  ///
  /// - Throws: `usage` for a name that is not among `known`.
  func arguments(_ positionals: [String], _ known: [String], output: String? = nil) throws(Failure) -> Arguments {
    var words: [String: [String]] = [:]
    if let output { words["-o"] = [output] }
    for (name, value) in values.sorted(by: { $0.key < $1.key }) {
      let name = name.replacing("_", with: "-")
      guard known.contains(name) else {
        let advice = Suggestion.nearest(name, among: known).map { "did you mean \($0)?" }
        throw Failure(
          .usage, "no option \(Failure.quoted(name)); \(advice ?? "there are \(known.joined(separator: ", "))")")
      }
      switch value {
      case .flag(false): break
      case .flag(true): words["--" + name] = [""]
      case .text(let text): words["--" + name] = [text]
      case .number(let number): words["--" + name] = [Int(exactly: number).map { String($0) } ?? String(number)]
      case .list(let texts): words["--" + name] = texts
      }
    }
    return Arguments(positionals, values: words)
  }
}

extension Options.Value: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
  ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral
{
  public init(stringLiteral value: String) { self = .text(value) }
  public init(integerLiteral value: Int) { self = .number(Double(value)) }
  public init(floatLiteral value: Double) { self = .number(value) }
  public init(booleanLiteral value: Bool) { self = .flag(value) }
  public init(arrayLiteral elements: String...) { self = .list(elements) }
}
