import Bytes

/// Numbers that compare a candidate with its reference on labelled pairs, and a verdict.
public struct FidelityReport: Sendable {
  /// What the verdict asks for.
  public struct Thresholds: Sendable {
    /// Mean cosine of an item's two vectors, at least; nil for what the candidate's encoding claims.
    public var cosine: Double?
    /// Mean share of the reference's first ten documents that the candidate has among its own, at least; nil as above.
    public var overlap: Double?
    /// How much lower P@1 and recall@10 may be than the reference's.
    public var recallDrop = 0.02
    /// How much lower P@1 of the queries that have something in common may be.
    public var sliceDrop = 0.05
    /// How much higher the mean cosine of two different items may be than the reference's.
    public var crowding = 0.05
    /// What is only said where it would keep a candidate from passing.
    public var allowed: Set<Remark.Kind> = []
    /// Fewer queries or documents decide nothing: any ranking of so few documents holds most of the first ten.
    public static let leastQueries = 30
    public static let leastDocuments = 50

    public init() {}

    /// Any candidate is held to these, and one that rounds little to more: by `1 - cosine ≤ 10 ε² + a`, where ε is the
    /// relative error of its linear weights that their encodings explain, and a is .001, or .006 where inputs are
    /// rounded too. Measured candidates lose 3 to 4 ε² (Docs/measurements/fidelity.md).
    func resolved(_ divergence: Divergence?) -> (cosine: Double, overlap: Double) {
      var (loosest, overlapLoss) = (0.03, 0.25)
      if let divergence, let error = divergence.rounding?.candidate, !divergence.hasFewerTokens {
        loosest = min(loosest, 10 * error * error + (divergence.roundsInputs ? 0.006 : 0.001))
        overlapLoss = min(overlapLoss, 5 * error + (divergence.roundsInputs ? 0.1 : 0.03))
      }
      return (cosine ?? 1 - loosest, overlap ?? 1 - overlapLoss)
    }
  }

  /// What was compared.
  public struct Scope: Sendable {
    /// Whether somebody said what each query should find; otherwise it is what the reference finds first.
    public var isLabelled = true
    /// Whether the candidate embedded the documents too. Otherwise its queries search the reference's index alone, and
    /// what is said of its own index is said of that one.
    public var hasOwnIndex = true
    /// Whether models made the vectors here; otherwise somebody gave them.
    public var hasModels = true
    /// What searches rank by.
    public var metric = Metric.innerProduct
    /// How queries are coded where the index holds codes; then codes are ranked by their product.
    public var coding: VectorCoding?
    /// Whether queries are codes too, whose angles say little of those of their vectors.
    public var hasCodedQueries = false

    public init() {}

    /// Vectors as searches multiply them, coded where the index holds codes.
    public func ranked(_ vectors: Vectors, by metric: Metric) -> (queries: Embeddings, documents: Embeddings) {
      func side(_ vectors: Embeddings, isQuery: Bool) -> Embeddings {
        (coding.map(vectors.coded) ?? vectors).ranked(by: metric, isQuery: isQuery)
      }
      return (side(vectors.queries, isQuery: true), side(vectors.documents, isQuery: false))
    }
  }

  /// One line of the verdict.
  public struct Check: Sendable {
    public let name: String
    public let estimate: Estimate
    public let threshold: Double
    /// Whether the value must be at least the threshold, or at most.
    public let isLowerBound: Bool

    public init(name: String, estimate: Estimate, threshold: Double, isLowerBound: Bool) {
      (self.name, self.estimate, self.threshold, self.isLowerBound) = (name, estimate, threshold, isLowerBound)
    }

    public var value: Double { estimate.value }
    public var passes: Bool { outcome == .pass }

    /// By the whole interval: where it holds the threshold, other data of this kind may say otherwise. A value that is
    /// undefined passes nothing.
    public var outcome: Verdict {
      guard !value.isNaN else { return .fail }
      let (worst, best) = isLowerBound ? (estimate.low, estimate.high) : (-estimate.high, -estimate.low)
      let asked = isLowerBound ? threshold : -threshold
      return worst >= asked ? .pass : best < asked ? .fail : .inconclusive
    }

    /// How many times as much data would decide, were its mean this one's: intervals shrink with the root of it. nil
    /// where the check is decided, or a thousand times as much would not do.
    public var neededFactor: Double? {
      let distance = abs(value - threshold)
      guard outcome == .inconclusive, distance > 0 else { return nil }
      let reach = value > threshold ? value - estimate.low : estimate.high - value
      let factor = (reach / distance) * (reach / distance)
      return factor < 1_000 ? max(1, factor) : nil
    }
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
  public let scope: Scope
  public let data: String
  public let closeness: Closeness
  /// What items with something in common lost, worst first.
  public let slices: [Slice]
  /// What a slice may lose.
  public let sliceDrop: Double
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
  /// Forms in which the index may keep vectors, as far as somebody asked.
  public let outputs: [Output]
  public let worst: [Worst]
  public let documents: Int
  public let checks: [Check]
  /// Id and text of every query, then of every document.
  let items: [Item]
  /// What keeps the evidence from carrying a verdict, and what is only said.
  public let remarks: [Remark]
  /// What explains vectors that are not the reference's, where somebody looked for it; the likeliest first.
  public let causes: [Diagnosis.Cause]

