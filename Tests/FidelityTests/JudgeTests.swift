import Bytes
import Fidelity
import Testing

/// What a verdict is worth: intervals, thresholds that follow the encoding, and draws from data whose truth is known.
struct JudgeTests {
  struct Generator {
    var state: UInt64

    mutating func next() -> Double {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Double(state >> 11) * 0x1p-53
    }

    /// A sum of twelve is near enough to a bell.
    mutating func normal() -> Float { Float((0..<12).reduce(0.0) { sum, _ in sum + next() } - 6) }
  }

  @Test("the interval of paired differences is Agresti and Min's, and no change among few is no proof")
  func theIntervalOfPairedDifferences() {
    let none = Estimate(differences: [Double](repeating: 0, count: 30))
    // ± 1.959964 · sqrt(1 / 32) / sqrt(32)
    #expect(none.value == 0 && abs(none.high - 1.959964 / 32) < 1e-9 && none.low == -none.high)
    let some = Estimate(differences: [1, 1, 1, -1] + [Double](repeating: 0, count: 96))
    // (3 - 1) / 102 ± 1.959964 · sqrt(5 / 102 - (2 / 102)²) / sqrt(102)
    #expect(some.value == 0.02 && abs(some.low - -0.02317) < 1e-4 && abs(some.high - 0.06239) < 1e-4)
    #expect(Estimate(differences: []).value.isNaN)
    let all = Estimate(differences: [1, 1])
    #expect(all.high == 1 && all.low > -1)
  }

  /// Documents at random, queries near theirs, and a candidate whose queries are moved by `noise`.
  static func data(_ count: Int, noise: Float) -> (old: Embeddings, new: Embeddings, documents: Embeddings) {
    var generator = Generator(state: 7)
    let width = 16
    func bell(_ count: Int) -> [Float] { (0..<count * width).map { _ in generator.normal() } }
    let documents = bell(count)
    let old = zip(documents, bell(count)).map { $0 + 0.5 * $1 }
    let new = zip(old, bell(count)).map { $0 + noise * $1 }
    return (
      Embeddings(width: width, values: old), Embeddings(width: width, values: new),
      Embeddings(width: width, values: documents)
    )
  }

  static func drops(_ data: (old: Embeddings, new: Embeddings, documents: Embeddings)) throws -> Double {
    let labels = (0..<data.old.count).map { Retrieval.Label(positive: $0, negatives: []) }
    let documents = data.documents.ranked(by: .cosine, isQuery: false)
    func run(_ queries: Embeddings) throws -> Retrieval.Run {
      try Retrieval.run(
        queries: queries.ranked(by: .cosine, isQuery: true), documents: documents, labels: labels, threads: 2)
    }
    let (a, b) = (try run(data.old), try run(data.new))
    return max(a.recall(at: 1) - b.recall(at: 1), a.recall(at: 10) - b.recall(at: 10))
  }

  @Test("random draws of queries seldom give a wrong verdict", arguments: [(0.1, false), (0.5, true), (0.9, true)])
  func randomDrawsSeldomGiveAWrongVerdict(_ noise: Double, _ isBad: Bool) throws {
    let all = JudgeTests.data(600, noise: Float(noise))
    let truth = try JudgeTests.drops(all)
    #expect((truth > 0.02) == isBad, "\(truth)")
    var scope = FidelityReport.Scope()
    (scope.hasOwnIndex, scope.metric) = (false, .cosine)
    var thresholds = FidelityReport.Thresholds()
    (thresholds.cosine, thresholds.overlap) = (-1, 0)
    var generator = Generator(state: 3)
    var wrong = 0
    for draw in 0..<30 {
      var places = Array(0..<all.old.count)
      for i in places.indices { places.swapAt(i, i + Int(generator.next() * Double(places.count - i))) }
      let chosen = Array(places.prefix(draw % 2 == 0 ? 60 : 200))
      let documents = all.documents
      func vectors(_ queries: Embeddings) throws -> FidelityReport.Vectors {
        .init(
          queries: Embeddings(width: queries.width, values: try queries.rows(at: chosen)), documents: documents)
      }
      let report = try FidelityReport(
        candidate: (.init("c"), try vectors(all.new)), reference: (.init("r"), try vectors(all.old)), data: "d",
        labels: chosen.map { .init(positive: $0, negatives: []) }, scope: scope, items: [], thresholds: thresholds,
        threads: 2)
      if report.verdict == (isBad ? .pass : .fail) { wrong += 1 }
    }
    #expect(wrong <= 1, "\(wrong) of 30 at a true loss of \(truth)")
  }

