import Bytes

extension Retrieval {
  /// How many documents are kept where codes are scored again.
  public static let rescoredDepth = 10

  /// Searches exactly in an index that keeps vectors in a form.
  ///
  /// Codes are ranked by their product, queries coded alike. With rescoring the first ten times the factor are ranked
  /// again by the float query's product with what the codes stand for, as sentence-transformers'
  /// `semantic_search_faiss` and `semantic_search_usearch` do, and ten are kept: a positive that is not among these has
  /// the last rank.
  ///
  /// - Parameters:
  ///   - queries: as they are; codes where nothing is to be scored again.
  ///   - documents: as they are, or codes of the form.
  ///   - metric: of what is not coded.
  public static func run(
    queries: Embeddings, documents: Embeddings, in coding: VectorCoding, by metric: Metric, labels: [Label],
    threads: Int
  ) throws(Failure) -> Run {
    let index = CodedIndex(documents: documents, coding: coding, metric: metric, threads: threads)
    let found = try index.search(queries, labels, depth: coding.form.searchDepth)
    return try index.scoredAgain(found, queries, labels, factor: coding.form.rescoring)
  }
}

extension VectorForm {
  /// How many documents a search by codes has to find.
  var searchDepth: Int { max(Retrieval.depth, (rescoring ?? 0) * Retrieval.rescoredDepth) }
}

/// Documents in a form, to search in.
struct CodedIndex {
  private let documents: Embeddings
  private let coding: VectorCoding
  private let metric: Metric
  private let threads: Int

  init(documents: Embeddings, coding: VectorCoding, metric: Metric, threads: Int) {
    (self.coding, self.metric, self.threads) = (coding, metric, threads)
    self.documents = CodedIndex.coded(documents, coding, metric, isQuery: false)
  }

  private static func coded(
    _ vectors: Embeddings, _ coding: VectorCoding, _ metric: Metric, isQuery: Bool
  ) -> Embeddings {
    let coded = vectors.coded(by: coding)
    return coding.form.precision.isCoded ? coded : coded.ranked(by: metric, isQuery: isQuery)
  }

  /// What is found by codes alone.
  func search(_ queries: Embeddings, _ labels: [Retrieval.Label], depth: Int) throws(Failure) -> Retrieval.Run {
    try Retrieval.run(
      queries: CodedIndex.coded(queries, coding, metric, isQuery: true), documents: documents, labels: labels,
      depth: depth, threads: threads)
  }

  /// Ten of the first ten times `factor`, in the order of the float queries; all as they are where it is nil.
  func scoredAgain(
    _ found: Retrieval.Run, _ queries: Embeddings, _ labels: [Retrieval.Label], factor: Int?
  ) throws(Failure) -> Retrieval.Run {
    guard let factor else { return found }
    let best = Lock([[Int]](repeating: [], count: queries.count))
    try parallel(queries.count, threads: threads) { (query) throws(Failure) in
      let places = Array(found.top[query].prefix(factor * Retrieval.rescoredDepth))
      let (x, codes) = (try coding.cut(queries.rows(query..<query + 1)), try documents.rows(at: places))
      let scores = places.indices.map { coding.score(x[...], codes[$0 * coding.width..<($0 + 1) * coding.width]) }
      // Of equal scores the earlier in the first ranking.
      let order = places.indices.sorted { (-scores[$0], $0) < (-scores[$1], $1) }
      let first = order.prefix(Retrieval.rescoredDepth).map { places[$0] }
      best.withLock { $0[query] = first }
    }
    let top = best.withLock { $0 }
    return Retrieval.Run(
      top: top, rank: zip(top, labels).map { ($0.firstIndex(of: $1.positive) ?? Int.max - 1) + 1 },
      beatsNegatives: found.beatsNegatives)
  }
}
