import Bytes
import Glibc

/// How much retrieval loses when vectors move from where a reference put them.
public enum Objective: Sendable, Hashable {
  /// Mean squared distance of an item's two vectors, `2 (1 - cosine)`.
  case mse
  /// Mean square of the change of a query's contrastive loss (InfoNCE), the positive among all documents.
  case infonce
  /// Mean over queries of the weighted mean square of what a margin, the positive's similarity less another document's,
  /// changes by. A document weighs by its hardness: the softmax of `(scale + α) · similarity`, from the reference.
  case margin(alpha: Double)

  public var text: String {
    switch self {
    case .mse: "mse"
    case .infonce: "infonce"
    case .margin(let alpha): "margin, alpha \(alpha == alpha.rounded() ? String(Int(alpha)) : String(alpha))"
    }
  }

  /// Which document is a query's: by place. Queries and documents may be the same items.
  public struct Labels: Sendable {
    public var positives: [Int]
    /// Documents that are not among a query's negatives: itself.
    var excluded: [Int?]

    public init(positives: [Int]) {
      self.positives = positives
      excluded = positives.map { _ in nil }
    }

    /// Without labels: items search each other, and what the reference finds first is right.
    public init(nearest items: Embeddings) throws(Failure) {
      positives = []
      excluded = []
      let packed = try PackedRows(items.rows(0..<items.count), width: items.width)
      for item in 0..<items.count {
        let similarities = Objective.similarities(try items.rows(item..<item + 1), packed)
        positives.append(
          similarities.indices.filter { $0 != item }.max { similarities[$0] < similarities[$1] } ?? item)
        excluded.append(item)
      }
    }
  }

  /// - Parameters:
  ///   - reference, moved: queries and documents before and after.
  ///   - scale: `1 / τ` of the contrastive loss and of hardness.
  /// - Cost: `queries · documents · width` products, twice.
  public func cost(
    reference: (queries: Embeddings, documents: Embeddings), moved: (queries: Embeddings, documents: Embeddings),
    labels: Labels, scale: Double = 50
  ) throws(Failure) -> Double {
    if case .mse = self {
      var sum = 0.0
      for (a, b) in [(reference.queries, moved.queries), (reference.documents, moved.documents)] {
        for (x, y) in zip(try a.rows(0..<a.count), try b.rows(0..<b.count)) {
          sum += (Double(x) - Double(y)) * (Double(x) - Double(y))
        }
      }
      return sum / Double(reference.queries.count + reference.documents.count)
    }
    let (before, after) = (
      try PackedRows(reference.documents.rows(0..<reference.documents.count), width: reference.documents.width),
      try PackedRows(moved.documents.rows(0..<moved.documents.count), width: moved.documents.width)
    )
    var total = 0.0
    for query in 0..<reference.queries.count {
      let rows = query..<query + 1
      let was = Objective.similarities(try reference.queries.rows(rows), before)
      let now = Objective.similarities(try moved.queries.rows(rows), after)
      let positive = labels.positives[query]
      let others = was.indices.filter { $0 != positive && $0 != labels.excluded[query] }
      switch self {
      case .mse: break
      case .infonce:
        let change =
          Objective.loss(others.map { now[$0] - now[positive] }, scale)
          - Objective.loss(others.map { was[$0] - was[positive] }, scale)
        total += change * change
      case .margin(let alpha):
        let weights = Hardness(scale: scale, alpha: alpha).weights(others.map { was[$0] })
        total +=
          Ordering.margins(
            [was[positive]] + others.map { was[$0] }, [now[positive]] + others.map { now[$0] }, weights
          ).distortion
      }
    }
    return total / Double(max(1, reference.queries.count))
  }

  /// `log(1 + Σ exp(scale · excess))`.
  private static func loss(_ excesses: [Double], _ scale: Double) -> Double {
    let most = max(0, excesses.max() ?? 0)
    return scale * most + log(exp(-scale * most) + excesses.reduce(0) { $0 + exp(scale * ($1 - most)) })
  }

  private static func similarities(_ query: [Float], _ documents: PackedRows) -> [Double] {
    query.withUnsafeBufferPointer { $0.baseAddress.map { documents.products(with: $0).map(Double.init) } ?? [] }
  }
}
