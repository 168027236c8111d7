import LLVConv

/// Manual pages in roff's `man` macros, made of the command table.
enum ManualPage {
  /// Of the program itself: `llvconv.1`.
  static var program: String {
    let commands = Program.commands.map { command in
      ".TP\n.BR llvconv\\-\(roff(command.name)) (1)\n\(roff(command.abstract))"
    }
    let codes = Program.exitCodes.map { ".TP\n.B \($0.code)\n\(roff($0.meaning))" }
    return """
      \(title("llvconv"))
      .SH NAME
      llvconv \\- \(roff(Program.abstract))
      .SH SYNOPSIS
      .B llvconv
      .I COMMAND
      \\&...
      .br
      .B llvconv help
      .I COMMAND
      .br
      .B llvconv \\-\\-version
      |
      .B \\-\\-limits
      .SH DESCRIPTION
      \(paragraphs(Program.discussion))
      .SH COMMANDS
      \(commands.joined(separator: "\n"))
      .SH EXIT STATUS
      \(codes.joined(separator: "\n"))
      .SH ENVIRONMENT
      .TP
      .B LLVCONV_TOKEN
      The token that \(roff("verify --endpoint")) sends to a server.
      .SH EXAMPLES
      \(examples(Program.examples))

      """
  }

  static func page(_ command: Command) -> String {
    let synopsis = command.synopsis.map { ".RI \(quoted(roff($0)))" }.joined(separator: "\n")
    let options = command.allOptions.map { option in
      ".TP\n.B \(roff(option.name))\(option.value.map { " \\fI\(roff($0))\\fR" } ?? "")\n\(roff(option.help))"
    }
    let shown = command.examples.isEmpty ? "" : "\n.SH EXAMPLES\n" + examples(command.examples)
    return """
      \(title("llvconv-" + command.name))
      .SH NAME
      llvconv\\-\(roff(command.name)) \\- \(roff(command.abstract.headline))
      .SH SYNOPSIS
      .B llvconv \(roff(command.name))
      \(synopsis)
      .SH DESCRIPTION
      \(roff(command.abstract))
      .PP
      \(paragraphs(command.discussion))
      .SH OPTIONS
      \(options.joined(separator: "\n"))
      .SH EXIT STATUS
      \(roff("0 when it is done; others are listed in llvconv(1)."))\(shown)
      .SH SEE ALSO
      .BR llvconv (1)

      """
  }

  private static func title(_ name: String) -> String {
    let name = name.uppercased().replacing("-", with: "\\-")
    return ".TH \(name) 1 \(Release.date) \"llvconv \(Release.version)\" \"llvconv manual\""
  }

  private static func paragraphs(_ text: String) -> String {
    Paragraph.all(of: text).map { paragraph in
      switch paragraph {
      case .text(let text): roff(text)
      case .lines(let lines): ".PP\n.nf\n\(lines.map(roff).joined(separator: "\n"))\n.fi"
      }
    }.joined(separator: "\n.PP\n").replacing(".PP\n.PP", with: ".PP")
  }

  private static func examples(_ lines: [String]) -> String {
    ".nf\n" + lines.map { roff($0.continued(Command.columns - 8)) }.joined(separator: "\n") + "\n.fi"
  }

  private static func quoted(_ text: String) -> String { "\"\(text.replacing("\"", with: "\\(dq"))\"" }

  /// A text as roff takes it: nothing in it is a request, and hyphens can be copied as they are.
  private static func roff(_ text: String) -> String {
    var result = ""
    var isAtStart = true
    for scalar in text.unicodeScalars {
      if isAtStart, scalar == "." || scalar == "'" { result += "\\&" }
      isAtStart = scalar == "\n"
      switch scalar {
      case "\\": result += "\\e"
      case "-": result += "\\-"
      case "'": result += "\\(aq"
      case "`": result += "\\(ga"
      default: result += scalar.isASCII ? String(scalar) : "\\[u\(scalar.hexadecimal)]"
      }
    }
    return result
  }
}

extension Unicode.Scalar {
  /// At least four digits, as roff wants them.
  fileprivate var hexadecimal: String {
    let digits = String(value, radix: 16, uppercase: true)
    return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
  }
}

extension String {
  /// The first sentence without its full stop, in lower case at the start.
  var headline: String {
    let end = firstRange(of: ". ")?.lowerBound ?? endIndex
    let sentence = self[..<end].hasSuffix(".") ? self[..<end].dropLast() : self[..<end]
    return sentence.prefix(1).lowercased() + sentence.dropFirst()
  }
}
