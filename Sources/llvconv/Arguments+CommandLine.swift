import Bytes
import LLVConv
import Synchronization

extension Arguments {
  /// A command line, held to what its command takes.
  ///
  /// - Throws: `usage` naming what is unknown, missing or surplus, with the nearest known option.
  init(_ words: [String], for command: Command) throws(Failure) {
    var positionals: [String] = []
    var values: [String: [String]] = [:]
    var rest = words[...]
    while let word = rest.popFirst() {
      guard word.hasPrefix("-"), word != "-" else {
        positionals.append(word)
        continue
      }
      let parts =
        word.hasPrefix("--") ? word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false) : [word[...]]
      let name = String(parts[0])
      guard let option = (command.options + [Command.quiet]).first(where: { $0.name == name }) else {
        let names = command.options.map(\.name)
        let advice =
          Suggestion.nearest(name, among: names).map { "did you mean \($0)?" }
          ?? "it has \(names.joined(separator: ", "))"
        throw Failure(.usage, "\(command.name) has no option \(Failure.quoted(name)); \(advice)")
      }
      if option.value == nil {
        guard parts.count == 1 else { throw Failure(.usage, "\(name) takes no value") }
        values[name] = [""]
      } else {
        guard let value = parts.count == 2 ? String(parts[1]) : rest.popFirst() else {
          throw Failure(.usage, "\(name) needs a value: \(option.label)")
        }
        guard option.isRepeated || values[name] == nil else { throw Failure(.usage, "\(name) given twice") }
        values[name, default: []].append(value)
      }
    }
    let isRepeated = command.positionals.last?.hasSuffix("...") ?? false
    let least = command.positionals.count { !$0.hasPrefix("[") }
    guard positionals.count >= least, isRepeated || positionals.count <= command.positionals.count else {
      let wanted = command.positionals.isEmpty ? "no arguments" : command.positionals.joined(separator: " ")
      throw Failure(
        .usage, "\(command.name) takes \(wanted); found \(positionals.count); see llvconv \(command.name) --help")
    }
    for option in command.options where option.isRequired && values[option.name] == nil {
      throw Failure(.usage, "\(command.name) needs \(option.label)")
    }
    self.init(positionals, values: values)
    Output.isQuiet.store(has(Command.quiet.name), ordering: .relaxed)
  }
}