  /// What nobody looked at.
  public var notMeasured: [String] {
    (scope.hasOwnIndex ? [] : ["the candidate's own index: its documents were not embedded"])
      + (scope.isLabelled ? [] : ["whether the right document is found: no query says which that is"])
      + (scope.hasCodedQueries ? ["how far vectors moved: only codes were given"] : [])
      + (divergence == nil ? ["the inside of the models: weights, settings, layers"] : [])
      + (scope.hasModels ? [] : ["size and speed: only vectors were given"])
  }

  /// A check that fails decides; evidence that does not carry a verdict keeps a candidate from passing.
  public var verdict: Verdict {
    if checks.contains(where: { $0.outcome == .fail }) { return .fail }
    return checks.allSatisfy(\.passes) && remarks.allSatisfy(\.isAllowed) ? .pass : .inconclusive
  }
  public var passes: Bool { verdict == .pass }

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
    /// At most one on each axis.
    let traits: [Trait]

    /// - Parameters:
    ///   - kind: `text`, `image`, `text and image`, `video`.
    ///   - traits: what else it has in common with others.
    public init(id: String, text: String, kind: String = "text", traits: [Trait] = []) {
      self.id = id
      self.text = text
      self.traits = [Trait(Trait.kind, kind)] + traits
    }
  }

  /// - Parameters:
  ///   - items: every query, then every document; empty where nothing is known but their places.
  ///   - classes: of the documents, to hold clusters to.
  ///   - outputs: forms in which the mixed index is searched too.
  ///   - ranges: of 8-bit codes among them; nil for those of the reference's documents.
  ///   - remarks: what is known of models and data that keeps them from being evidence.
  ///   - checks: what else is asked for.
  ///   - causes: what explains vectors that are not the reference's.
  public init(
    candidate: (subject: Subject, vectors: Vectors), reference: (subject: Subject, vectors: Vectors), data: String,
    labels: [Retrieval.Label], scope: Scope = Scope(), items: [Item], classes: [String?] = [],
    divergence: Divergence? = nil, outputs forms: [VectorForm] = [], ranges: ColumnRanges? = nil,
    remarks: [Remark] = [], checks more: [Check] = [], causes: [Diagnosis.Cause] = [], thresholds: Thresholds,
    hardness: Hardness = Hardness(), threads: Int, progress: (Double) -> Void = { _ in }
  ) throws(Failure) {
    (self.candidate, self.reference) = (candidate.subject, reference.subject)
    (self.data, self.items, self.divergence, self.scope) = (data, items, divergence, scope)
    let (a, b) = (reference.vectors, candidate.vectors)
    let width = a.queries.width
    guard b.queries.width == width else {
      throw Failure(.malformed, "the candidate's vectors have \(b.queries.width) columns, the reference's \(width)")
    }
    let closeness = try Closeness(
      [(a.queries, b.queries)]
        + (scope.hasOwnIndex && a.documents.codes == nil ? [(a.documents, b.documents)] : []))
    self.closeness = closeness
    var done = 0.0
    func search(_ queries: Embeddings, _ documents: Embeddings) throws(Failure) -> Retrieval.Run {
      let share = scope.hasOwnIndex ? 0.25 : 0.5
      defer { done += share }
      return try Retrieval.run(queries: queries, documents: documents, labels: labels, threads: threads) {
        progress(done + $0 * share)
      }
    }
    let (before, after) = (scope.ranked(a, by: scope.metric), scope.ranked(b, by: scope.metric))
    baseline = try search(before.queries, before.documents)
    mixed = try search(after.queries, before.documents)
    own = scope.hasOwnIndex ? try search(after.queries, after.documents) : mixed
    slices = FidelityReport.slices(items, closeness, baseline: baseline, own: own, mixed: mixed)
    sliceDrop = thresholds.sliceDrop
    reversed = scope.hasOwnIndex ? try search(before.queries, after.documents) : baseline
    outputs = try FidelityReport.outputs(
      forms, ranges: ranges, reference: a, candidate: b, scope: scope, baseline: baseline, labels: labels,
      threads: threads)
    // Hardness is a weight by cosines, which products of codes are not.
    let (old, new) =
      scope.coding == nil ? (before, after) : (scope.ranked(a, by: .cosine), scope.ranked(b, by: .cosine))
    ordering = try Ordering(
      reference: old, candidate: new, baseline: baseline, labels: labels, hardness: hardness, threads: threads)
    mixedOrdering = try Ordering(
      reference: old, candidate: (new.queries, old.documents), baseline: baseline, labels: labels, hardness: hardness,
      threads: threads)
    rankCorrelation = try Retrieval.rankCorrelation(
      reference: before, candidate: after, threads: threads)
    spread = (try Spread(a.documents, threads: threads), try Spread(b.documents, threads: threads))
    clusters =
      scope.hasOwnIndex
      ? try Clusters(reference: a.documents, candidate: b.documents, classes: classes, threads: threads) : nil
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
      FidelityReport.checks(
        closeness, baseline, (scope.hasOwnIndex ? [(own, "")] : []) + [(mixed, ", mixed index")], scope, spread,
        thresholds,
        thresholds.resolved(divergence))
      + FidelityReport.checks(outputs, scope, thresholds) + FidelityReport.checks(slices, thresholds)
      + (divergence.map { FidelityReport.checks($0, thresholds) } ?? []) + more
    self.causes = causes
    self.remarks = (remarks + FidelityReport.remarks(baseline, scope, documents: documents)).map { remark in
      var remark = remark
      remark.isAllowed = thresholds.allowed.contains(remark.kind)
      return remark
    }
  }

