import Bytes

/// A folder of documents, queries, and what says which belongs to which: as BEIR and mteb lay it out, or a query log
/// with an index and its clicks.
struct Judged {
  static let expected = "corpus.jsonl (or documents.jsonl) with queries.jsonl (or queries.txt)"
  private static let defaultNegatives = 5

  private let documents: String
  private let queries: String
  private let judgements: String?
  private let negatives: Int

  /// nil where the folder has no documents or no queries.
  init?(_ folder: String, _ options: PairSet.Options) {
    func first(_ names: [String]) -> String? { names.map { folder + $0 }.first(where: exists) }
    guard let documents = first(["corpus.jsonl", "documents.jsonl", "docs.jsonl"]),
      let queries = first(["queries.jsonl", "queries.txt"])
    else { return nil }
    let splits = ["test", "dev", "validation", "train"].flatMap { ["qrels/\($0).tsv", "qrels/\($0).jsonl"] }
    let files = ["qrels", "clicks"].flatMap { name in [".tsv", ".jsonl", ".csv", ".txt"].map { name + $0 } }
    (self.documents, self.queries) = (documents, queries)
    judgements = options.judgements ?? first(splits + files)
    negatives = options.negatives ?? Judged.defaultNegatives
  }

  /// A pair for each query that has a relevant document: the one that is judged or clicked most. Negatives are first
  /// documents that are judged not relevant, then some of those that nobody judged for the query.
  func pairs() throws(Failure) -> PairSet {
    let (ids, items) = try readDocuments()
    let asked = try readQueries()
    var result = PairSet()
    let scores: [[Int: Double]]
    if let judgements {
      scores = try self.scores(try Judgement.read(judgements), ids, asked, judgements, &result)
    } else {
      result.notes.append(
        "no judgements or clicks: the positive of a query is the document whose words fit best (BM25), so recall says "
          + "how a model agrees with words, not how right it is")
      let index = WordIndex(items.map { $0.text ?? "" })
      scores = asked.map { query in index.best(query.text).map { [$0: 1] } ?? [:] }
    }
    var (unjudged, further) = (0, 0)
    for (query, scores) in zip(asked, scores) {
      let relevant = scores.filter { $0.value > 0 }
      guard let best = relevant.max(by: { ($0.value, $1.key) < ($1.value, $0.key) })?.key else {
        unjudged += 1
        continue
      }
      further += relevant.count - 1
      let judged = scores.keys.filter { relevant[$0] == nil }.sorted().prefix(negatives)
      let drawn = PairSet.draw(
        negatives - judged.count, of: items.count, for: query.id, without: Set(scores.keys))
      var pair = Pair(query: Item(text: query.text), positive: items[best])
      pair.negatives = (judged + drawn).map { items[$0] }
      pair.id = query.id
      result.pairs.append(pair)
    }
    result.note(unjudged, "of \(asked.count) queries left out that no relevant document is known for")
    result.note(further, "further relevant documents not used: a pair has the best alone")
    guard !result.pairs.isEmpty else {
      throw Failure(.malformed, "no query has a relevant document", file: judgements ?? queries)
    }
    return result
  }

  /// Of each query, its judged documents.
  private func scores(
    _ judged: [Judgement], _ ids: [String: Int], _ asked: [(id: String, text: String)], _ path: String,
    _ result: inout PairSet
  ) throws(Failure) -> [[Int: Double]] {
    var places: [String: Int] = [:]
    // Logs name a query by its words where it has no id.
    for (place, query) in asked.enumerated().reversed() { places[query.text] = place }
    for (place, query) in asked.enumerated() { places[query.id] = place }
    var scores = [[Int: Double]](repeating: [:], count: asked.count)
    var unknown: [Judgement] = []
    for judgement in judged {
      guard let query = places[judgement.query], let document = ids[judgement.document] else {
        unknown.append(judgement)
        continue
      }
      scores[query][document, default: 0] += judgement.score
    }
    if let first = unknown.first, unknown.count == judged.count {
      let missing =
        places[first.query] == nil
        ? "the query \(Failure.quoted(first.query)) is not in \(queries)"
        : "the document \(Failure.quoted(first.document)) is not in \(documents)"
      throw Failure(
        .malformed, "\(missing); so it is with all \(judged.count) judgements", file: path,
        place: "line \(first.line)")
    }
    result.note(unknown.count, "of \(judged.count) judgements left out of queries or documents that are not there")
    return scores
  }

  // MARK: Reading

  private func readDocuments() throws(Failure) -> (ids: [String: Int], items: [Item]) {
    var ids: [String: Int] = [:]
    var items: [Item] = []
    let folder = directory(of: documents)
    try JSONLines.forEach(documents, what: "documents") { (number, json) throws(Failure) in
      let id = try Judged.id(json) ?? String(number)
      guard ids.updateValue(items.count, forKey: id) == nil else {
        throw json.failure("the document \(Failure.quoted(id)) is there twice")
      }
      items.append(try Judged.document(json, folder))
    }
    return (ids, items)
  }

  /// Title and text with a space between them, as BEIR's models are given them; and pictures.
  private static func document(_ json: JSON, _ folder: String) throws(Failure) -> Item {
    guard json.kind == .object else { return Item(text: try json.string("a document")) }
    let title = try json.optional("title")?.string("title").trimmed ?? ""
    let text = try json.optional("text")?.string("text").trimmed ?? ""
    var item = Item(text: [title, text].filter { !$0.isEmpty }.joined(separator: " "))
    for image in try json.optional("images")?.elements("images") ?? [] {
      item.images.append(Item.path(try image.string("image"), in: folder))
    }
    if item.text == "", !item.images.isEmpty { item.text = nil }
    guard item.text != "" else { throw json.failure("a document needs text, a title or images") }
    return item
  }

  private func readQueries() throws(Failure) -> [(id: String, text: String)] {
    var asked: [(id: String, text: String)] = []
    if queries.hasSuffix(".txt") {
      let bytes = try InputFile(queries).all(limit: 1 << 32, what: "queries")
      var number = 0
      for line in JSONLines.withoutMark(bytes[...]).split(separator: 10, omittingEmptySubsequences: false) {
        number += 1
        guard let text = String(validating: line, as: UTF8.self)?.trimmed else {
          throw Failure(.malformed, "is not UTF-8 text", file: queries, place: "line \(number)")
        }
        if !text.isEmpty { asked.append((String(number), text)) }
      }
    } else {
      try JSONLines.forEach(queries, what: "queries") { (number, json) throws(Failure) in
        let text = json.kind == .string ? try json.string() : try json.required("text").string("text")
        guard !text.trimmed.isEmpty else { throw json.failure("a query needs text") }
        asked.append((try Judged.id(json) ?? String(number), text.trimmed))
      }
    }
    guard !asked.isEmpty else { throw Failure(.malformed, "no queries in the file", file: queries) }
    return asked
  }

  private static func id(_ json: JSON) throws(Failure) -> String? {
    try (json.optional("_id") ?? json.optional("id")).map { (value) throws(Failure) in try Item.identifier(value) }
  }
}
