import Bytes
import Fidelity
import Formats
import Inputs

/// What anchors are chosen from: queries and the index that they search, both as the reference has them.
struct AnchorPool {
  struct Entry {
    let id: String
    let item: Item
  }

  var queries: [Entry]
  /// nil where the index is a file of vectors of which nobody has the items.
  var documents: [Entry]?
  var labels: [Retrieval.Label]
  var vectors: FidelityReport.Vectors
  let isLabelled: Bool
  let folder: String
  let metric: Metric

  /// Pairs: their queries, and their positives and negatives as the index.
  init(_ data: VerifyData, _ vectors: FidelityReport.Vectors, _ metric: Metric) {
    queries = data.queries.map { Entry(id: $0.id, item: $0.item) }
    documents = data.documents.map { Entry(id: $0.id, item: $0.item) }
    (labels, self.vectors, isLabelled, folder) = (data.labels, vectors, true, data.folder)
    self.metric = metric
  }

  /// Items alone: every one is a query, and an index of them all, or one that is given.
  ///
  /// What is chosen for a query is taken out of an index of the items themselves, where it would find itself.
  init(_ items: [Entry], _ vectors: Embeddings, index: Embeddings?, folder: String, _ metric: Metric) {
    queries = items
    documents = index == nil ? items : nil
    labels = []
    self.vectors = FidelityReport.Vectors(queries: vectors, documents: index ?? vectors)
    (isLabelled, self.folder, self.metric) = (false, folder, metric)
  }

  /// Keeps these queries, in this order.
  mutating func keep(_ chosen: [Int]) throws(Failure) {
    queries = chosen.map { queries[$0] }
    if isLabelled { labels = chosen.map { labels[$0] } }
    vectors = .init(
      queries: Embeddings(width: vectors.queries.width, values: try vectors.queries.rows(at: chosen)),
      documents: vectors.documents)
  }

  /// Without these documents, where queries are documents too.
  mutating func remove(_ chosen: Set<Int>) throws(Failure) {
    guard !isLabelled, let all = documents else { return }
    let rest = all.indices.filter { !chosen.contains($0) }
    guard rest.count >= FidelityReport.Thresholds.leastDocuments else {
      throw Failure(
        .usage,
        "\(all.count) items are too few: \(chosen.count) anchors leave \(rest.count) as an index, at least "
          + "\(FidelityReport.Thresholds.leastDocuments) are needed; see --count")
    }
    documents = rest.map { all[$0] }
    vectors = .init(
      queries: vectors.queries,
      documents: Embeddings(width: vectors.documents.width, values: try vectors.documents.rows(at: rest)))
  }

  /// Every query's first `depth` documents as the reference finds them.
  func search(depth: Int, threads: Int, progress: (Double) -> Void) throws(Failure) -> Retrieval.Run {
    let any = [Retrieval.Label](repeating: .init(positive: 0, negatives: []), count: queries.count)
    return try Retrieval.run(
      queries: vectors.queries.ranked(by: metric, isQuery: true),
      documents: vectors.documents.ranked(by: metric, isQuery: false), labels: isLabelled ? labels : any, depth: depth,
      threads: threads, progress: progress)
  }
}
