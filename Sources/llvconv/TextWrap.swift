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

  /// Paragraphs, parted by empty lines or by lines that start with a space, which stay as they are.
  func reflowed(_ width: Int) -> String {
    var result: [String] = []
    var paragraph: [Substring] = []
    func flush() {
      if !paragraph.isEmpty { result.append(paragraph.joined(separator: " ").wrapped(width)) }
      paragraph = []
    }
    for line in split(separator: "\n", omittingEmptySubsequences: false) {
      guard line.isEmpty || line.hasPrefix(" ") else {
        paragraph.append(line)
        continue
      }
      flush()
      result.append(String(line))
    }
    flush()
    return result.joined(separator: "\n")
  }
}
