import Bytes

/// What queries find in an index, and how that compares with what the reference finds.
public struct Retrieval: Sendable {
  /// How deep rankings are kept where nobody says otherwise.
  public static let depth = 20

  /// One search of all queries in all documents.
  public struct Run: Sendable {
    /// The first `depth` documents of each query, best first. Equal similarities: the earlier document.
    public let top: [[Int]]
    /// Place of each query's positive, from 1: one more than the documents before it.
    public let rank: [Int]
    /// Whether the positive is more similar than every one of the query's own negatives; nil where it has none.
    public let beatsNegatives: [Bool?]

    /// 1 for each query whose positive is among the first `k`, else 0.
    public func hits(at k: Int) -> [Double] { rank.map { $0 <= k ? 1 : 0 } }

    /// Share of queries whose positive is among the first `k`.
    public func recall(at k: Int) -> Double {
      rank.isEmpty ? .nan : Double(rank.count { $0 <= k }) / Double(rank.count)
    }

    init(top: [[Int]], rank: [Int], beatsNegatives: [Bool?]) {
      (self.top, self.rank, self.beatsNegatives) = (top, rank, beatsNegatives)
    }

    /// Of queries that cannot search at all.
    public init(findingNothing queries: Int) {
      self.init(
        top: [[Int]](repeating: [], count: queries), rank: [Int](repeating: Int.max, count: queries),
        beatsNegatives: [Bool?](repeating: nil, count: queries))
    }

    /// The same of some of the queries.
    subscript(queries: Range<Int>) -> Run {
      Run(top: Array(top[queries]), rank: Array(rank[queries]), beatsNegatives: Array(beatsNegatives[queries]))
    }

    /// Share of queries with negatives of their own whose positive beats them all; nil when no query has any.
    public var negativesBeaten: Double? {
      let known = beatsNegatives.compactMap { $0 }
      return known.isEmpty ? nil : Double(known.count { $0 }) / Double(known.count)
    }

    /// For each query the share of the other run's first `k` documents that this one has among its own.
    public func overlaps(with other: Run, at k: Int) -> [Double] {
      zip(top, other.top).map { a, b in
        let (a, b) = (a.prefix(k), b.prefix(k))
        return b.isEmpty ? 1 : Double(Set(a).intersection(b).count) / Double(b.count)
      }
    }
  }

  /// What a query should find: a row of the documents, and rows that it should not.
  public struct Label: Sendable {
    public let positive: Int
    public let negatives: [Int]

    public init(positive: Int, negatives: [Int]) {
      self.positive = positive
      self.negatives = negatives
    }
  }

  private static let queriesAtATime = 1_024
  private static let documentsAtATime = 4_096
  private static let queriesPerTask = 48

