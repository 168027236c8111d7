import Bytes

extension PairSet {
  private static let queryNames = ["query", "anchor", "question"]
  private static let positiveNames = ["positive", "answer", "document", "passage"]

  /// A pair for each row of a table. Cells that name a picture below the table's folder are that picture.
  static func table(_ table: Table, _ options: Options) throws(Failure) -> PairSet {
    let query = try column(table, options.query, queryNames, "--query")
    let positive = try column(table, options.positive, positiveNames, "--positive")
    let label = try options.label.map { (name) throws(Failure) in try table.column(name) }
    var negatives: [Int] = []
    for name in options.negativeColumns { negatives.append(try table.column(name)) }
    if options.negativeColumns.isEmpty, options.negatives == nil {
      negatives = table.columns.indices.filter {
        ["negative", "negatives"].contains(table.columns[$0]) || table.columns[$0].hasPrefix("negative_")
      }
    }
    let id = table.column(among: ["id", "_id"]).flatMap { [query, positive].contains($0) ? nil : $0 }
    let folder = directory(of: table.path)
    var result = PairSet()
    var seen = Set<[String]>()
    var (empty, repeated) = (0, 0)
    for row in table.rows.indices {
      let texts = [table.cell(row, query), table.cell(row, positive)]
      guard !texts[0].isEmpty, !texts[1].isEmpty else {
        empty += 1
        continue
      }
      guard seen.insert(texts).inserted else {
        repeated += 1
        continue
      }
      var pair = Pair(query: item(texts[0], folder), positive: item(texts[1], folder))
      pair.negatives = negatives.map { table.cell(row, $0) }.filter { !$0.isEmpty }.map { item($0, folder) }
      pair.label = label.map { table.cell(row, $0) }.flatMap { $0.isEmpty ? nil : $0 }
      pair.id = id.map { table.cell(row, $0) }.flatMap { $0.isEmpty ? nil : $0 } ?? "line \(table.rows[row].line)"
      result.pairs.append(pair)
    }
    result.note(empty, "rows without a query or a positive left out")
    result.note(repeated, "rows that repeat a pair left out")
    guard !result.pairs.isEmpty else {
      throw Failure(.malformed, "no row has both a query and a positive", file: table.path)
    }
    if let count = options.negatives { result.drawNegatives(count) }
    return result
  }

  private static func column(
    _ table: Table, _ name: String?, _ usual: [String], _ option: String
  ) throws(Failure) -> Int {
    if let name { return try table.column(name) }
    guard let place = table.column(among: usual) else {
      let known = table.columns.prefix(20).map { Failure.escaped(Array($0.utf8), limit: 40) }.joined(separator: ", ")
      throw Failure(
        .usage, "\(option) COL says which column; none is called \(usual.joined(separator: ", ")); it has \(known)",
        file: table.path)
    }
    return place
  }

  private static func item(_ text: String, _ folder: String) -> Item {
    guard Pictures.isPicture(text), !text.contains("\n") else { return Item(text: text) }
    let path = Item.path(text, in: folder)
    return exists(path) ? Item(picture: path) : Item(text: text)
  }

  /// Adds positives of other queries, none of which the query's own pairs name.
  mutating func drawNegatives(_ count: Int) {
    var places: [Item: Int] = [:]
    var documents: [Item] = []
    var own: [Item: Set<Int>] = [:]
    for pair in pairs {
      if places[pair.positive] == nil {
        places[pair.positive] = documents.count
        documents.append(pair.positive)
      }
      if let place = places[pair.positive] { own[pair.query, default: []].insert(place) }
    }
    for index in pairs.indices {
      pairs[index].negatives = PairSet.draw(
        count, of: documents.count, for: pairs[index].id ?? "", without: own[pairs[index].query] ?? []
      ).map { documents[$0] }
    }
  }
}

extension Item {
  /// A picture alone.
  init(picture: String) {
    self.init(text: "")
    text = nil
    images = [picture]
  }
}
