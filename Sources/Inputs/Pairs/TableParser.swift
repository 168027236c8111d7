import Bytes

/// Cells of RFC 4180: commas between them, quotes around those that hold commas, quotes or line ends; a byte-order mark
/// and any line end are taken. Semicolons are taken for commas where the header has them and no comma.
///
/// Between tabs, where many files have quotes that mean nothing, a quoted cell with both a tab and a line end is
/// refused: more likely it is a part of several rows.
struct TableParser {
  private let bytes: [UInt8]
  private let separator: UInt8
  private let isTabbed, isQuoted: Bool
  private var at = 0
  private var line = 1

  /// - Parameter isQuoted: false for quotes that are characters as others.
  init(_ file: [UInt8], isTabbed: Bool, isQuoted: Bool = true) throws(Failure) {
    for mark: [UInt8] in [[0xFF, 0xFE], [0xFE, 0xFF]] where file.starts(with: mark) {
      throw Failure(.malformed, "is UTF-16; UTF-8 is expected", place: "byte 0")
    }
    bytes = Array(JSONLines.withoutMark(file[...]))
    (self.isTabbed, self.isQuoted) = (isTabbed, isQuoted)
    let header = bytes.prefix { $0 != UInt8(ascii: "\n") && $0 != UInt8(ascii: "\r") }
    let comma = UInt8(ascii: ",")
    let semicolon = UInt8(ascii: ";")
    separator = isTabbed ? 9 : !header.contains(comma) && header.contains(semicolon) ? semicolon : comma
  }

  /// The next row that is not blank, and the line on which it begins; nil at the end.
  mutating func row() throws(Failure) -> (line: Int, cells: [String])? {
    while at < bytes.count, isLineEnd(bytes[at]) { skipLineEnd() }
    guard at < bytes.count else { return nil }
    let start = line
    var cells: [String] = []
    while true {
      guard cells.count < Table.mostColumns else {
        throw Failure(.limit, "more than \(Table.mostColumns) columns", place: "line \(line)")
      }
      cells.append(try text(try cell()))
      guard at < bytes.count, bytes[at] == separator else { break }
      at += 1
    }
    if at < bytes.count { skipLineEnd() }
    return (start, cells)
  }

  private func isLineEnd(_ byte: UInt8) -> Bool { byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r") }

  private func isCellEnd(_ place: Int) -> Bool {
    place == bytes.count || bytes[place] == separator || isLineEnd(bytes[place])
  }

  private mutating func skipLineEnd() {
    if bytes[at] == UInt8(ascii: "\r") { at += 1 }
    if at < bytes.count, bytes[at] == UInt8(ascii: "\n") { at += 1 }
    line += 1
  }

  private mutating func cell() throws(Failure) -> ArraySlice<UInt8> {
    if isQuoted, at < bytes.count, bytes[at] == UInt8(ascii: "\"") { return try quoted() }
    let start = at
    while !isCellEnd(at) { at += 1 }
    return bytes[start..<at]
  }

  /// What stands between the quotes.
  private mutating func quoted() throws(Failure) -> ArraySlice<UInt8> {
    let quote = UInt8(ascii: "\"")
    let start = line
    var (place, ends) = (at + 1, 0)
    var cell: [UInt8] = []
    while true {
      guard place < bytes.count else {
        throw Failure(.malformed, "a quoted cell begins here and does not end", place: "line \(start)")
      }
      if bytes[place] == quote {
        guard place + 1 < bytes.count, bytes[place + 1] == quote else { break }
        place += 1
      } else if bytes[place] == UInt8(ascii: "\n") {
        ends += 1
      }
      cell.append(bytes[place])
      place += 1
    }
    guard isCellEnd(place + 1) else {
      throw Failure(
        .malformed,
        "found \(Failure.quoted([bytes[place + 1]])) after a quoted cell; a separator or line end is expected",
        place: "line \(start + ends)")
    }
    guard !isTabbed || ends == 0 || !cell.contains(separator) else {
      throw Failure(.malformed, "a quoted cell holds tabs and line ends", place: "line \(start)")
    }
    (at, line) = (place + 1, start + ends)
    return cell[...]
  }

  private func text(_ cell: ArraySlice<UInt8>) throws(Failure) -> String {
    guard let text = String(validating: cell, as: UTF8.self), !cell.contains(0) else {
      throw Failure(.malformed, "the cell \(Failure.quoted(cell)) is not UTF-8 text", place: "line \(line)")
    }
    return text
  }
}
