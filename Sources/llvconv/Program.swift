import Bytes
import Glibc
import LLVConv

/// The program: finds the command, runs it, turns a failure into a line and an exit code.
enum Program {
  static let version = Release.version
  static let commands = [
    importCommand, pairsCommand, measureCommand, planCommand, quantizeCommand, tuneCommand, exportCommand,
    verifyCommand, compareCommand, anchorsCommand, adaptCommand, evalCommand, embedCommand, inspectCommand, diffCommand,
    hashCommand, benchCommand, devicesCommand, completionsCommand, manualCommand,
  ]

  static let abstract = "converts and quantizes embedding models, and checks that retrieval survives"

  static let discussion = """
    llvconv turns checkpoints of embedding models into containers (.llv), makes their weights 8 or 4 bits, and compares
    the result with the original: vectors, rankings, and an index that was built before. It exports what it made for
    other programs.
    """

  static let examples = [
    "llvconv import all-MiniLM-L6-v2/ -o minilm.llv", "llvconv quantize minilm.llv --bits 4 -o minilm-4bit.llv",
    "llvconv verify minilm-4bit.llv --reference minilm.llv --data pairs.jsonl",
  ]

  /// All codes; `Failure.Kind` has those from 64 on.
  static let exitCodes: [(code: String, meaning: String)] = [
    ("0", "done; of verify, compare and adapt: every check passed"),
    (
      "1",
      "the answer is no: a check of verify, compare, adapt or devices failed, diff found a difference, plan found "
        + "no plan, eval met an encoder that says nearly the same of everything, tune made nothing better"
    ),
    ("2", "the data cannot decide (verify, compare, adapt)"), ("64", "the command line is wrong"),
    ("65", "a file is malformed"), ("66", "a file is missing"), ("69", "something is not supported"),
    ("70", "a mistake in llvconv; please report it"),
    ("73", "an output cannot be created, or exists and --force was not given"),
    ("74", "reading or writing failed"), ("75", "over a limit of memory, size or count"),
    ("128 + n", "ended by signal n (INT, TERM, HUP), after removing what was half written"),
  ]

  static func run(_ arguments: [String]) -> Int32 {
    do throws(Failure) {
      return try Terminal.listener.hearing { () throws(Failure) in try code(arguments) }
    } catch {
      Terminal.listener.finished()
      for line in error.description.split(separator: "\n") { Terminal.listener.warning("llvconv: \(line)") }
      if error.kind == .internal {
        Terminal.listener.warning("llvconv: this is a mistake in llvconv; please report it")
      }
      return error.exitCode
    }
  }

  /// What a command line comes to.
  private static func code(_ arguments: [String]) throws(Failure) -> Int32 {
    guard let first = arguments.first, !["--help", "-h", "help"].contains(first) else {
      guard arguments.count > 1, arguments[0] == "help" else {
        Output.print(help)
        return arguments.isEmpty ? 64 : 0
      }
      Output.print(try command(arguments[1]).help)
      return 0
    }
    if ["--version", "-v", "version"].contains(first) {
      Output.print("llvconv \(version)")
      return 0
    }
    if first == "--limits" {
      for limit in Limits.table { Output.print("\(limit.name): \(limit.value) \(limit.unit)") }
      return 0
    }
    let command = try command(first)
    let rest = Array(arguments.dropFirst())
    if rest.contains("--help") || rest.contains("-h") {
      Output.print(command.help)
      return 0
    }
    return try run(command, try Arguments(rest, for: command))
  }

  private static func run(_ command: Command, _ arguments: Arguments) throws(Failure) -> Int32 {
    guard arguments.has(Command.dryRun.name) else { return try command.run(arguments) }
    let isJSON = arguments.has(Command.json.name)
    return try DryRun.run { path, bytes in
      let line = "would write \(path): \(Output.size(bytes))"
      if isJSON { Output.note(line) } else { Output.print(line) }
    } _: { () throws(Failure) in
      try command.run(arguments)
    }
  }

  static func command(_ name: String) throws(Failure) -> Command {
    if let command = commands.first(where: { $0.name == name }) { return command }
    let advice =
      Suggestion.nearest(name, among: commands.map(\.name)).map { "did you mean \($0)?" } ?? "see llvconv --help"
    throw Failure(.usage, "unknown command \(Failure.quoted(name)); \(advice)")
  }

  private static var help: String {
    let width = commands.map(\.name.count).max() ?? 0
    let indent = String(repeating: " ", count: width + 4)
    let lines = commands.map {
      "  \($0.name.padded(width))  \($0.abstract.wrapped(Command.columns, indent: indent).dropFirst(indent.count))"
    }
    let codes = exitCodes.map { code, meaning in
      "  \(code.padded(7))  "
        + meaning.wrapped(Command.columns, indent: String(repeating: " ", count: 11)).dropFirst(11)
    }
    let more = """
      llvconv help COMMAND says more. Also: --version, --limits (what a file may ask for). With --quiet, any command
      prints results and errors alone.
      """
    return """
      \("llvconv \(version): \(abstract).".wrapped(Command.columns))

      USAGE: llvconv COMMAND ...

      \(lines.joined(separator: "\n"))

      \(more.reflowed(Command.columns))

      A first run:
      \(examples.map { "  " + $0 }.joined(separator: "\n"))

      Exit codes:
      \(codes.joined(separator: "\n"))
      """
  }
}

extension String {
  func padded(_ width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
