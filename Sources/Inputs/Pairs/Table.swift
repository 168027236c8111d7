import Bytes

/// Rows of named columns: a CSV or TSV file with a header, or lines of JSON whose values are texts and numbers.
public struct Table: Sendable {
  static let mostColumns = 1_000

  public let path: String
  public private(set) var columns: [String] = []
  /// Cells by column, and the line on which the row begins.
  private(set) var rows: [(line: Int, cells: [String])] = []

  /// - Throws: `malformed` naming the line: a quoted cell that does not end or is followed by something, a row with
  ///   another number of cells than the header, bytes that are not UTF-8.
  public init(_ path: String) throws(Failure) {
    self.path = path
    if Table.isJSON(path) { try readJSON() } else { try readCells() }
    guard !rows.isEmpty else { throw Failure(.malformed, "no rows in the table", file: path) }
  }

  static func isJSON(_ path: String) -> Bool { path.hasSuffix(".jsonl") || path.hasSuffix(".ndjson") }

  /// The place of a column.
  /// - Throws: `usage` naming those there are.
  func column(_ name: String) throws(Failure) -> Int {
    let places = columns.indices.filter { columns[$0] == name }
    guard let place = places.first else {
      let near = columns.map { (editDistance(name, $0), $0) }.filter { $0.0 <= 2 }.min { $0.0 < $1.0 }
      let hint = near.map { "; did you mean \(Failure.quoted($0.1))?" } ?? ""
      let known = columns.prefix(20).map { Failure.escaped(Array($0.utf8), limit: 40) }.joined(separator: ", ")
      throw Failure(.usage, "no column \(Failure.quoted(name)); it has \(known)\(hint)", file: path)
    }
    guard places.count == 1 else {
      throw Failure(.malformed, "the column \(Failure.quoted(name)) is there \(places.count) times", file: path)
    }
    return place
  }

  /// The first of these columns that is there.
  func column(among names: [String]) -> Int? { names.lazy.compactMap { columns.firstIndex(of: $0) }.first }

  /// A cell, without white space around it; empty where the row has none.
  func cell(_ row: Int, _ column: Int) -> String {
    let cells = rows[row].cells
    return column < cells.count ? cells[column].trimmed : ""
  }

  private mutating func readCells() throws(Failure) {
    do throws(Failure) {
      let bytes = try InputFile(path).all(limit: 1 << 32, what: "table")
      guard path.hasSuffix(".tsv") || path.hasSuffix(".tab") else {
        return try take(try TableParser(bytes, isTabbed: false))
      }
      // Some programs write quotes between tabs as between commas; to others they are characters.
      do throws(Failure) { try take(try TableParser(bytes, isTabbed: true)) } catch {
        try take(try TableParser(bytes, isTabbed: true, isQuoted: false))
      }
    } catch { throw error.inFile(path) }
  }

  private mutating func take(_ source: TableParser) throws(Failure) {
    var parser = source
    guard let header = try parser.row() else { throw Failure(.malformed, "the table is empty") }
    var rows: [(line: Int, cells: [String])] = []
    while let row = try parser.row() {
      guard row.cells.count == header.cells.count else {
        throw Failure(
          .malformed, "\(row.cells.count) cells; the header has \(header.cells.count)", place: "line \(row.line)")
      }
      rows.append(row)
    }
    (columns, self.rows) = (header.cells.map(\.trimmed), rows)
  }

  private mutating func readJSON() throws(Failure) {
    var places: [String: Int] = [:]
    var (columns, rows) = (columns, rows)
    try JSONLines.forEach(path, what: "table") { (number, json) throws(Failure) in
      var cells: [String] = []
      for (key, value) in try json.members("a row") {
        let name = String(decoding: key, as: UTF8.self)
        let place = places[name] ?? columns.count
        if place == columns.count {
          guard place < Table.mostColumns else { throw json.failure("more than \(Table.mostColumns) columns", .limit) }
          places[name] = place
          columns.append(name)
        }
        if cells.count <= place { cells += [String](repeating: "", count: place + 1 - cells.count) }
        cells[place] = try Table.text(value)
      }
      rows.append((number, cells))
    }
    (self.columns, self.rows) = (columns, rows)
  }

  /// Values that are neither text nor number are no cells.
  private static func text(_ value: JSON) throws(Failure) -> String {
    switch value.kind {
    case .string: try value.string()
    case .number: try JSONText(value).text()
    default: ""
    }
  }
}

extension String {
  /// Without white space around it.
  var trimmed: String {
    let isSpace: (Unicode.Scalar) -> Bool = { $0.properties.isWhitespace }
    guard let first = unicodeScalars.first, let last = unicodeScalars.last, isSpace(first) || isSpace(last) else {
      return self
    }
    var scalars = Substring(self).unicodeScalars
    while let scalar = scalars.first, isSpace(scalar) { scalars.removeFirst() }
    while let scalar = scalars.last, isSpace(scalar) { scalars.removeLast() }
    return String(scalars)
  }
}
