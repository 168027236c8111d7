import Foundation
import TestSupport
import Testing

/// The command table's other faces: pages, manual pages, completions.
struct ReferenceTests {
  static let folder = Repository.root + "/Docs/reference/commands"

  /// All commands, as the help lists them.
  static func commands() throws -> [String] {
    let help = try ProgramRun(["help"]).output
    return help.split(separator: "\n").compactMap { $0.firstMatch(of: #/^  ([a-z]+)  [ ]*[A-Z]/#)?.output.1 }.map(
      String.init)
  }

  /// What a shell prints for a script; nil where there is no such shell.
  static func shell(_ words: [String], _ input: String) throws -> String? {
    guard FileManager.default.isExecutableFile(atPath: words[0]) else { return nil }
    let process = Process()
    (process.executableURL, process.arguments) = (URL(fileURLWithPath: words[0]), Array(words.dropFirst()))
    let (stdin, stdout) = (Pipe(), Pipe())
    (process.standardInput, process.standardOutput, process.standardError) = (stdin, stdout, stdout)
    try process.run()
    stdin.fileHandleForWriting.write(Data(input.utf8))
    try stdin.fileHandleForWriting.close()
    let text = String(decoding: stdout.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return text
  }

  @Test("the pages of commands are what the program says of itself; Tools/make-reference makes them again")
  func pagesAreWhatTheProgramSays() throws {
    let commands = try ReferenceTests.commands()
    #expect(commands.count > 15)
    let files = try FileManager.default.contentsOfDirectory(atPath: ReferenceTests.folder)
    #expect(Set(files) == Set(commands.map { $0 + ".md" } + ["README.md"]))
    for name in commands + [""] {
      let page = try ProgramRun(["man", "--format", "markdown"] + (name.isEmpty ? [] : [name])).output
      let file = "Docs/reference/commands/\(name.isEmpty ? "README" : name).md"
      #expect(try page == String(decoding: Repository.read(file), as: UTF8.self), "\(file): run Tools/make-reference")
    }
  }

  @Test("help, manual page and reference page have the same options")
  func helpManualAndPageHaveTheSameOptions() throws {
    for command in try ReferenceTests.commands() {
      let help = try ProgramRun(["help", command]).output
      let manual = try ProgramRun(["man", command]).output
      let page = try ProgramRun(["man", "--format", "markdown", command]).output
      let options = help.split(separator: "\n").compactMap { $0.firstMatch(of: #/^  (--?[a-z][a-z0-9-]*)/#)?.output.1 }
      #expect(!options.isEmpty)
      for option in options {
        #expect(manual.contains(".B " + option.replacing("-", with: "\\-")), "\(command) \(option)")
        #expect(page.contains("* `" + option), "\(command) \(option)")
      }
    }
  }

  @Test("manual pages are without fault for mandoc and groff, where these are installed")
  func manualPagesAreWithoutFault() throws {
    for command in try ReferenceTests.commands() + [""] {
      let page = try ProgramRun(["man"] + (command.isEmpty ? [] : [command])).output
      #expect(page.hasPrefix(".TH LLVCONV"))
      if let found = try ReferenceTests.shell(["/usr/bin/mandoc", "-T", "lint", "-W", "warning"], page) {
        #expect(found.isEmpty, "\(command): \(found)")
      }
      if let found = try ReferenceTests.shell(["/usr/bin/groff", "-man", "-Tutf8", "-ww", "-z"], page) {
        #expect(found.isEmpty, "\(command): \(found)")
      }
    }
  }

  @Test("man -o writes all pages, once, and a dry run none")
  func manWritesAllPages() throws {
    let directory = try TemporaryDirectory()
    let folder = directory.path + "/man1"
    let dry = try ProgramRun(["man", "-o", folder, "--dry-run"])
    #expect(
      dry.status == 0 && dry.output.contains("would write \(folder)/llvconv-verify.1: "), "\(dry.output)\(dry.errors)")
    #expect(directory.names.isEmpty)
    #expect(try ProgramRun(["man", "-o", folder]).status == 0)
    #expect(try ProgramRun(["man", "-o", folder]).status == 73)
    #expect(try ProgramRun(["man", "-o", folder, "--dry-run"]).status == 73)
    let names = try FileManager.default.contentsOfDirectory(atPath: folder)
    #expect(try Set(names) == Set(ReferenceTests.commands().map { "llvconv-\($0).1" } + ["llvconv.1"]))
  }

  /// What bash offers for the last word of a command line.
  static func bashOffers(_ line: String) throws -> Set<String> {
    let script = try ProgramRun(["completions", "bash"]).output
    let words = line.split(separator: " ", omittingEmptySubsequences: false)
    let ask = """
      compopt() { :; }
      COMP_WORDS=(\(words.map { "'\($0)'" }.joined(separator: " ")))
      COMP_CWORD=\(words.count - 1)
      _llvconv
      printf '%s\\n' "${COMPREPLY[@]}"
      """
    let text = try #require(try ReferenceTests.shell(["/bin/bash", "--norc"], script + ask))
    return Set(text.split(separator: "\n").map(String.init))
  }

  @Test("bash completes commands, options, values and names of commands")
  func bashCompletes() throws {
    #expect(try ReferenceTests.bashOffers("llvconv ver") == ["verify"])
    #expect(try ReferenceTests.bashOffers("llvconv help comp") == ["compare", "completions"])
    #expect(try ReferenceTests.bashOffers("llvconv quantize m.llv --dry") == ["--dry-run"])
    #expect(try ReferenceTests.bashOffers("llvconv quantize m.llv --bits ") == ["16", "8", "4", "3", "2"])
    #expect(try ReferenceTests.bashOffers("llvconv export m.llv --to = m") == ["mlx"])
    #expect(try ReferenceTests.bashOffers("llvconv completions ") == ["bash", "zsh", "fish"])
    #expect(try ReferenceTests.bashOffers("llvconv import --tokenizer ").isEmpty, "file names are bash's own")
  }

  @Test("zsh takes its completions, and fish offers values, where these shells are installed")
  func otherShellsTakeTheirs() throws {
    let zsh = try ProgramRun(["completions", "zsh"]).output
    #expect(zsh.hasPrefix("#compdef llvconv\n"))
    let load = "autoload -Uz compinit; compinit -D -u\n" + zsh + "\nprint -- $_comps[llvconv]\n"
    if let found = try ReferenceTests.shell(["/usr/bin/zsh", "-f"], load) { #expect(found == "_llvconv\n") }
    let fish = try ProgramRun(["completions", "fish"]).output
    for (line, wanted) in [
      ("llvconv ver", "verify"), ("llvconv export m.llv --to ml", "mlx"), ("llvconv embed --keep", "--keep-going"),
    ] {
      let ask = fish + "\ncomplete -C '\(line)'\n"
      guard let found = try ReferenceTests.shell(["/usr/bin/fish", "--no-config"], ask) else { break }
      #expect(
        found.split(separator: "\n").contains { $0.split(separator: "\t").first.map(String.init) == wanted },
        "\(line): \(found)")
    }
    let unknown = try ProgramRun(["completions", "tcsh"])
    #expect(unknown.status == 64 && unknown.errors.contains("bash, zsh, fish"))
  }
}