  @Test("a candidate that rounds less is held to more, and labels that find nothing are no evidence")
  func aCandidateThatRoundsLessIsHeldToMore() throws {
    let data = JudgeTests.data(120, noise: 0.02)
    let same = FidelityReport.Vectors(queries: data.old, documents: data.documents)
    let moved = FidelityReport.Vectors(queries: data.new, documents: data.documents)
    func report(_ error: Double?, _ shift: Int = 0) throws -> FidelityReport {
      var divergence = Divergence()
      divergence.rounding = error.map { (0, $0) }
      return try FidelityReport(
        candidate: (.init("c"), moved), reference: (.init("r"), same), data: "d",
        labels: (0..<120).map { .init(positive: ($0 + shift) % 120, negatives: []) }, items: [],
        divergence: error == nil ? nil : divergence, thresholds: .init(), threads: 2)
    }
    func threshold(_ report: FidelityReport) -> Double { report.checks[0].threshold }
    for error in [nil, 0.08] { #expect(threshold(try report(error)) == 0.97) }
    #expect(abs(threshold(try report(0.005)) - (1 - 0.001 - 10 * 0.005 * 0.005)) < 1e-9)
    #expect(try report(nil).notMeasured == ["the inside of the models: weights, settings, layers"])
    #expect(try report(nil).remarks.isEmpty)
    #expect(try report(nil, 5).remarks.map(\.kind) == [.labels])
  }

  @Test("distance and angle rank as their definitions say")
  func distanceAndAngleRankAsTheirDefinitionsSay() throws {
    let documents = Embeddings(width: 2, values: [10, 0, 1, 1, 0.5, 0, 0, 3])
    let query = Embeddings(width: 2, values: [0.9, 0.1])
    func order(_ metric: Metric) throws -> [Int] {
      try Retrieval.run(
        queries: query.ranked(by: metric, isQuery: true), documents: documents.ranked(by: metric, isQuery: false),
        labels: [.init(positive: 0, negatives: [])], threads: 1
      ).top[0]
    }
    #expect(try order(.innerProduct) == [0, 1, 2, 3])
    #expect(try order(.cosine) == [0, 2, 1, 3])
    #expect(try order(.l2) == [2, 1, 3, 0])
  }

  @Test("errors beyond an encoding and rows that stand out are found, ordinary rounding is not")
  func errorsBeyondAnEncodingAreFound() {
    func weight(_ difference: (Int) -> Double, explained: Double) -> Divergence.Weight {
      let rows = (0..<40).map { TensorDifference.Row(squares: 1, difference: difference($0)) }
      let judged = Divergence.judged(rows, explained: [Double](repeating: explained, count: 40))
      return .init(
        name: "w", encoding: "int8 g32", bits: 8.5, bytes: 1, relativeError: 0.1, cosine: 1, judged: judged)
    }
    var divergence = Divergence()
    divergence.weights = [
      weight({ _ in 2e-4 }, explained: 1e-4), weight({ _ in 1e-3 }, explained: 1e-4),
      weight({ _ in .nan }, explained: 1e-4), weight({ _ in 1e-12 }, explained: 0),
    ]
    #expect(divergence.outliers.count == 2 && divergence.rowOutliers.isEmpty)
    for (squares, difference, rest) in [(0, 0, 0), (0, 1, Double.infinity), (.nan, .nan, .infinity)] {
      #expect(Divergence.judged([.init(squares: squares, difference: difference)], explained: nil).rest == rest)
    }
    divergence.weights = [weight({ $0 == 7 || $0 == 9 ? 2 : 1e-4 }, explained: 1e-4)]
    #expect(abs(divergence.weights[0].explained - 0.01) < 1e-9 && divergence.outliers.isEmpty)
    #expect(divergence.rowOutliers.map(\.row.row) == [7, 9])
    #expect(divergence.findings.contains { $0.contains("row 7 of weight w is off by 141.4 %, the others by 1.00 %") })
  }
}
