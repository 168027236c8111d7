/// Pages that stand alone: no scripts, no fonts, no other files. They fit from 320 pixels on, in light and dark.
public enum Page {
  /// - Parameter body: what is in the page's main part, as HTML.
  public static func document(title: String, body: String) -> String {
    """
    <!DOCTYPE html>
    <html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
    <title>\(escaped(title))</title>
    <style>
    \(style)
    </style></head><body><main>
    \(body)
    </main></body></html>

    """
  }

  /// A table whose first column names its rows.
  ///
  /// - Parameters:
  ///   - rows: cells as HTML.
  ///   - words: columns of text; the others are of numbers.
  ///   - isStacked: whether a narrow page shows each row as a list, for tables of many columns.
  static func table(
    _ label: String, _ columns: [String], _ rows: [[String]], words: Set<Int> = [0], isStacked: Bool = false
  ) -> String {
    func cell(_ place: Int) -> String { words.contains(place) ? "" : " class=\"n\"" }
    let head = columns.enumerated().map { place, name in
      "<th scope=\"col\" role=\"columnheader\"\(cell(place))>\(escaped(name))</th>"
    }
    let body = rows.map { row in
      "<tr role=\"row\">"
        + row.enumerated().map { place, text in
          place == 0
            ? "<th scope=\"row\" role=\"rowheader\">\(text)</th>"
            : "<td role=\"cell\"\(cell(place)) data-label=\"\(escaped(columns[place]))\"><div>\(text)</div></td>"
        }.joined() + "</tr>"
    }
    // Roles are said again because a stacked table is laid out as blocks, which browsers then no longer call a table.
    return """
      <table role="table" aria-label="\(escaped(label))"\(isStacked ? " class=\"stack\"" : "")>
      <thead role="rowgroup"><tr role="row">\(head.joined())</tr></thead>
      <tbody role="rowgroup">\(body.joined(separator: "\n"))</tbody></table>
      """
  }

  /// A list of names and values; values as HTML.
  static func list(_ rows: [(name: String, value: String)]) -> String {
    "<dl>\(rows.map { "<dt>\(escaped($0.name))</dt><dd>\($0.value)</dd>" }.joined(separator: "\n"))</dl>"
  }

  /// Text as it may stand in a page. A number keeps its percent sign on its line.
  public static func escaped(_ text: String) -> String {
    var result = ""
    var (before, last): (Unicode.Scalar, Unicode.Scalar) = (" ", " ")
    for character in text.unicodeScalars {
      defer { (before, last) = (last, character) }
      switch character {
      case "%" where last == " " && ("0"..."9").contains(before):
        result.unicodeScalars.removeLast()
        result += "\u{A0}%"
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      case _ where character.value < 0x20: result += " "
      default: result.unicodeScalars.append(character)
      }
    }
    return result
  }

  /// Text in which `code` stands between backticks.
  static func code(_ text: String) -> String {
    escaped(text).split(separator: "`", omittingEmptySubsequences: false).enumerated()
      .map { $0.offset % 2 == 1 ? "<code>\($0.element)</code>" : String($0.element) }.joined()
  }
}
