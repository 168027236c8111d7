import Bytes

/// A command: what it is called, what it takes, and what it does.
struct Command: Sendable {
  let name: String
  let abstract: String
  /// Names of the positional arguments, all of them needed; the last one may be given several times where it ends in `...`.
  let positionals: [String]
  let options: [Option]
  let discussion: String
  /// Returns the exit code.
  let run: @Sendable (Arguments) throws(Failure) -> Int32

  struct Option: Sendable {
    let name: String
    /// What the value is called in the help; nil for a switch.
    let value: String?
    let help: String
    let isRequired: Bool
    let isRepeated: Bool

    init(_ name: String, _ value: String? = nil, _ help: String, isRequired: Bool = false, isRepeated: Bool = false) {
      self.name = name
      self.value = value
      self.help = help
      self.isRequired = isRequired
      self.isRepeated = isRepeated
    }

    var label: String { name + (value.map { " " + $0 } ?? "") }
  }

  static let threads = Option("--threads", "N", "threads to use (default: all processors); no result depends on it")
  static let force = Option("--force", nil, "replace the output if it exists")
  static let output = Option("-o", "FILE", "where to write; appears whole or not at all", isRequired: true)
  static let json = Option("--json", nil, "print the result as JSON")

  var help: String {
    let required = options.filter(\.isRequired).map { " " + $0.label }.joined()
    let width = options.map(\.label.count).max() ?? 0
    let lines = options.map { "  \($0.label.padded(width))  \($0.help)" }
    return """
      \(abstract)

      USAGE: llvconv \(([name] + positionals).joined(separator: " "))\(required) [options]

      \(discussion)

      OPTIONS
      \(lines.joined(separator: "\n"))
      """
  }
}