  /// Searches exactly, by dot product.
  ///
  /// - Parameters:
  ///   - labels: one for each query.
  ///   - depth: how many documents of each ranking are kept.
  /// - Cost: queries × documents × width products, in parallel over queries. Some
  ///   thousand rows of each are worked on at a time. Of bits 64 products are one step.
  public static func run(
    queries: Embeddings, documents: Embeddings, labels: [Label], depth: Int = Retrieval.depth, threads: Int,
    progress: (Double) -> Void = { _ in }
  ) throws(Failure) -> Run {
    precondition(queries.count == labels.count, "a label for each query")
    precondition(queries.width == documents.width, "vectors of one width")
    let width = queries.width
    let isBits = queries.isBits && documents.isBits
    let states = Lock([Search](repeating: Search(depth: depth), count: queries.count))
    for first in stride(from: 0, to: queries.count, by: queriesAtATime) {
      let block = first..<min(queries.count, first + queriesAtATime)
      let x = try queries.rows(block)
      let rows = try QueryRows(queries, block, x, isBits: isBits)
      try parallel(block.count, threads: threads) { (place) throws(Failure) in
        let label = labels[first + place]
        let similarities = try similarities(
          Array(x[place * width..<(place + 1) * width]), documents, [label.positive] + label.negatives)
        let start = Search(positive: label.positive, similarities: similarities, depth: depth)
        states.withLock { $0[first + place] = start }
      }
      for start in stride(from: 0, to: documents.count, by: documentsAtATime) {
        let part = start..<min(documents.count, start + documentsAtATime)
        let packed = try Packed(documents, part, isBits: isBits, threads: threads)
        try parallel(Checked.ceilDivide(block.count, queriesPerTask), threads: threads) { task in
          let own = task * queriesPerTask..<min(block.count, (task + 1) * queriesPerTask)
          var searches = states.withLock { Array($0[first + own.lowerBound..<first + own.upperBound]) }
          packed.products(with: rows, own) { column, columns, products, stride in
            for row in 0..<own.count { searches[row].add(products + row * stride, columns, from: start + column) }
          }
          let done = searches
          states.withLock { $0.replaceSubrange(first + own.lowerBound..<first + own.upperBound, with: done) }
        }
        progress(
          (Double(first) + Double(part.upperBound) / Double(documents.count) * Double(block.count))
            / Double(queries.count))
      }
    }
    let all = states.withLock { $0 }
    return Run(top: all.map { $0.top.map(\.place) }, rank: all.map(\.rank), beatsNegatives: all.map(\.beatsNegatives))
  }

  /// Dot products of a query with some documents: the same bits as in a search.
  static func similarities(_ query: [Float], _ documents: Embeddings, _ places: [Int]) throws(Failure) -> [Float] {
    let packed = try PackedRows(documents.rows(at: places), width: documents.width)
    return query.withUnsafeBufferPointer { $0.baseAddress.map { packed.products(with: $0) } ?? [] }
  }

  /// Queries as they are multiplied: numbers `[rows, width]`, or words of bits.
  private struct QueryRows: Sendable {
    let numbers: [Float]
    let bits: [UInt64]
    let width: Int

    init(_ queries: Embeddings, _ rows: Range<Int>, _ numbers: [Float], isBits: Bool) throws(Failure) {
      self.numbers = numbers
      width = queries.width
      bits = isBits ? PackedBits.words(of: try queries.bits(rows), width: width) : []
    }
  }

  /// Documents to multiply with, read and packed in parallel.
  private struct Packed: Sendable {
    private enum Part: Sendable {
      case numbers(PackedRows), bits(PackedBits)
    }

    private static let rowsInPart = 512
    private let parts: [Part]

    init(_ documents: Embeddings, _ rows: Range<Int>, isBits: Bool, threads: Int) throws(Failure) {
      let count = Checked.ceilDivide(rows.count, Packed.rowsInPart)
      let parts = Lock([Part?](repeating: nil, count: count))
      try parallel(count, threads: threads) { (place) throws(Failure) in
        let first = rows.lowerBound + place * Packed.rowsInPart
        let own = first..<min(rows.upperBound, first + Packed.rowsInPart)
        let part: Part =
          isBits
          ? .bits(PackedBits(try documents.bits(own), width: documents.width))
          : .numbers(try PackedRows(documents.rows(own), width: documents.width))
        parts.withLock { $0[place] = part }
      }
      self.parts = parts.withLock { $0 }.compactMap { $0 }
    }

    /// Products of some queries with each panel, as `PackedRows` gives them.
    func products(
      with queries: QueryRows, _ rows: Range<Int>,
      _ body: (_ first: Int, _ columns: Int, _ products: UnsafePointer<Float>, _ stride: Int) -> Void
    ) {
      for (place, part) in parts.enumerated() {
        Packed.products(of: part, with: queries, rows) { first, columns, products, stride in
          body(place * Packed.rowsInPart + first, columns, products, stride)
        }
      }
    }

