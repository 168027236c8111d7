import Bytes
import Fidelity
import Foundation
import TestSupport
import Testing

struct FidelityTests {
  static let reference = Embeddings(width: 2, values: [1, 0, 0, 1, 0.6, 0.8])

  @Test("closeness is what geometry says")
  func closenessIsWhatGeometrySays() {
    let candidate = Embeddings(width: 2, values: [0, 2, 0, 1, 0.8, 0.6])
    let closeness = Closeness(reference: FidelityTests.reference, candidate: candidate)
    #expect(zip(closeness.cosines, [0, 1, 0.96]).allSatisfy { abs(($0 ?? 9) - $1) < 1e-6 })
    #expect(abs(closeness.angle.most - 90) < 1e-5)
    #expect(abs((closeness.relativeErrors[0] ?? 0) - 5.0.squareRoot()) < 1e-6)
    #expect(closeness.cosine.least == closeness.cosine.lowest1)
  }

  @Test("a zero vector has no angle and is not counted as one")
  func aZeroVectorHasNoAngleAndIsNotCountedAsOne() {
    let candidate = Embeddings(width: 2, values: [0, 0, 0, 1, 0.6, 0.8])
    let closeness = Closeness(reference: FidelityTests.reference, candidate: candidate)
    #expect(closeness.cosines[0] == nil && closeness.cosine.count == 2)
    #expect(Closeness(reference: candidate, candidate: FidelityTests.reference).relativeErrors[0] == nil)
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
      #expect(run.overlap(with: run) == 1)
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
      candidate: ("c<script>", other), reference: ("r", base), data: "d",
      labels: (0..<3).map { .init(positive: $0, negatives: []) }, items: (0..<6).map { ("id\($0)", "text & <b>\($0)") },
      thresholds: thresholds, threads: 1)
  }

  @Test("equal vectors pass, turned ones fail, and the thresholds decide")
  func equalVectorsPassTurnedOnesFailAndTheThresholdsDecide() throws {
    #expect(try FidelityTests.report(FidelityTests.reference).passes)
    let turned = Embeddings(width: 2, values: [0, 1, 1, 0, 0.8, 0.6])
    let failing = try FidelityTests.report(turned)
    #expect(!failing.passes && failing.checks.contains { $0.name == "mean cosine" && !$0.passes })
    // A mirrored set finds the same among itself: only the mixed index shows the damage.
    #expect(failing.own.recall(at: 1) == 1 && failing.mixed.recall(at: 1) < 0.5)
    var lenient = FidelityReport.Thresholds()
    (lenient.cosine, lenient.overlap, lenient.recallDrop) = (-1, 0, 1)
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
    let page = report.html()
    #expect(page.contains("c&lt;script&gt;") && !page.contains("<script"))
    #expect(page.contains("text &amp; &lt;b&gt;") && !page.contains("http"))
    let json = try JSON.parse(report.json.bytes())
    #expect(try json.required("verdict").string() == (report.passes ? "pass" : "fail"))
  }
}
