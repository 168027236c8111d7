import Bytes

/// Numbers that compare a candidate with its reference on labelled pairs, and a verdict.
public struct FidelityReport: Sendable {
  /// What the verdict asks for.
  public struct Thresholds: Sendable {
    /// Mean cosine of an item's two vectors, at least.
    public var cosine = 0.97
    /// Mean share of the reference's first ten documents that the candidate has among its own, at least.
    public var overlap = 0.75
    /// How much lower P@1 and recall@10 may be than the reference's.
    public var recallDrop = 0.02

    public init() {}
  }

  /// One line of the verdict.
  public struct Check: Sendable {
    public let name: String
    public let value: Double
    public let threshold: Double
    /// Whether the value must be at least the threshold, or at most.
    public let isLowerBound: Bool
    /// A value that is undefined passes nothing.
    public var passes: Bool { isLowerBound ? value >= threshold : value <= threshold }
  }

  /// An item whose vector moved far.
  public struct Worst: Sendable {
    public let cosine: Double
    public let id: String
    public let text: String
    /// Place among all items.
    public let item: Int
  }

  public let candidate, reference, data: String
  public let closeness: Closeness
  public let baseline: Retrieval.Run
  /// The candidate's queries in the candidate's documents.
  public let own: Retrieval.Run
  /// The candidate's queries in the reference's documents: an index that was built before.
  public let mixed: Retrieval.Run
  public let rankCorrelation: Double
  public let worst: [Worst]
  public let documents: Int
  public let checks: [Check]

  public var passes: Bool { checks.allSatisfy(\.passes) }

  /// A data set embedded twice: queries, documents, and what each query should find.
  public struct Vectors: Sendable {
    public let queries, documents: Embeddings

    public init(queries: Embeddings, documents: Embeddings) {
      self.queries = queries
      self.documents = documents
    }
  }

  /// - Parameter items: id and text of every query, then of every document, for the list of the worst.
  public init(
    candidate: (name: String, vectors: Vectors), reference: (name: String, vectors: Vectors), data: String,
    labels: [Retrieval.Label], items: [(id: String, text: String)], thresholds: Thresholds, threads: Int
  ) throws(Failure) {
    self.candidate = candidate.name
    self.reference = reference.name
    self.data = data
    let (a, b) = (reference.vectors, candidate.vectors)
    let width = a.queries.width
    guard b.queries.width == width else {
      throw Failure(.malformed, "the candidate's vectors have \(b.queries.width) columns, the reference's \(width)")
    }
    let closeness = Closeness(
      reference: Embeddings(width: width, values: a.queries.values + a.documents.values),
      candidate: Embeddings(width: width, values: b.queries.values + b.documents.values))
    self.closeness = closeness
    baseline = try Retrieval.run(queries: a.queries, documents: a.documents, labels: labels, threads: threads)
    own = try Retrieval.run(queries: b.queries, documents: b.documents, labels: labels, threads: threads)
    mixed = try Retrieval.run(queries: b.queries, documents: a.documents, labels: labels, threads: threads)
    rankCorrelation = try Retrieval.rankCorrelation(
      reference: (a.queries, a.documents), candidate: (b.queries, b.documents), threads: threads)
    documents = a.documents.count
    worst = closeness.cosines.enumerated().compactMap { index, cosine in cosine.map { (index, $0) } }
      .sorted { ($0.1, $0.0) < ($1.1, $1.0) }.prefix(10)
      .map { Worst(cosine: $0.1, id: items[$0.0].id, text: items[$0.0].text, item: $0.0) }
    checks = FidelityReport.checks(closeness, baseline, own, mixed, thresholds)
  }

  private static func checks(
    _ closeness: Closeness, _ baseline: Retrieval.Run, _ own: Retrieval.Run, _ mixed: Retrieval.Run,
    _ thresholds: Thresholds
  ) -> [Check] {
    var checks = [
      Check(name: "mean cosine", value: closeness.cosine.mean, threshold: thresholds.cosine, isLowerBound: true)
    ]
    for (run, suffix) in [(own, ""), (mixed, ", mixed index")] {
      let overlap = run.overlap(with: baseline)
      checks.append(
        Check(
          name: "overlap of the first 10" + suffix, value: overlap, threshold: thresholds.overlap, isLowerBound: true))
      for (name, k) in [("P@1", 1), ("recall@10", 10)] {
        let drop = baseline.recall(at: k) - run.recall(at: k)
        checks.append(
          Check(name: "drop of \(name)\(suffix)", value: drop, threshold: thresholds.recallDrop, isLowerBound: false))
      }
    }
    return checks
  }
}
