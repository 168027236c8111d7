import Bytes
import Fidelity
import TestSupport
import Testing

/// What averages hide.
struct SliceTests {
  /// 300 queries that find their documents, those of some places moved elsewhere.
  static func report(
    lost: Set<Int>, change: (inout FidelityReport.Thresholds) -> Void = { _ in },
    traits: (Int) -> [FidelityReport.Trait]
  ) throws -> FidelityReport {
    let (count, width) = (300, 24)
    let vectors = OutputTests.vectors(count, count, width)
    let documents = try vectors.documents.rows(0..<count)
    let queries = documents.indices.map { place in
      lost.contains(place / width) ? documents[(place + 7 * width) % documents.count] : documents[place]
    }
    var scope = FidelityReport.Scope()
    (scope.metric, scope.hasOwnIndex) = (.cosine, false)
    var thresholds = FidelityReport.Thresholds()
    (thresholds.cosine, thresholds.overlap) = (-1, 0)
    change(&thresholds)
    return try FidelityReport(
      candidate: (.init("c"), .init(queries: Embeddings(width: width, values: queries), documents: vectors.documents)),
      reference: (.init("r"), .init(queries: vectors.documents, documents: vectors.documents)), data: "d",
      labels: OutputTests.labels(count), scope: scope,
      items: (0..<2 * count).map { .init(id: "\($0)", text: "t", traits: traits($0 % count)) }, thresholds: thresholds,
      threads: 2)
  }

  @Test("one slice that surely lost fails a candidate whose average holds, and is named first")
  func oneSliceThatSurelyLostFailsACandidate() throws {
    // Forty queries in Yoruba of which eight lose their document: .027 of all, .2 of these.
    let report = try SliceTests.report(lost: Set(0..<8), change: { $0.recallDrop = 0.05 }) {
      [.init("language", $0 < 40 ? "yo" : "en"), .init("id", String($0))]
    }
    let worst = try #require(report.slices.first)
    #expect(worst.name == "language yo" && worst.queries == 40 && abs(worst.drop.value - 0.2) < 1e-9)
    #expect(report.slices.count == 2, "what tells all items apart is no axis")
    #expect(report.verdict == .fail && report.checks.filter { $0.outcome == .fail }.map(\.area) == [.slice])
    #expect(report.headline.sentence.contains("language yo"), "\(report.headline)")
    let page = FidelityReport.page([report])
    #expect(page.contains("Slices, worst first"))
    let json = try JSON.parse(report.json.bytes()).required("slices").elements()
    #expect(try json.count == 2 && json[0].required("outcome").string() == "fail")
    let allowed = try SliceTests.report(
      lost: Set(0..<8),
      change: {
        $0.recallDrop = 0.05
        $0.sliceDrop = 0.2
      }
    ) { [.init("language", $0 < 40 ? "yo" : "en")] }
    #expect(allowed.verdict == .pass)
  }

  @Test("a slice too small to tell is said to be, and holds no verdict")
  func aSliceTooSmallToTellHoldsNoVerdict() throws {
    let report = try SliceTests.report(lost: [3]) { [.init("language", $0 < 4 ? "yo" : "en")] }
    let worst = try #require(report.slices.first { $0.trait.value == "yo" })
    #expect(worst.drop.value == 0.25 && worst.isOpen(0.05) && report.verdict == .pass)
    #expect(report.sliceNote.contains("1 too small to tell"), "\(report.sliceNote)")
    #expect(try SliceTests.report(lost: []) { _ in [.init("language", "en")] }.slices.isEmpty)
  }

  @Test("of hundreds of slices a page shows the worst, and what data call them changes nothing")
  func ofHundredsOfSlicesAPageShowsTheWorst() throws {
    let report = try SliceTests.report(lost: Set(0..<60), change: { $0.recallDrop = 1 }) {
      [.init("x", "\($0 % 150)"), .init("a, output int8", $0 < 60 ? "<b>" : "c")]
    }
    #expect(report.slices.count == 152 && report.sliceNote.contains("of 152"))
    #expect(report.slices[0].name == "a, output int8 <b>" && report.checks.contains { $0.area == .slice })
    let page = FidelityReport.page([report])
    #expect(!page.contains("<b>") || !page.contains("int8 <b>"))
    #expect(page.components(separatedBy: "scope=\"row\"").count < 60)
  }
}
