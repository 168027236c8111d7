import Bytes
import Fidelity
import Foundation
import TestSupport
import Testing

struct FidelityTests {
  static let reference = Embeddings(width: 2, values: [1, 0, 0, 1, 0.6, 0.8])

  @Test("closeness is what geometry says")
  func closenessIsWhatGeometrySays() throws {
    let candidate = Embeddings(width: 2, values: [0, 2, 0, 1, 0.8, 0.6])
    let closeness = try Closeness([(FidelityTests.reference, candidate)])
    #expect(zip(closeness.cosines, [0, 1, 0.96]).allSatisfy { abs(($0 ?? 9) - $1) < 1e-6 })
    #expect(abs(closeness.angle.most - 90) < 1e-5)
    #expect(abs((closeness.relativeErrors[0] ?? 0) - 5.0.squareRoot()) < 1e-6)
    #expect(closeness.cosine.least == closeness.cosine.lowest1)
  }

  @Test("a zero vector has no angle and is not counted as one")
  func aZeroVectorHasNoAngleAndIsNotCountedAsOne() throws {
    let candidate = Embeddings(width: 2, values: [0, 0, 0, 1, 0.6, 0.8])
    let closeness = try Closeness([(FidelityTests.reference, candidate)])
    #expect(closeness.cosines[0] == nil && closeness.cosine.count == 2)
    #expect(try Closeness([(candidate, FidelityTests.reference)]).relativeErrors[0] == nil)
  }

  @Test("retrieval counts ranks, ties and negatives")
  func retrievalCountsRanksTiesAndNegatives() throws {
    let documents = Embeddings(width: 2, values: [1, 0, 0.9, 0.1, 0, 1, 1, 0])
    let queries = Embeddings(width: 2, values: [1, 0, 1, 0, 0, 1])
    let labels: [Retrieval.Label] = [
      .init(positive: 3, negatives: [1]), .init(positive: 0, negatives: [3]), .init(positive: 2, negatives: []),
    ]
    for threads in [1, 3] {
      let run = try Retrieval.run(queries: queries, documents: documents, labels: labels, threads: threads)
      // Documents 0 and 3 are equal: the earlier comes first.
      #expect(run.rank == [2, 1, 1] && run.top[0] == [0, 3, 1, 2])
      #expect(abs(run.recall(at: 1) - 2.0 / 3) < 1e-9 && run.recall(at: 2) == 1)
      #expect(run.beatsNegatives == [true, false, nil] && run.negativesBeaten == 0.5)
      #expect(run.overlaps(with: run, at: 10) == [1, 1, 1])
    }
  }

  @Test("rank correlation is scipy's")
  func rankCorrelationIsScipyS() throws {
    for row in try Repository.json("Tests/Goldens/statistics.json").elements() {
      func floats(_ key: String) throws -> [Float] { try row.required(key).elements().map { Float(try $0.double()) } }
      let (a, b) = (try floats("a"), try floats("b"))
      // One query of width 1, documents whose similarities are the list.
      let one = Embeddings(width: 1, values: [1])
      let found = try Retrieval.rankCorrelation(
        reference: (one, Embeddings(width: 1, values: a)), candidate: (one, Embeddings(width: 1, values: b)), threads: 1
      )
      #expect(abs(found - (try row.required("spearman").double())) < 1e-9)
    }
  }

  static func report(_ candidate: Embeddings, _ thresholds: FidelityReport.Thresholds = .init()) throws
    -> FidelityReport
  {
    let base = FidelityReport.Vectors(queries: FidelityTests.reference, documents: FidelityTests.reference)
    let other = FidelityReport.Vectors(queries: candidate, documents: candidate)
    return try FidelityReport(
      candidate: (.init("c<script>"), other), reference: (.init("r"), base), data: "d",
      labels: (0..<3).map { .init(positive: $0, negatives: []) },
      items: (0..<6).map { .init(id: "id\($0)", text: "text & <b>\($0)") },
      thresholds: thresholds, threads: 1)
  }

  @Test("equal vectors pass, turned ones fail, and the thresholds decide")
  func equalVectorsPassTurnedOnesFailAndTheThresholdsDecide() throws {
    // Three queries prove nothing.
    let same = try FidelityTests.report(FidelityTests.reference)
    #expect(same.verdict == .inconclusive && same.checks.allSatisfy { $0.outcome != .fail })
    #expect(same.remarks.map(\.kind) == [.few] && same.checks.contains { ($0.neededFactor ?? 0) > 20 })
    let turned = Embeddings(width: 2, values: [0, 1, 1, 0, 0.8, 0.6])
    let failing = try FidelityTests.report(turned)
    #expect(failing.verdict == .fail && failing.checks.contains { $0.name == "mean cosine" && $0.outcome == .fail })
    // A mirrored set finds the same among itself: only the mixed index shows the damage.
    #expect(failing.own.recall(at: 1) == 1 && failing.mixed.recall(at: 1) < 0.5)
    var lenient = FidelityReport.Thresholds()
    (lenient.cosine, lenient.overlap, lenient.recallDrop) = (-1, 0, 1)
    #expect(try FidelityTests.report(turned, lenient).verdict == .inconclusive)
    lenient.allowed = [.few]
    #expect(try FidelityTests.report(turned, lenient).passes)
  }

