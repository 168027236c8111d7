import Bytes
import LLVConv

let manualCommand = Command(
  name: "man",
  abstract: "Prints a manual page, of the program or of a command.",
  positionals: ["[COMMAND]"],
  options: [
    .init("--format", "roff|markdown", "as man reads it (default), or as the pages in Docs/reference/commands"),
    .init("-o", "DIR", "write all pages into a new folder: llvconv.1, llvconv-import.1 and so on"),
    Command.dryRun,
  ],
  discussion: """
    The pages say what --help says: both are made of the program's one table of commands.
    """,
  examples: ["llvconv man verify | man -l -", "llvconv man -o man1"]
) { (arguments) throws(Failure) in
  let isMarkdown = try arguments.choice("--format", ["roff", "markdown"]) == "markdown"
  if let path = arguments["-o"] {
    guard arguments.positionals.isEmpty else { throw Failure(.usage, "-o writes the pages of all commands") }
    let folder = try OutputDirectory(path)
    for page in Manual.pages(isMarkdown: isMarkdown) { try folder.write(page.file, Array(page.text.utf8)) }
    try folder.commit()
    return 0
  }
  let command = try arguments.positionals.first.map { (name) throws(Failure) in try Program.command(name) }
  Output.write(Array(Manual.page(command, isMarkdown: isMarkdown).utf8), to: 1)
  return 0
}

/// The manual in either format.
private enum Manual {
  static func page(_ command: Command?, isMarkdown: Bool) -> String {
    guard let command else { return isMarkdown ? ReferencePage.index : ManualPage.program }
    return isMarkdown ? ReferencePage.page(command) : ManualPage.page(command)
  }

  static func pages(isMarkdown: Bool) -> [(file: String, text: String)] {
    let first = (isMarkdown ? "README.md" : "llvconv.1", page(nil, isMarkdown: isMarkdown))
    return [first]
      + Program.commands.map { command in
        let file = isMarkdown ? "\(command.name).md" : "llvconv-\(command.name).1"
        return (file, page(command, isMarkdown: isMarkdown))
      }
  }
}
