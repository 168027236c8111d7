import Bytes
import LLVConv

let completionsCommand = Command(
  name: "completions",
  abstract: "Prints a script that completes commands, options and values in a shell.",
  positionals: ["bash|zsh|fish"],
  options: [],
  discussion: """
    Packages install these scripts. To install one by hand:

      bash   llvconv completions bash > DIR/llvconv,
             where DIR is ~/.local/share/bash-completion/completions
      zsh    llvconv completions zsh > DIR/_llvconv, where DIR is in $fpath
      fish   llvconv completions fish > ~/.config/fish/completions/llvconv.fish
    """,
  examples: ["source <(llvconv completions bash)"]
) { (arguments) throws(Failure) in
  let name = arguments.positionals[0]
  guard let shell = CompletionScripts.shells.first(where: { $0.name == name }) else {
    let names = CompletionScripts.shells.map(\.name).joined(separator: ", ")
    throw Failure(.usage, "there are completions for \(names); found \(Failure.quoted(name))")
  }
  Output.print(shell.script())
  return 0
}