    private static func products(
      of part: Part, with queries: QueryRows, _ rows: Range<Int>,
      _ body: (_ first: Int, _ columns: Int, _ products: UnsafePointer<Float>, _ stride: Int) -> Void
    ) {
      switch part {
      case .numbers(let packed):
        queries.numbers.withUnsafeBufferPointer { x in
          guard let base = x.baseAddress else { return }
          packed.products(with: base + rows.lowerBound * queries.width, rows: rows.count, body)
        }
      case .bits(let packed):
        queries.bits.withUnsafeBufferPointer { x in
          guard let base = x.baseAddress else { return }
          packed.products(with: base + rows.lowerBound * PackedBits.words(queries.width), rows: rows.count, body)
        }
      }
    }
  }

  /// What is known of one query's search.
  private struct Search: Sendable {
    private(set) var top: [(place: Int, similarity: Float)] = []
    private(set) var beatsNegatives: Bool?
    private var positive = 0
    private var own: Float = 0
    private var before = 0
    private let depth: Int
    var rank: Int { before + 1 }

    init(depth: Int) { self.depth = depth }

    /// - Parameter similarities: of the positive, then of the negatives.
    init(positive: Int, similarities: [Float], depth: Int) {
      (self.positive, self.depth) = (positive, depth)
      own = similarities[0]
      beatsNegatives = similarities.count < 2 ? nil : similarities.dropFirst().allSatisfy { [own] in $0 < own }
    }

    /// Documents `first ..< first + count`.
    mutating func add(_ similarities: UnsafePointer<Float>, _ count: Int, from first: Int) {
      for index in 0..<count {
        let (value, place) = (similarities[index], first + index)
        // What is not a number finds nothing.
        if !(value <= own) || (value == own && place < positive) { before += 1 }
        if top.count == depth, let last = top.last, !(value > last.similarity) { continue }
        let at = top.firstIndex { $0.similarity < value } ?? top.count
        top.insert((place, value), at: at)
        if top.count > depth { top.removeLast() }
      }
    }
  }

  // MARK: Whole lists

  /// Mean over queries of Spearman's ρ between the two similarity lists of a query over all documents: whether the
  /// whole order of the index survives, not only its head. Over at most `sample` queries and twice as many documents,
  /// evenly spread.
  public static func rankCorrelation(
    reference: (queries: Embeddings, documents: Embeddings), candidate: (queries: Embeddings, documents: Embeddings),
    threads: Int, sample: Int = 1_000
  ) throws(Failure) -> Double {
    func lists(_ side: (queries: Embeddings, documents: Embeddings)) throws(Failure) -> (
      queries: [Float], documents: PackedRows
    ) {
      let (queries, documents) = (try side.queries.sample(sample), try side.documents.sample(2 * sample))
      return (
        try queries.rows(0..<queries.count),
        try PackedRows(documents.rows(0..<documents.count), width: documents.width, threads: threads)
      )
    }
    let (width, count) = (reference.queries.width, min(sample, reference.queries.count))
    let (a, b) = (try lists(reference), try lists(candidate))
    guard a.documents.count > 1, count > 0 else { return .nan }
    let values = Lock([Double](repeating: 0, count: count))
    try parallel(count, threads: threads) { query in
      let correlation = a.queries.withUnsafeBufferPointer { x in
        b.queries.withUnsafeBufferPointer { y in
          guard let x = x.baseAddress, let y = y.baseAddress else { return Double.nan }
          return spearman(a.documents.products(with: x + query * width), b.documents.products(with: y + query * width))
        }
      }
      values.withLock { $0[query] = correlation }
    }
    return values.withLock { $0.reduce(0, +) / Double($0.count) }
  }

  /// Spearman's ρ: Pearson's correlation of the ranks, equal values sharing the mean of theirs. NaN when one list is
  /// constant or holds NaN.
  static func spearman(_ a: [Float], _ b: [Float]) -> Double {
    guard !a.contains(where: \.isNaN), !b.contains(where: \.isNaN) else { return .nan }
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
