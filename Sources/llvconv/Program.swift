import Bytes
import Glibc
import LLVConv

/// The program: finds the command, runs it, turns a failure into a line and an exit code.
enum Program {
  static let version = Release.version
  static let commands = [
    importCommand, pairsCommand, measureCommand, planCommand, quantizeCommand, tuneCommand, exportCommand,
    verifyCommand,
    compareCommand, anchorsCommand, adaptCommand, evalCommand,
    embedCommand,
    inspectCommand,
    diffCommand, hashCommand, benchCommand, devicesCommand,
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
    return try command.run(try Arguments(rest, for: command))
  }

  private static func command(_ name: String) throws(Failure) -> Command {
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
    return """
      llvconv \(version): converts and quantizes embedding models, and proves that
      retrieval survives.

      USAGE: llvconv COMMAND ...

      \(lines.joined(separator: "\n"))

      llvconv help COMMAND says more. Also: --version, --limits (what a file may ask
      for). With --quiet, any command prints results and errors alone.

      A first run:
        llvconv import all-MiniLM-L6-v2/ -o minilm.llv
        llvconv quantize minilm.llv --bits 4 -o minilm-4bit.llv
        llvconv verify minilm-4bit.llv --reference minilm.llv --data pairs.jsonl

      Exit codes: 0 done, 1 verify says no, 2 verify cannot tell, 64 usage,
      65 malformed, 66 missing, 69 unsupported, 70 internal, 73 cannot create,
      74 input or output failed, 75 over a limit.
      """
  }
}

extension String {
  func padded(_ width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
