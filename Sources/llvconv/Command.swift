import Bytes
import LLVConv

/// A command: what it is called, what it takes, and what it does.
struct Command: Sendable {
  let name: String
  let abstract: String
  /// Names of the positional arguments, all of them needed; the last one may be given several times where it ends in
  /// `...`.
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

  /// Columns of a terminal that texts are laid out for.
  static let columns = 80
  static let quiet = Option("--quiet", nil, "no notes, no progress, no next step: only results and errors")

  /// How it is called, further lines under the first one's arguments.
  private var usage: String {
    let start = "USAGE: llvconv \(name) "
    let words =
      positionals + options.filter(\.isRequired).map { $0.label.replacing(" ", with: "\u{A0}") } + ["[options]"]
    let indent = String(repeating: " ", count: start.count)
    return start
      + words.joined(separator: " ").wrapped(Command.columns, indent: indent).dropFirst(indent.count)
      .replacing("\u{A0}", with: " ")
  }

  var help: String {
    let lines = (options + [Command.quiet]).map { option in
      "  \(option.label)\n" + option.help.wrapped(Command.columns, indent: "      ")
    }
    return """
      \(abstract.wrapped(Command.columns))

      \(usage)

      \(discussion.reflowed(Command.columns))

      OPTIONS
      \(lines.joined(separator: "\n"))
      """
  }
}
