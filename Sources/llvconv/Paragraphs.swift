/// A piece of a command's discussion: the same for a terminal, a manual page and a page of the reference.
enum Paragraph {
  /// To be filled.
  case text(String)
  /// Lines that stay as they are; each starts with a space.
  case lines([String])

  /// Paragraphs are parted by empty lines, or by lines that start with a space.
  static func all(of text: String) -> [Paragraph] {
    var result: [Paragraph] = []
    var (words, lines): ([Substring], [String]) = ([], [])
    func flush() {
      if !words.isEmpty { result.append(.text(words.joined(separator: " "))) }
      if !lines.isEmpty { result.append(.lines(lines)) }
      (words, lines) = ([], [])
    }
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      if line.isEmpty || line.hasPrefix(" ") != !lines.isEmpty { flush() }
      if line.hasPrefix(" ") { lines.append(String(line)) } else if !line.isEmpty { words.append(line) }
    }
    flush()
    return result
  }
}
