import Bytes

/// Scores of one data set, computed from its embeddings.
public struct BenchmarkScore: Sendable {
  public let name: String
  public let task: String?
  public let queries: Int
  /// Share of queries whose most similar candidate is the right one; a tie with it counts as right (MMEB's
  /// precision@1).
  public let accuracy: Double?
  /// For searches: queries in targets, and targets in queries.
  public let forward, backward: Ranks?
  /// Mean cosine of two different items. Near 1 the encoder says the same of everything, and ties make any score.
  public let meanCosine: Double

  public var isCollapsed: Bool { !(meanCosine < 0.99) }

  /// Places of the right answers, from 1; equals of a right answer do not push it back.
  public struct Ranks: Sendable {
    public let ranks: [Int]

    public func recall(at k: Int) -> Double { Double(ranks.count { $0 <= k }) / Double(max(1, ranks.count)) }
    public var mean: Double { Double(ranks.reduce(0, +)) / Double(max(1, ranks.count)) }
    public var median: Double {
      let sorted = ranks.sorted()
      guard !sorted.isEmpty else { return .nan }
      let middle = sorted.count / 2
      return sorted.count % 2 == 1 ? Double(sorted[middle]) : Double(sorted[middle - 1] + sorted[middle]) / 2
    }
  }

  /// Queries with candidates of their own, the right one first.
  ///
  /// - Parameter form: what is kept of vectors; ranges of 8-bit codes are those of all items.
  public init(
    name: String, task: String?, items: Embeddings, form: VectorForm = VectorForm(),
    choices: [(query: Int, candidates: [Int])]
  ) throws(Failure) {
    let rows = try Rows(items, form)
    self.name = name
    self.task = task
    queries = choices.count
    let right = choices.count { choice in
      let scores = choice.candidates.map { rows.dot(choice.query, $0) }
      return scores.allSatisfy { $0 <= scores[0] }
    }
    accuracy = Double(right) / Double(max(1, choices.count))
    (forward, backward) = (nil, nil)
    meanCosine = rows.meanCosine
  }

  /// Every query searched among all targets; a target with several queries counts as found by the best of them.
  public init(
    name: String, task: String?, items: Embeddings, form: VectorForm = VectorForm(),
    searches: [(query: Int, target: Int)]
  ) throws(Failure) {
    let rows = try Rows(items, form)
    self.name = name
    self.task = task
    queries = searches.count
    accuracy = nil
    var targets: [Int] = []
    var places: [Int: Int] = [:]
    for search in searches where places[search.target] == nil {
      places[search.target] = targets.count
      targets.append(search.target)
    }
    var forward: [Int] = []
    // Best similarity of each target to the queries of each target: [targets, targets].
    var best = [[Float]](repeating: [Float](repeating: -.infinity, count: targets.count), count: targets.count)
    for search in searches {
      let scores = targets.map { rows.dot(search.query, $0) }
      let own = places[search.target] ?? 0
      forward.append(1 + scores.count { $0 > scores[own] })
      for (target, score) in scores.enumerated() { best[target][own] = max(best[target][own], score) }
    }
    self.forward = Ranks(ranks: forward)
    backward = Ranks(ranks: best.enumerated().map { own, scores in 1 + scores.count { $0 > scores[own] } })
    meanCosine = rows.meanCosine
  }

  /// All vectors in memory.
  private struct Rows {
    let width: Int
    let values: [Float]
    /// From the length of the sum of vectors as they are; NaN where a vector holds one, 0 for a single item.
    let meanCosine: Double

    init(_ items: Embeddings, _ form: VectorForm) throws(Failure) {
      let all = try items.rows(0..<items.count)
      meanCosine = Rows.meanCosine(all, items.width)
      let ranges = form.precision == .int8 ? try ColumnRanges(of: items, width: form.width) : nil
      let coding = try VectorCoding(form, columns: items.width, ranges: ranges)
      (width, values) = (coding.width, coding.coded(all))
    }

    private subscript(row: Int) -> ArraySlice<Float> { values[row * width..<(row + 1) * width] }

    func dot(_ a: Int, _ b: Int) -> Float { zip(self[a], self[b]).reduce(0) { $0 + $1.0 * $1.1 } }

    private static func meanCosine(_ values: [Float], _ width: Int) -> Double {
      let count = Double(values.count / width)
      guard count > 1 else { return 0 }
      var sum = [Double](repeating: 0, count: width)
      for (place, value) in values.enumerated() { sum[place % width] += Double(value) }
      return (sum.reduce(0) { $0 + $1 * $1 } - count) / (count * (count - 1))
    }
  }
}

/// Scores of several data sets with the means that MMEB reports (Jiang et al. 2024): unweighted over data sets.
public struct Benchmark: Sendable {
  public let scores: [BenchmarkScore]

  public init(_ scores: [BenchmarkScore]) { self.scores = scores }

  /// The 36 data sets of MMEB: task, whether it was seen in training, name.
  static let mmeb: [(task: String, isSeen: Bool, names: [String])] = [
    ("classification", true, ["ImageNet-1K", "N24News", "HatefulMemes", "VOC2007", "SUN397"]),
    ("classification", false, ["Place365", "ImageNet-A", "ImageNet-R", "ObjectNet", "Country211"]),
    ("vqa", true, ["OK-VQA", "A-OKVQA", "DocVQA", "InfographicsVQA", "ChartQA", "Visual7W"]),
    ("vqa", false, ["ScienceQA", "VizWiz", "GQA", "TextVQA"]),
    (
      "retrieval", true,
      ["VisDial", "CIRR", "VisualNews_t2i", "VisualNews_i2t", "MSCOCO_t2i", "MSCOCO_i2t", "NIGHTS", "WebQA"]
    ),
    ("retrieval", false, ["FashionIQ", "Wiki-SS-NQ", "OVEN", "EDIS"]),
    ("grounding", true, ["MSCOCO"]), ("grounding", false, ["RefCOCO", "RefCOCO-Matching", "Visual7W-Pointing"]),
  ]

  /// What MMEB says of a data set; nil for others.
  static func known(_ name: String) -> (task: String, isSeen: Bool)? {
    mmeb.first { $0.names.contains(name) }.map { ($0.task, $0.isSeen) }
  }

  /// The task of a score: what its file says, or MMEB.
  static func task(_ score: BenchmarkScore) -> String? { score.task ?? known(score.name)?.task }

  /// Mean accuracy over the data sets that hold; nil when none does.
  public func mean(_ holds: (BenchmarkScore) -> Bool = { _ in true }) -> Double? {
    let values = scores.filter(holds).compactMap(\.accuracy)
    return values.isEmpty ? nil : values.reduce(0, +) / Double(values.count)
  }

  /// Means over tasks, over data sets seen and not seen in training, and over all, in the order reported.
  public var means: [(name: String, value: Double, dataSets: Int)] {
    var rows: [(name: String, value: Double, dataSets: Int)] = []
    func add(_ name: String, _ holds: (BenchmarkScore) -> Bool) {
      guard let value = mean(holds) else { return }
      rows.append((name, value, scores.count { holds($0) && $0.accuracy != nil }))
    }
    let tasks = scores.compactMap(Benchmark.task)
    for task in tasks.enumerated().filter({ tasks.firstIndex(of: $1) == $0 }).map(\.element) {
      add(task) { Benchmark.task($0) == task }
    }
    add("IND") { Benchmark.known($0.name)?.isSeen == true }
    add("OOD") { Benchmark.known($0.name)?.isSeen == false }
    add("overall") { _ in true }
    return rows
  }

  public var isCollapsed: Bool { scores.contains(where: \.isCollapsed) }
}
