extension Command.Option {
  /// What a shell can offer for the value; told from what the help calls it, so that nothing is said twice.
  enum Value: Equatable {
    /// A switch takes none.
    case none
    /// One of some words, and nothing that a shell knows where there are others: `N|channel`.
    case words([String])
    case file, folder, other

    init(_ label: String) {
      let parts = label.split(separator: "|").map { $0.prefix { $0 != "[" } }
      let words = parts.filter { $0.wholeMatch(of: #/[a-z0-9][a-z0-9.:,-]*/#) != nil }.map(String.init)
      if !words.isEmpty {
        self = .words(words)
      } else if ["DIR", "FOLDER"].contains(label) {
        self = .folder
      } else if ["FILE", "FILES", "PATH", "SOURCE", "A", "B", "MODEL", "REF", "CANDIDATE"].contains(label)
        || label.contains(#/[A-Z]\.[a-z]/#)
      {
        self = .file
      } else {
        self = .other
      }
    }
  }

  var kind: Value { value.map(Value.init) ?? .none }

  /// The help's first clause, for a shell's list.
  var brief: String {
    let end = help.firstRange(of: #/; | \(|: /#)?.lowerBound ?? help.endIndex
    return String(help[..<end])
  }
}

extension Command {
  /// What the positional arguments can be, as a shell offers it.
  var positionalKind: Option.Value {
    guard let first = positionals.first else { return .none }
    let label = first.trimmed(of: "[].")
    return label == "COMMAND" ? .words(Program.commands.map(\.name)) : Option.Value(label)
  }

  /// All that may be given, what every command takes included.
  var allOptions: [Option] { options + [Command.quiet, Command.helpSwitch] }
}

extension String {
  /// Without these characters at both ends.
  func trimmed(of characters: String) -> String {
    var text = self[...]
    while let first = text.first, characters.contains(first) { text.removeFirst() }
    while let last = text.last, characters.contains(last) { text.removeLast() }
    return String(text)
  }
}
