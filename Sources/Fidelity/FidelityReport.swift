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
    /// How much higher the mean cosine of two different items may be than the reference's.
    public var crowding = 0.05

    public init() {}
  }

  /// One line of the verdict.
  public struct Check: Sendable {
    public let name: String
    public let estimate: Estimate
    public let threshold: Double
    /// Whether the value must be at least the threshold, or at most.
    public let isLowerBound: Bool
    public var value: Double { estimate.value }
    /// A value that is undefined passes nothing.
    public var passes: Bool { isLowerBound ? value >= threshold : value <= threshold }
    /// Whether the interval holds the threshold, so that other data of this kind may say otherwise.
    public var isClose: Bool { estimate.low < threshold && threshold < estimate.high }
  }

  /// An item whose vector moved far.
  public struct Worst: Sendable {
    public let cosine: Double
    public let id: String
    public let text: String
    /// Place among all items.
    public let item: Int
    /// Of a query, the first documents of the reference's and of the candidate's search, as places among all items.
    public let before, after: [Int]
  }

  /// One of the two models, for people.
  public struct Subject: Sendable {
    public var name: String
    public var bytes: Int?
    /// Measured while the vectors were made; nil where none or few were.
    public var itemsPerSecond: Double?
    /// What a picture of the data comes to; nil where there are none.
    public var pictures: Pictures?
    /// What the file says of itself: hashes, recipe.
    public var facts: [(name: String, value: String)] = []

    public init(_ name: String) { self.name = name }

    /// Means over pictures.
    public struct Pictures: Sendable {
      public let count: Int
      public let views, tokens: Double

      /// - Parameter extents: views and tokens of each; nil where there are none.
      public init?(_ extents: [(views: Int, tokens: Int)]) {
        guard !extents.isEmpty else { return nil }
        count = extents.count
        views = Double(extents.reduce(0) { $0 + $1.views }) / Double(count)
        tokens = Double(extents.reduce(0) { $0 + $1.tokens }) / Double(count)
      }
    }
  }

  public let candidate, reference: Subject
  public let data: String
  public let closeness: Closeness
  /// Numbers by kind of item: text, image, both, video; empty when all are of one kind.
  public let kinds: [(name: String, cosine: Closeness.Summary)]
  public let baseline: Retrieval.Run
  /// The candidate's queries in the candidate's documents.
  public let own: Retrieval.Run
  /// The candidate's queries in the reference's documents: an index that was built before.
  public let mixed: Retrieval.Run
  /// The reference's queries in the candidate's documents: an index that is built anew, before all clients are.
  public let reversed: Retrieval.Run
  public let ordering, mixedOrdering: Ordering
  public let rankCorrelation: Double
  public let spread: (reference: Spread, candidate: Spread)
  public let clusters: Clusters?
  public let divergence: Divergence?
  public let worst: [Worst]
  public let documents: Int
  public let checks: [Check]
  /// Id and text of every query, then of every document.
  let items: [Item]

  public var passes: Bool { checks.allSatisfy(\.passes) }

  /// A data set embedded twice: queries, documents, and what each query should find.
  public struct Vectors: Sendable {
    public let queries, documents: Embeddings

    public init(queries: Embeddings, documents: Embeddings) {
      self.queries = queries
      self.documents = documents
    }
  }

  /// What the report says of a query or a document.
  public struct Item: Sendable {
    public let id, text: String
    /// `text`, `image`, `text and image`, `video`.
    public let kind: String

    public init(id: String, text: String, kind: String = "text") {
      self.id = id
      self.text = text
      self.kind = kind
    }
  }

  /// - Parameters:
  ///   - items: every query, then every document; empty where nothing is known but their places.
  ///   - classes: of the documents, to hold clusters to.
  public init(
    candidate: (subject: Subject, vectors: Vectors), reference: (subject: Subject, vectors: Vectors), data: String,
    labels: [Retrieval.Label], items: [Item], classes: [String?] = [], divergence: Divergence? = nil,
    thresholds: Thresholds, hardness: Hardness = Hardness(), threads: Int, progress: (Double) -> Void = { _ in }
  ) throws(Failure) {
    (self.candidate, self.reference) = (candidate.subject, reference.subject)
    (self.data, self.items, self.divergence) = (data, items, divergence)
    let (a, b) = (reference.vectors, candidate.vectors)
    let width = a.queries.width
    guard b.queries.width == width else {
      throw Failure(.malformed, "the candidate's vectors have \(b.queries.width) columns, the reference's \(width)")
    }
    let closeness = try Closeness([(a.queries, b.queries), (a.documents, b.documents)])
    self.closeness = closeness
    let names = Set(items.map(\.kind)).sorted()
    kinds =
      names.count < 2
      ? []
      : names.map { name in
        (name, Closeness.Summary(zip(items, closeness.cosines).compactMap { $0.kind == name ? $1 : nil }))
      }
    var done = 0.0
    func search(_ queries: Embeddings, _ documents: Embeddings) throws(Failure) -> Retrieval.Run {
      defer { done += 0.25 }
      return try Retrieval.run(queries: queries, documents: documents, labels: labels, threads: threads) {
        progress(done + $0 / 4)
      }
    }
    baseline = try search(a.queries, a.documents)
    own = try search(b.queries, b.documents)
    mixed = try search(b.queries, a.documents)
    reversed = try search(a.queries, b.documents)
    let before = (queries: a.queries, documents: a.documents)
    ordering = try Ordering(
      reference: before, candidate: (b.queries, b.documents), baseline: baseline, labels: labels, hardness: hardness,
      threads: threads)
    mixedOrdering = try Ordering(
      reference: before, candidate: (b.queries, a.documents), baseline: baseline, labels: labels, hardness: hardness,
      threads: threads)
    rankCorrelation = try Retrieval.rankCorrelation(
      reference: before, candidate: (b.queries, b.documents), threads: threads)
    spread = (try Spread(a.documents, threads: threads), try Spread(b.documents, threads: threads))
    clusters = try Clusters(reference: a.documents, candidate: b.documents, classes: classes, threads: threads)
    documents = a.documents.count
    let queries = a.queries.count
    let (first, second) = (baseline.top, own.top)
    func item(_ index: Int) -> Item {
      items.isEmpty
        ? Item(id: index < queries ? "query \(index)" : "document \(index - queries)", text: "") : items[index]
    }
    worst = closeness.cosines.enumerated().compactMap { index, cosine in cosine.map { (index, $0) } }
      .sorted { ($0.1, $0.0) < ($1.1, $1.0) }.prefix(10)
      .map { index, cosine in
        let (before, after) = index < queries ? (first[index], second[index]) : ([], [])
        return Worst(
          cosine: cosine, id: item(index).id, text: item(index).text, item: index,
          before: before.prefix(3).map { $0 + queries }, after: after.prefix(3).map { $0 + queries })
      }
    checks =
      FidelityReport.checks(closeness, baseline, [(own, ""), (mixed, ", mixed index")], spread, thresholds)
      + (divergence.map { found in
        [
          Check(
            name: "weights that stand out", estimate: Estimate(mean: [Double(found.outliers.count)]), threshold: 0,
            isLowerBound: false)
        ]
      } ?? [])
  }

  private static func checks(
    _ closeness: Closeness, _ baseline: Retrieval.Run, _ runs: [(run: Retrieval.Run, suffix: String)],
    _ spread: (reference: Spread, candidate: Spread), _ thresholds: Thresholds
  ) -> [Check] {
    // An item without an angle counts as turned around.
    var checks = [
      Check(
        name: "mean cosine", estimate: Estimate(mean: closeness.cosines.map { $0 ?? -1 }), threshold: thresholds.cosine,
        isLowerBound: true)
    ]
    for (run, suffix) in runs {
      checks.append(
        Check(
          name: "overlap of the first 10" + suffix, estimate: Estimate(mean: run.overlaps(with: baseline, at: 10)),
          threshold: thresholds.overlap, isLowerBound: true))
      for (name, k) in [("P@1", 1), ("recall@10", 10)] {
        let drops = zip(baseline.hits(at: k), run.hits(at: k)).map { $0 - $1 }
        checks.append(
          Check(
            name: "drop of \(name)\(suffix)", estimate: Estimate(mean: drops), threshold: thresholds.recallDrop,
            isLowerBound: false))
      }
    }
    let crowding = spread.candidate.meanCosine - spread.reference.meanCosine
    checks.append(
      Check(
        name: "rise of cosine between items", estimate: Estimate(mean: [crowding]), threshold: thresholds.crowding,
        isLowerBound: false))
    return checks
  }
}