  @Test("an undefined number passes nothing")
  func anUndefinedNumberPassesNothing() throws {
    let zero = Embeddings(width: 2, values: [0, 0, 0, 0, 0, 0])
    #expect(try !FidelityTests.report(zero).passes)
  }

  @Test("the page stands alone, escapes what it shows, and the JSON parses")
  func thePageStandsAloneEscapesWhatItShowsAndTheJSONParses() throws {
    let report = try FidelityTests.report(Embeddings(width: 2, values: [1, 0, 0, 1, 0.8, 0.6]))
    let page = FidelityReport.page([report, report])
    #expect(page.contains("c&lt;script&gt;") && !page.contains("<script"))
    #expect(page.contains("text &amp; &lt;b&gt;") && !page.contains("http"))
    let json = try JSON.parse(report.json.bytes())
    #expect(try json.required("verdict").string() == report.verdict.rawValue)
  }

  @Test("the hardness-weighted loss and its gradients are PyTorch's")
  func theHardnessWeightedLossAndItsGradientsArePyTorchS() throws {
    for row in try Repository.json("Tests/Goldens/hardness.json").elements() {
      func numbers(_ key: String) throws -> [Double] { try row.required(key).elements().map { try $0.double() } }
      let width = try row.required("width").integer(in: 1...100)
      func vectors(_ key: String) throws -> Embeddings {
        Embeddings(width: width, values: try numbers(key).map { Float($0) })
      }
      let rows = try row.required("first").integer(in: 0...9)..<row.required("last").integer(in: 0...9)
      let loss = try Hardness(alpha: try row.required("alpha").double())
        .loss(queries: vectors("queries"), targets: vectors("targets"), rows: rows)
      #expect(abs(loss.value - (try row.required("value").double())) < 1e-9)
      for (found, key) in [(loss.queries, "query_gradient"), (loss.targets, "target_gradient")] {
        #expect(zip(found, try numbers(key)).allSatisfy { abs($0 - $1) < 1e-6 })
      }
    }
    // The published example (scale 50, alpha 9): similarities themselves, by queries that are the axes.
    let axes = Embeddings(width: 3, values: [1, 0, 0, 0, 1, 0, 0, 0, 1])
    let targets = Embeddings(width: 3, values: [0.8, 0.4, 0, 0.5, 0.7, 0.3, 0.1, 0.2, 0.6])
    #expect(abs(try Hardness().loss(queries: axes, targets: targets).value - 6.8697418e-4) < 1e-9)
    #expect(abs(try Hardness(alpha: 0).loss(queries: axes, targets: targets).value - 7.7204695e-6) < 1e-11)
  }

  @Test("a collapsed encoder is seen, and clusters of equal vectors agree")
  func aCollapsedEncoderIsSeenAndClustersOfEqualVectorsAgree() throws {
    var state: UInt64 = 1
    func random() -> Float {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Float(state >> 40) / Float(1 << 23) - 1
    }
    let ball = Embeddings(width: 8, values: (0..<800).map { _ in random() })
    let same = Embeddings(width: 8, values: (0..<800).map { $0 % 8 == 0 ? 1 : 0 })
    let (wide, none) = (try Spread(ball, threads: 2), try Spread(same, threads: 1))
    #expect(abs(wide.meanCosine) < 0.05 && wide.dimensions > 6.5 && wide.dimensions <= 8)
    #expect(none.meanCosine > 0.999 && none.dimensions == 0)
    let clusters = try #require(try Clusters(reference: ball, candidate: ball, threads: 2))
    #expect(clusters.agreement == 1 && clusters.count == 7 && clusters.stability < 1)
    let labelled = try #require(
      try Clusters(reference: ball, candidate: same, classes: (0..<100).map { "c\($0 % 3)" }, threads: 1))
    #expect(labelled.agreement < 0.1 && labelled.vMeasure?.candidate == 0)
  }

  @Test("the interval of a mean holds it, and shrinks with more values")
  func theIntervalOfAMeanHoldsItAndShrinksWithMoreValues() {
    let few = Estimate(mean: (0..<100).map { $0 % 2 == 0 ? 1 : 0 })
    let many = Estimate(mean: (0..<30_000).map { $0 % 2 == 0 ? 1 : 0 })
    #expect(few.value == 0.5 && few.low > 0.37 && few.low < 0.43 && few.high > 0.57 && few.high < 0.63)
    #expect(many.low > 0.49 && many.high < 0.51 && Estimate(mean: []).value.isNaN)
  }
}
