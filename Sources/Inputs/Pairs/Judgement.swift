import Bytes

/// What somebody says of a query and a document: how relevant it is, or that it was clicked.
struct Judgement: Equatable {
  let line: Int
  let query, document: String
  let score: Double

  /// Lines of query, document and score, with or without a header (BEIR); query, 0, document and score (TREC); or query
  /// and document, a click each. Tabs stand between them, or else white space. Also a table of JSON lines or commas.
  static func read(_ path: String) throws(Failure) -> [Judgement] {
    let isTable = Table.isJSON(path) || path.hasSuffix(".csv")
    let judgements = isTable ? try table(try Table(path)) : try lines(path)
    guard !judgements.isEmpty else { throw Failure(.malformed, "no judgements in the file", file: path) }
    return judgements
  }

  private static func table(_ table: Table) throws(Failure) -> [Judgement] {
    func column(_ names: [String]) throws(Failure) -> Int {
      guard let place = table.column(among: names) else { return try table.column(names[0]) }
      return place
    }
    let query = try column(["query-id", "query_id", "qid", "query"])
    let document = try column(["corpus-id", "corpus_id", "document-id", "document_id", "doc_id", "docid", "document"])
    let score = table.column(among: ["score", "relevance", "label", "clicks", "count"])
    var judgements: [Judgement] = []
    for row in table.rows.indices {
      let line = table.rows[row].line
      let text = score.map { table.cell(row, $0) } ?? "1"
      judgements.append(
        Judgement(
          line: line, query: table.cell(row, query), document: table.cell(row, document),
          score: try number(text, table.path, line)))
    }
    return judgements
  }

  private static func lines(_ path: String) throws(Failure) -> [Judgement] {
    var judgements: [Judgement] = []
    var (number, isFirst) = (0, true)
    let bytes = try InputFile(path).all(limit: 1 << 32, what: "judgements")
    for line in JSONLines.withoutMark(bytes[...]).split(separator: 10, omittingEmptySubsequences: false) {
      number += 1
      guard let text = String(validating: line, as: UTF8.self)?.trimmed else {
        throw Failure(.malformed, "is not UTF-8 text", file: path, place: "line \(number)")
      }
      guard !text.isEmpty else { continue }
      let tabbed = text.contains("\t")
      let words = text.split { $0 == "\t" || !tabbed && $0.isWhitespace }.map(String.init)
      defer { isFirst = false }
      guard (2...4).contains(words.count) else {
        throw Failure(
          .malformed, "\(words.count) columns; expected query, document and score", file: path, place: "line \(number)")
      }
      // A header is a first line that names its columns, or whose score is no number.
      if isFirst, words[0].isHeader || words.count > 2 && Double(words[words.count - 1]) == nil { continue }
      let score = words.count == 2 ? 1 : try self.number(words[words.count - 1], path, number)
      judgements.append(
        Judgement(line: number, query: words[0], document: words[words.count == 4 ? 2 : 1], score: score))
    }
    return judgements
  }

  private static func number(_ text: String, _ path: String, _ line: Int) throws(Failure) -> Double {
    guard let score = Double(text), score.isFinite else {
      throw Failure(
        .malformed, "found the score \(Failure.quoted(text)); a number is expected", file: path, place: "line \(line)")
    }
    return score
  }
}

extension String {
  fileprivate var isHeader: Bool { ["query-id", "query_id", "qid", "query"].contains(self) }
}
