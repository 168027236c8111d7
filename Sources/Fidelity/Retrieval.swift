import Bytes
import Synchronization

/// What queries find in an index, and how that compares with what the reference finds.
public struct Retrieval: Sendable {
  /// How deep rankings are compared.
  public static let depth = 10

  /// One search of all queries in all documents.
  public struct Run: Sendable {
    /// The first `depth` documents of each query, best first. Equal similarities: the earlier document.
    public let top: [[Int]]
    /// Place of each query's positive, from 1: one more than the documents before it.
    public let rank: [Int]
    /// Whether the positive is more similar than every one of the query's own negatives; nil where it has none.
    public let beatsNegatives: [Bool?]

    /// Share of queries whose positive is among the first `k`.
    public func recall(at k: Int) -> Double {
      rank.isEmpty ? .nan : Double(rank.count { $0 <= k }) / Double(rank.count)
    }

    /// Share of queries with negatives of their own whose positive beats them all; nil when no query has any.
    public var negativesBeaten: Double? {
      let known = beatsNegatives.compactMap { $0 }
      return known.isEmpty ? nil : Double(known.count { $0 }) / Double(known.count)
    }

    /// Mean share of the first `depth` documents that both runs have.
    public func overlap(with other: Run) -> Double {
      let shares = zip(top, other.top).map { a, b in
        a.isEmpty ? 1 : Double(Set(a).intersection(b).count) / Double(a.count)
      }
      return shares.isEmpty ? .nan : shares.reduce(0, +) / Double(shares.count)
    }
  }

  /// What each query should find: a row of the documents, and rows that it should not.
  public struct Label: Sendable {
    public let positive: Int
    public let negatives: [Int]

    public init(positive: Int, negatives: [Int]) {
      self.positive = positive
      self.negatives = negatives
    }
  }

  /// Searches exactly, by dot product.
  /// - Cost: queries × documents × width, in parallel over queries; a row of similarities for each thread.
  public static func run(
    queries: Embeddings, documents: Embeddings, labels: [Label], threads: Int
  ) throws(Failure) -> Run {
    precondition(queries.count == labels.count, "a label for each query")
    let results = Mutex([(top: [Int], rank: Int, beats: Bool?)](repeating: ([], 0, nil), count: queries.count))
    try parallel(queries.count, threads: threads) { task in
      let similarities = documents.similarities(to: queries[task])
      let label = labels[task]
      let own = similarities[label.positive]
      let before = similarities.indices.count {
        similarities[$0] > own || (similarities[$0] == own && $0 < label.positive)
      }
      let beats = label.negatives.isEmpty ? nil : label.negatives.allSatisfy { similarities[$0] < own }
      let result = (best(similarities, depth), before + 1, beats)
      results.withLock { $0[task] = result }
    }
    let all = results.withLock { $0 }
    return Run(top: all.map(\.top), rank: all.map(\.rank), beatsNegatives: all.map(\.beats))
  }

  /// Indices of the `count` largest values, largest first; of equals the earlier.
  static func best(_ values: [Float], _ count: Int) -> [Int] {
    var top: [Int] = []
    for (index, value) in values.enumerated() {
      if top.count == count, let last = top.last, values[last] >= value { continue }
      let place = top.firstIndex { values[$0] < value } ?? top.count
      top.insert(index, at: place)
      if top.count > count { top.removeLast() }
    }
    return top
  }

  /// Mean over queries of Spearman's ρ between the two similarity lists of a query over all documents: whether the whole
  /// order of the index survives, not only its head. Over at most `sample` queries and documents, evenly spread.
  public static func rankCorrelation(
    reference: (queries: Embeddings, documents: Embeddings), candidate: (queries: Embeddings, documents: Embeddings),
    threads: Int, sample: Int = 1_000
  ) throws(Failure) -> Double {
    let queries = spread(reference.queries.count, sample)
    let documents = spread(reference.documents.count, 2 * sample)
    guard documents.count > 1, !queries.isEmpty else { return .nan }
    let values = Mutex([Double](repeating: 0, count: queries.count))
    try parallel(queries.count, threads: threads) { task in
      let query = queries[task]
      let a = reference.documents.similarities(to: reference.queries[query])
      let b = candidate.documents.similarities(to: candidate.queries[query])
      let correlation = spearman(documents.map { a[$0] }, documents.map { b[$0] })
      values.withLock { $0[task] = correlation }
    }
    return values.withLock { $0.reduce(0, +) / Double($0.count) }
  }

  private static func spread(_ count: Int, _ most: Int) -> [Int] {
    count <= most ? Array(0..<count) : (0..<most).map { $0 * count / most }
  }

  /// Spearman's ρ: Pearson's correlation of the ranks, equal values sharing the mean of theirs. NaN when one list is
  /// constant.
  static func spearman(_ a: [Float], _ b: [Float]) -> Double {
    let (x, y) = (ranks(a), ranks(b))
    let mean = Double(a.count + 1) / 2
    var (xy, xx, yy) = (0.0, 0.0, 0.0)
    for (p, q) in zip(x, y) {
      xy += (p - mean) * (q - mean)
      xx += (p - mean) * (p - mean)
      yy += (q - mean) * (q - mean)
    }
    return xy / (xx * yy).squareRoot()
  }

  private static func ranks(_ values: [Float]) -> [Double] {
    let order = values.indices.sorted { (values[$0], $0) < (values[$1], $1) }
    var ranks = [Double](repeating: 0, count: values.count)
    var start = 0
    while start < order.count {
      var end = start
      while end < order.count, values[order[end]] == values[order[start]] { end += 1 }
      for place in start..<end { ranks[order[place]] = Double(start + end + 1) / 2 }
      start = end
    }
    return ranks
  }
}
