import Bytes

/// A command line, held to what its command takes.
struct Arguments: Sendable {
  let positionals: [String]
  private var values: [String: [String]] = [:]

  /// - Throws: `usage` naming what is unknown, missing or surplus, with the nearest known option.
  init(_ words: [String], for command: Command) throws(Failure) {
    var positionals: [String] = []
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
    self.positionals = positionals
    Output.isQuiet.store(has(Command.quiet.name), ordering: .relaxed)
  }

  func has(_ name: String) -> Bool { values[name] != nil }

  subscript(name: String) -> String? { values[name]?.first }

  func all(_ name: String) -> [String] { values[name] ?? [] }

  /// The value of an option that must be there.
  func required(_ name: String) throws(Failure) -> String {
    guard let value = self[name] else { throw Failure(.usage, "\(name) is needed") }
    return value
  }

  /// The file that an option says to write; nil where it does not. It must be none of those that the command reads:
  /// `--force` replaces an old output, never an input.
  func output(_ name: String) throws(Failure) -> OutputFile? {
    guard let path = self[name] else { return nil }
    try refuseInput(at: path, of: name)
    return try OutputFile(path, isReplacing: has("--force"))
  }

  /// - Parameter name: the option that says to write there.
  func refuseInput(at path: String, of name: String) throws(Failure) {
    for (option, paths) in values.merging(["": positionals], uniquingKeysWith: { $1 }) where option != name {
      for input in paths where InputFile.isSame(input, path) {
        throw Failure(.usage, "is read by this command, and would be lost: write to another file", file: path)
      }
    }
  }

  /// The same, of an option that must be there.
  func requiredOutput(_ name: String) throws(Failure) -> OutputFile {
    guard let file = try output(name) else { throw Failure(.usage, "\(name) is needed") }
    return file
  }

  func integer(_ name: String, in range: ClosedRange<Int>) throws(Failure) -> Int? {
    guard let text = self[name] else { return nil }
    guard let value = Int(text), range.contains(value) else {
      throw Failure(
        .usage,
        "\(name) must be a whole number from \(range.lowerBound) to \(range.upperBound); found \(Failure.quoted(text))")
    }
    return value
  }

  /// Whole numbers with commas between them.
  func integers(_ name: String, in range: ClosedRange<Int>) throws(Failure) -> [Int]? {
    guard let text = self[name] else { return nil }
    let values = text.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) }
    let good = values.compactMap { $0 }.filter(range.contains)
    guard good.count == values.count else {
      throw Failure(
        .usage,
        "\(name) must be whole numbers from \(range.lowerBound) to \(range.upperBound) with commas between them; "
          + "found \(Failure.quoted(text))")
    }
    return good
  }

  func number(_ name: String, in range: ClosedRange<Double>) throws(Failure) -> Double? {
    guard let text = self[name] else { return nil }
    guard let value = Double(text), range.contains(value) else {
      throw Failure(
        .usage,
        "\(name) must be a number from \(range.lowerBound) to \(range.upperBound); found \(Failure.quoted(text))")
    }
    return value
  }

  /// One of a few words.
  func choice(_ name: String, _ choices: [String]) throws(Failure) -> String? {
    guard let text = self[name] else { return nil }
    guard choices.contains(text) else {
      throw Failure(.usage, "\(name) must be one of \(choices.joined(separator: ", ")); found \(Failure.quoted(text))")
    }
    return text
  }

  func threads() throws(Failure) -> Int { try integer("--threads", in: 1...1024) ?? availableThreads }
}
