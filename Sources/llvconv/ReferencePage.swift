/// Pages of Docs/reference/commands, made of the command table by Tools/make-reference.
enum ReferencePage {
  private static let mark = "<!-- Made of the command table by Tools/make-reference: change the texts there. -->"
  private static let columns = 120

  /// The list of all commands: README.md.
  static var index: String {
    let commands = Program.commands.map { command in
      item("[`\(command.name)`](\(command.name).md)", command.abstract)
    }
    let codes = Program.exitCodes.map { item("`\($0.code)`", $0.meaning) }
    return """
      \(mark)

      # Commands

      \(paragraphs(Program.discussion))

      \(commands.joined(separator: "\n"))

      Also `llvconv help COMMAND`, `llvconv --version`, and `llvconv --limits`, which prints what a file may ask for.

      ## Exit codes

      \(codes.joined(separator: "\n"))

      """
  }

  static func page(_ command: Command) -> String {
    let usage = (["llvconv " + command.name] + command.synopsis).joined(separator: " ")
    let options = command.allOptions.map { item("`\($0.label)`", $0.help + ($0.isRequired ? " (required)" : "")) }
    let examples =
      command.examples.isEmpty
      ? ""
      : "\n\n## Examples\n\n```sh\n" + command.examples.map { $0.continued(columns) }.joined(separator: "\n") + "\n```"
    return """
      \(mark)

      # llvconv \(command.name)

      \(markdown(command.abstract).wrapped(columns))

      ```
      \(usage.wrapped(columns))
      ```

      \(paragraphs(command.discussion))

      ## Options

      \(options.joined(separator: "\n"))\(examples)

      """
  }

  private static func item(_ name: String, _ text: String) -> String {
    "* " + "\(name): \(markdown(text))".wrapped(columns, indent: "  ").dropFirst(2)
  }

  private static func paragraphs(_ text: String) -> String {
    Paragraph.all(of: text).map { paragraph in
      switch paragraph {
      case .text(let text): markdown(text).wrapped(columns)
      case .lines(let lines): "```\n" + lines.map { String($0.dropFirst(2)) }.joined(separator: "\n") + "\n```"
      }
    }.joined(separator: "\n\n")
  }

  /// A text for people as Markdown: what would be taken for markup is marked, but for code between backquotes.
  private static func markdown(_ text: String) -> String {
    var result = ""
    var isCode = false
    for character in text {
      if character == "`" { isCode.toggle() }
      if !isCode, "*_<>[]|".contains(character) { result += "\\" }
      result.append(character)
    }
    return result
  }
}
