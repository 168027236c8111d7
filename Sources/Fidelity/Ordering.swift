import Bytes
import Glibc

/// What becomes of the order of the documents that matter to a query: the reference's first 20, its positive, and its
/// own negatives. Negatives count by their hardness, from the reference's similarities.
public struct Ordering: Sendable {
  /// For each query Kendall's τ-b between the two orders of the reference's first 20; nil where one is constant.
  public let kendall: [Double?]
  /// For each query the share of pairs of those 20 whose order is reversed, each pair weighted by the product of its
  /// documents' weights.
  public let flips: [Double]
  /// For each query the weighted mean square of what a margin, the positive's similarity less a negative's, changes by.
  public let distortion: [Double]
  /// For each query the weighted share of negatives that the positive beat, and no longer does.
  public let overtaken: [Double]

  /// - Parameters:
  ///   - candidate: whose queries search whose documents; the reference's documents for an index that was built before.
  ///   - baseline: the reference's own search.
  public init(
    reference: (queries: Embeddings, documents: Embeddings), candidate: (queries: Embeddings, documents: Embeddings),
    baseline: Retrieval.Run, labels: [Retrieval.Label], hardness: Hardness = Hardness(), threads: Int
  ) throws(Failure) {
    let all = Lock([Query?](repeating: nil, count: baseline.top.count))
    try parallel(baseline.top.count, threads: threads) { (query) throws(Failure) in
      let top = baseline.top[query]
      let (positive, negatives) = (labels[query].positive, labels[query].negatives)
      var seen: Set = [positive]
      let others = (top + negatives).filter { seen.insert($0).inserted }
      func similarities(_ side: (queries: Embeddings, documents: Embeddings), _ places: [Int]) throws(Failure)
        -> [Double]
      {
        try Retrieval.similarities(side.queries.rows(query..<query + 1), side.documents, places).map(Double.init)
      }
      let (was, now) = (
        try similarities(reference, [positive] + others), try similarities(candidate, [positive] + others)
      )
      let heads = (try similarities(reference, top), try similarities(candidate, top))
      let result = Query(was, now, heads.0, heads.1, hardness)
      all.withLock { $0[query] = result }
    }
    let queries = all.withLock { $0 }
    kendall = queries.map { $0?.kendall }
    flips = queries.map { $0?.flips ?? 0 }
    distortion = queries.map { $0?.distortion ?? 0 }
    overtaken = queries.map { $0?.overtaken ?? 0 }
  }

  private struct Query: Sendable {
    let kendall: Double?
    let flips, distortion, overtaken: Double

    /// Similarities before and after: of the positive and its negatives, and of the reference's first documents.
    init(_ was: [Double], _ now: [Double], _ a: [Double], _ b: [Double], _ hardness: Hardness) {
      let weights = hardness.weights(Array(was.dropFirst()))
      (distortion, overtaken) = Ordering.margins(was, now, weights)
      let own = hardness.weights(a)
      var (same, reversed, tiedA, tiedB) = (0, 0, 0, 0)
      var (flipped, mass) = (0.0, 0.0)
      for i in a.indices {
        for j in i + 1..<max(a.count, i + 1) {
          let (x, y) = (a[i] - a[j], b[i] - b[j])
          mass += own[i] * own[j]
          if x * y < 0 {
            reversed += 1
            flipped += own[i] * own[j]
          } else if x * y > 0 {
            same += 1
          }
          if x == 0 { tiedA += 1 }
          if y == 0 { tiedB += 1 }
        }
      }
      let pairs = a.count * (a.count - 1) / 2
      let scale = (Double(pairs - tiedA) * Double(pairs - tiedB)).squareRoot()
      kendall = scale > 0 ? Double(same - reversed) / scale : nil
      flips = mass > 0 ? flipped / mass : 0
    }
  }

  /// Weighted mean square of the change of a positive's margins, and the weighted share that turned from won to lost.
  ///
  /// - Parameters:
  ///   - was, now: similarities of the positive, then of the negatives.
  ///   - weights: of the negatives, adding up to 1.
  static func margins(_ was: [Double], _ now: [Double], _ weights: [Double]) -> (distortion: Double, overtaken: Double)
  {
    var (distortion, overtaken) = (0.0, 0.0)
    for (place, weight) in weights.enumerated() {
      let (before, after) = (was[0] - was[place + 1], now[0] - now[place + 1])
      distortion += weight * (after - before) * (after - before)
      if before > 0, after <= 0 { overtaken += weight }
    }
    return (distortion, overtaken)
  }
}
