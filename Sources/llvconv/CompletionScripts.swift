/// Scripts that complete command lines in a shell, made of the command table.
enum CompletionScripts {
  static let shells: [(name: String, script: @Sendable () -> String)] = [
    ("bash", { CompletionScripts.bash }), ("zsh", { CompletionScripts.zsh }), ("fish", { CompletionScripts.fish }),
  ]

  private static let general = ["--help", "--version", "--limits", "help"]

  private static func head(_ shell: String) -> String {
    "# Completions of llvconv \(Program.version) for \(shell), made by: llvconv completions \(shell)"
  }

  // MARK: bash

  /// Where nothing is offered, bash completes file names; for numbers and the like that is switched off.
  private static var bash: String {
    let cases = Program.commands.map { command in
      """
        \(command.name))
          options="\(command.allOptions.map(\.name).joined(separator: " "))"
          words="\(command.positionalKind.words.joined(separator: " "))"
          case $previous in
      \(bashValues(command))
          esac
          ;;
      """
    }
    return """
      \(head("bash"))
      _llvconv() {
        local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} options="" words=""
        COMPREPLY=()
        if [ "$COMP_CWORD" -eq 1 ]; then
          compopt +o default
          COMPREPLY=($(compgen -W "\((Program.commands.map(\.name) + general).joined(separator: " "))" -- "$current"))
          return
        fi
        # Bash parts --name=value into three words.
        if [ "$current" = = ]; then current=""; fi
        if [ "$previous" = = ]; then previous=${COMP_WORDS[COMP_CWORD - 2]}; fi
        case ${COMP_WORDS[1]} in
        help) words="\(Program.commands.map(\.name).joined(separator: " "))" ;;
      \(cases.joined(separator: "\n"))
        esac
        case $current in
        -*) words=$options ;;
        esac
        if [ -n "$words" ]; then
          compopt +o default
          COMPREPLY=($(compgen -W "$words" -- "$current"))
        fi
      }
      complete -o default -F _llvconv llvconv
      """
  }

  /// What follows an option, options that take the same together.
  private static func bashValues(_ command: Command) -> String {
    var lines: [(does: String, names: [String])] = []
    for option in command.allOptions where option.kind != .none {
      let does =
        switch option.kind {
        case .none, .file: "return"
        case .folder: "compopt -o dirnames +o default; return"
        case .other: "compopt +o default; return"
        case .words(let words):
          "compopt +o default; COMPREPLY=($(compgen -W \"\(words.joined(separator: " "))\" -- \"$current\")); return"
        }
      if let place = lines.firstIndex(where: { $0.does == does }) {
        lines[place].names.append(option.name)
      } else {
        lines.append((does, [option.name]))
      }
    }
    return lines.map { "    \($0.names.joined(separator: " | "))) \($0.does) ;;" }.joined(separator: "\n")
  }

  // MARK: zsh

  private static var zsh: String {
    let commands = Program.commands.map { "    '\($0.name):\(zshText($0.abstract, besides: ":"))'" }
    let cases = Program.commands.map { command in
      let rest = zshText(command.positionals.first ?? "", besides: ":")
      let words = command.allOptions.map(zshOption) + ["'*:\(rest):\(zshValue(command.positionalKind))'"]
      return (["  \(command.name)) _arguments"] + words).joined(separator: " \\\n      ") + " ;;"
    }
    return """
      #compdef llvconv
      \(head("zsh"))
      _llvconv() {
        local -a commands
        commands=(
      \(commands.joined(separator: "\n"))
        )
        if (( CURRENT == 2 )); then
          _describe -t commands 'llvconv command' commands
          return
        fi
        local command=$words[2]
        shift words
        (( CURRENT-- ))
        case $command in
        help) _describe -t commands 'llvconv command' commands ;;
      \(cases.joined(separator: "\n"))
        esac
      }
      if [ "$funcstack[1]" = _llvconv ]; then _llvconv "$@"; else compdef _llvconv llvconv; fi
      """
  }

  private static func zshOption(_ option: Command.Option) -> String {
    let name = (option.isRepeated ? "*" : "") + option.name
    let help = "[\(zshText(option.brief, besides: "[]:"))]"
    guard let value = option.value else { return "'\(name)\(help)'" }
    // Long options take their value after = too.
    let sign = option.name.hasPrefix("--") ? "=" : ""
    return "'\(name)\(sign)\(help):\(zshText(value, besides: ":")):\(zshValue(option.kind))'"
  }

  private static func zshValue(_ kind: Command.Option.Value) -> String {
    switch kind {
    case .none, .other: ""
    case .file: "_files"
    case .folder: "_files -/"
    case .words(let words): "(\(words.map { $0.replacing(":", with: "\\:") }.joined(separator: " ")))"
    }
  }

  /// A text between single quotes, with what `_arguments` takes for its own marked.
  private static func zshText(_ text: String, besides marks: String) -> String {
    var result = ""
    for character in text {
      if character == "\\" || marks.contains(character) { result += "\\" }
      result += character == "'" ? "'\\''" : String(character)
    }
    return result
  }

  // MARK: fish

  private static var fish: String {
    var lines = [head("fish"), "complete -c llvconv -f"]
    for command in Program.commands {
      lines.append("complete -c llvconv -n __fish_use_subcommand -a \(command.name) -d '\(fishText(command.abstract))'")
    }
    let names = Program.commands.map(\.name).joined(separator: " ")
    lines.append("complete -c llvconv -n __fish_use_subcommand -a help -d 'Says how a command is called'")
    lines.append("complete -c llvconv -n '__fish_seen_subcommand_from help' -a '\(names)'")
    for name in ["version", "limits"] { lines.append("complete -c llvconv -n __fish_use_subcommand -l \(name)") }
    for command in Program.commands {
      let start = "complete -c llvconv -n '__fish_seen_subcommand_from \(command.name)'"
      switch command.positionalKind {
      case .words(let words): lines.append("\(start) -a '\(words.joined(separator: " "))'")
      case .file, .folder: lines.append("\(start) -F")
      case .none, .other: break
      }
      lines += command.allOptions.map { "\(start) \(fishOption($0))" }
    }
    return lines.joined(separator: "\n")
  }

  private static func fishOption(_ option: Command.Option) -> String {
    let name = option.name.hasPrefix("--") ? "-l \(option.name.dropFirst(2))" : "-s \(option.name.dropFirst())"
    let value =
      switch option.kind {
      case .none: ""
      case .file: " -r -F"
      case .folder: " -x -a '(__fish_complete_directories)'"
      case .other: " -x"
      case .words(let words): " -x -a '\(words.joined(separator: " "))'"
      }
    return "\(name)\(value) -d '\(fishText(option.brief))'"
  }

  private static func fishText(_ text: String) -> String {
    text.replacing("\\", with: "\\\\").replacing("'", with: "\\'")
  }
}

extension Command.Option.Value {
  fileprivate var words: [String] { if case .words(let words) = self { words } else { [] } }
}
