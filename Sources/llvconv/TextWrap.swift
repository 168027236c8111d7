extension String {
  /// The text in lines of at most `width` columns, each after `indent`, parted at spaces. Words that are longer stand
  /// alone.
  func wrapped(_ width: Int, indent: String = "") -> String {
    var lines: [String] = []
    var line = ""
    for word in split(separator: " ") {
      if !line.isEmpty, indent.count + line.count + 1 + word.count > width {
        lines.append(indent + line)
        line = ""
      }
      line += (line.isEmpty ? "" : " ") + word
    }
    return (lines + (line.isEmpty ? [] : [indent + line])).joined(separator: "\n")
  }

  /// A command line, in several that a shell takes as one where it is longer than `width`.
  func continued(_ width: Int) -> String {
    wrapped(width - 6).replacing("\n", with: " \\\n      ")
  }

  /// Paragraphs filled to `width`.
  func reflowed(_ width: Int) -> String {
    var result = ""
    var isAfterLines = true
    for paragraph in Paragraph.all(of: self) {
      switch paragraph {
      case .text(let text):
        result += (isAfterLines ? "" : "\n") + text.wrapped(width) + "\n"
        isAfterLines = false
      case .lines(let lines):
        result += lines.joined(separator: "\n") + "\n"
        isAfterLines = true
      }
    }
    return String(result.dropLast())
  }
}
