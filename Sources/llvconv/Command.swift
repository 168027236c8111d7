import Bytes
import LLVConv

/// A command: what it is called, what it takes, and what it does.
///
/// `Program.commands` is the table of them all. Parsing, `--help`, manual pages, completions and the pages in
/// Docs/reference/commands are made of it, and of nothing else.
struct Command: Sendable {
  let name: String
  let abstract: String
  /// Names of the positional arguments, all of them needed; the last one may be given several times where it ends in
  /// `...`.
  let positionals: [String]
  let options: [Option]
  let discussion: String
  /// Command lines that people start from.
  var examples: [String] = []
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
  static let dryRun = Option(
    "--dry-run", nil, "check everything, say what would be written and its size, write nothing")

  /// Columns of a terminal that texts are laid out for.
  static let columns = 80
  static let quiet = Option("--quiet", nil, "no notes, no progress, no next step: only results and errors")
  static let helpSwitch = Option("--help", nil, "say how the command is called, and end")

  /// The words after the command's name, as they are given.
  var synopsis: [String] { positionals + options.filter(\.isRequired).map(\.label) + ["[options]"] }

  /// How it is called, further lines under the first one's arguments.
  private var usage: String {
    let start = "USAGE: llvconv \(name) "
    let words = synopsis.map { $0.replacing(" ", with: "\u{A0}") }
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
      \(lines.joined(separator: "\n"))\(examplesHelp)
      """
  }

  private var examplesHelp: String {
    guard !examples.isEmpty else { return "" }
    return "\n\nEXAMPLES\n" + examples.map { "  " + $0.continued(Command.columns - 2) }.joined(separator: "\n")
  }
}