  private static func checks(
    _ closeness: Closeness, _ baseline: Retrieval.Run, _ runs: [(run: Retrieval.Run, suffix: String)],
    _ scope: Scope, _ spread: (reference: Spread, candidate: Spread), _ thresholds: Thresholds,
    _ least: (cosine: Double, overlap: Double)
  ) -> [Check] {
    // An item without an angle counts as turned around.
    var checks: [Check] = []
    if !scope.hasCodedQueries {
      checks.append(
        Check(
          name: "mean cosine", estimate: Estimate(mean: closeness.cosines.map { $0 ?? -1 }), threshold: least.cosine,
          isLowerBound: true))
    }
    for (run, suffix) in runs {
      checks.append(
        Check(
          name: "overlap of the first 10" + suffix, estimate: Estimate(mean: run.overlaps(with: baseline, at: 10)),
          threshold: least.overlap, isLowerBound: true))
      // Without labels the reference's first document is the right one by definition, and overlap counts how often it
      // moves.
      let depths = [("drop of P@1", 1), ("drop of recall@10", 10)].filter { scope.isLabelled || $0.1 > 1 }
      for (name, k) in depths {
        let drops = zip(baseline.hits(at: k), run.hits(at: k)).map { $0 - $1 }
        checks.append(
          Check(
            name: (scope.isLabelled ? name : "first found lost from the first 10") + suffix,
            estimate: Estimate(differences: drops), threshold: thresholds.recallDrop, isLowerBound: false))
      }
    }
    guard scope.hasOwnIndex else { return checks }
    let crowding = spread.candidate.meanCosine - spread.reference.meanCosine
    checks.append(
      Check(
        name: "rise of cosine between items", estimate: Estimate(mean: [crowding]), threshold: thresholds.crowding,
        isLowerBound: false))
    return checks
  }

  /// What a look inside must not find.
  private static func checks(_ divergence: Divergence, _ thresholds: Thresholds) -> [Check] {
    func none(_ name: String, _ count: Int) -> Check {
      Check(name: name, estimate: Estimate(mean: [Double(count)]), threshold: 0, isLowerBound: false)
    }
    let settings = divergence.settings.count { $0.explanation == nil }
    return [
      none("damaged tensors", divergence.outliers.count),
      none("damaged rows", divergence.rowOutliers.count),
    ] + (thresholds.allowed.contains(.settings) ? [] : [none("settings that differ", settings)])
  }

  /// What the data are too few or too poor for.
  private static func remarks(_ baseline: Retrieval.Run, _ scope: Scope, documents: Int) -> [Remark] {
    var result: [Remark] = []
    let queries = baseline.rank.count
    if queries < Thresholds.leastQueries || documents < Thresholds.leastDocuments {
      result.append(
        Remark(
          .few,
          "\(queries) queries and \(documents) documents decide nothing: at least \(Thresholds.leastQueries) and "
            + "\(Thresholds.leastDocuments) are needed, and a few hundred of each to see a loss of 2 %"))
    }
    // Found by chance: ten of all documents.
    let chance = 10 / Double(documents)
    if scope.isLabelled, queries > 0, Estimate(mean: baseline.hits(at: 10)).high < min(0.5, 3 * chance) {
      result.append(
        Remark(
          .labels,
          "the reference itself finds \((baseline.recall(at: 10) * 100).fixed(1)) % of the positives among its first "
            + "10, "
            + "little more than chance: are the pairs' labels right?"))
    }
    return result
  }
}
