import Bytes
import Fidelity
import Foundation
import TestSupport
import Testing

struct PageTests {
  static let (count, width) = (60, 8)

  /// Queries that find documents of their own, and nothing else near.
  static func vectors(noise: Float = 0, only places: Range<Int> = 0..<PageTests.count)
    -> FidelityReport.Vectors
  {
    var state: UInt64 = 7
    func random() -> Float {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Float(state >> 40) / Float(1 << 23) - 1
    }
    let base = (0..<count * width).map { _ in random() }
    func moved() -> Embeddings {
      let values = base.enumerated().map { $0.element + (places.contains($0.offset / width) ? noise * random() : 0) }
      return Embeddings(
        width: width,
        values: (0..<count).flatMap { row in
          let vector = values[row * width..<(row + 1) * width]
          let length = vector.reduce(0) { $0 + $1 * $1 }.squareRoot()
          return vector.map { $0 / length }
        })
    }
    return .init(queries: moved(), documents: moved())
  }

  static func report(
    _ candidate: FidelityReport.Vectors, name: String = "c.llv", bytes: Int? = nil, kinds: [String] = ["text"],
    divergence: Divergence? = nil, change: (inout FidelityReport.Thresholds) -> Void = { _ in }
  ) throws -> FidelityReport {
    var thresholds = FidelityReport.Thresholds()
    (thresholds.cosine, thresholds.overlap, thresholds.recallDrop) = (0.97, 0.75, 0.2)
    change(&thresholds)
    var subject = FidelityReport.Subject(name)
    subject.bytes = bytes
    return try FidelityReport(
      candidate: (subject, candidate), reference: (.init("r.llv"), vectors()), data: "d",
      labels: (0..<count).map { .init(positive: $0, negatives: []) },
      items: (0..<2 * count).map {
        .init(id: "id\($0)", text: "text \($0)", kind: kinds[$0 * kinds.count / count % kinds.count])
      },
      divergence: divergence, thresholds: thresholds, threads: 1)
  }

  /// Columns in another order: the same angles within, none with the reference's.
  static func turned(_ vectors: FidelityReport.Vectors) throws -> FidelityReport.Vectors {
    func turn(_ rows: Embeddings) throws -> Embeddings {
      let values = try rows.rows(0..<rows.count)
      return Embeddings(width: width, values: values.indices.map { values[$0 / width * width + ($0 + 3) % width] })
    }
    return .init(queries: try turn(vectors.queries), documents: try turn(vectors.documents))
  }

  @Test("the headline says what to do: keep, embed again, do not deploy")
  func theHeadlineSaysWhatToDo() throws {
    let same = try PageTests.report(PageTests.vectors()).headline
    #expect(same.sentence == "Keep your index: new queries find 100.0 % of the same first ten; P@1 unchanged.")
    #expect(same.next.contains("Deploy c.llv") && same.kinds == nil)
    let turned = try PageTests.report(PageTests.turned(PageTests.vectors())).headline
    #expect(turned.sentence.hasPrefix("Embed your documents again: in the old index new queries find "))
    #expect(turned.sentence.hasSuffix("in a new one 100.0 %.") && turned.next.contains("--calibration"))
    let noisy = try PageTests.report(PageTests.vectors(noise: 3)).headline
    #expect(noisy.sentence.hasPrefix("Do not deploy: even in an index of its own"))
    #expect(noisy.sentence.contains("P@1 falls"))
    #expect(noisy.next.contains("llvconv quantize --calibration"))
    let zeros = Embeddings(width: 8, values: [Float](repeating: 0, count: 480))
    #expect(
      try PageTests.report(.init(queries: zeros, documents: zeros)).headline.sentence
        == "Do not deploy: 120 of 120 items have no usable vector (zero, or not finite: something overflowed).")
    let strict = try PageTests.report(PageTests.vectors(noise: 0.02)) { $0.cosine = 0.999999 }.headline
    #expect(strict.sentence.hasPrefix("Do not deploy yet: rankings hold") && strict.next.contains("--min-cosine"))
    let crowded = try PageTests.report(PageTests.vectors()) { $0.crowding = -1 }.headline
    #expect(crowded.sentence.hasPrefix("Do not deploy: rankings hold on these data, but rise of cosine"))
  }

  @Test("a failure names the kind of item that suffered most, and kinds stand worst first")
  func aFailureNamesTheKindThatSufferedMost() throws {
    let half = PageTests.count / 2..<PageTests.count
    let report = try PageTests.report(PageTests.vectors(noise: 3, only: half), kinds: ["text", "image"])
    #expect(report.headline.kinds?.hasPrefix("Items of kind image suffered most: mean cosine ") == true)
    #expect(report.slices.map(\.trait.value) == ["image", "text"] && report.slices[0].queries == 30)
    #expect(report.slices[1].own == 1 && report.slices[0].own < 0.9)
    let alike = try PageTests.report(PageTests.turned(PageTests.vectors(noise: 0)), kinds: ["text", "image"])
    #expect(alike.slices.count == 2 && alike.headline.kinds != nil)
    #expect(try PageTests.report(PageTests.vectors(noise: 3)).headline.kinds == nil)
  }

  @Test("of several candidates the smallest that passes is to be taken")
  func ofSeveralCandidatesTheSmallestThatPassesIsToBeTaken() throws {
    let reports = [
      try PageTests.report(PageTests.vectors(), name: "large.llv", bytes: 40_000_000),
      try PageTests.report(PageTests.vectors(noise: 0.02), name: "middle.llv", bytes: 20_000_000),
      try PageTests.report(PageTests.vectors(noise: 3), name: "small.llv", bytes: 10_000_000),
    ]
    let comparison = Comparison(reports)
    #expect(comparison.headline.sentence.hasPrefix("Take middle.llv: the smallest of 2 that pass, 20.0 MB."))
    #expect(comparison.rows.map { $0.last } == ["pass", "pass", "fail"])
    #expect(comparison.rows[0] == ["large.llv", "40.0 MB", "-", "1.00000", "100.0 %", "0.0", "pass"])
    #expect(comparison.rows[2][5].hasPrefix("-"))
    #expect(Comparison([reports[2]]).headline.sentence.contains("no candidate passes"))
    let page = FidelityReport.page(reports)
    #expect(page.contains("href=\"#candidate-2\"") && page.contains("id=\"candidate-2\""))
  }

  @Test("the page says what to do, then index, ranking, model, and gives its numbers as JSON")
  func thePageSaysWhatToDoThenIndexRankingModel() throws {
    let report = try PageTests.report(PageTests.vectors(noise: 3), kinds: ["text", "video"])
    let page = FidelityReport.page([report], facts: [("command", "llvconv verify <x>")])
    let words = [
      "<h1>Do not deploy", "Your index", "in the old index", "Your ranking",
      "Queries whose first result changed in a new index", "Slices, worst first", "The model",
      "<details><summary>Items that moved furthest",
      "<details><summary>More numbers", "adjusted Rand index", "<details><summary>What the words mean",
      "Where this comes from", "llvconv verify &lt;x&gt;", "download=\"report.json\"",
    ]
    let places = try words.map { word in try #require(page.range(of: word), "\(word)").lowerBound }
    #expect(places == places.sorted())
    let tables = page.components(separatedBy: "<table").count - 1
    #expect(tables > 3 && page.components(separatedBy: "<thead").count - 1 == tables)
    let images = page.components(separatedBy: "role=\"img\"").count - 1
    #expect(images > 8 && page.components(separatedBy: "role=\"img\" aria-label=\"").count - 1 == images)
    let start = try #require(page.range(of: "data:application/json;base64,")).upperBound
    let data = try #require(Data(base64Encoded: String(page[start...].prefix { $0 != "\"" })))
    #expect(Array(data) == report.json.bytes())
  }

  @Test("values near zero do not squash a plot of layers, and its axis says different numbers")
  func valuesNearZeroDoNotSquashAPlotOfLayers() throws {
    var divergence = Divergence()
    let errors = [1e-9, 0] + (0..<30).map { 0.002 + 0.001 * Double($0) }
    divergence.layers = errors.enumerated().map {
      .init(part: "text", name: "w\($0.offset)", relativeError: $0.element, cosine: 1)
    }
    let page = FidelityReport.page([try PageTests.report(PageTests.vectors(), divergence: divergence)])
    for label in ["0.1", "1", "10"] { #expect(page.contains(">\(label)\u{A0}%</text>"), "\(label)") }
    #expect(!page.contains(">0.01\u{A0}%</text>") && page.contains("Hollow: 2 below the scale"))
    divergence.layers = [1e-9, 1e-9, 1e-9].map { .init(part: "text", name: "w", relativeError: $0, cosine: 1) }
    let tiny = FidelityReport.page([try PageTests.report(PageTests.vectors(), divergence: divergence)])
    #expect(tiny.contains(">0.001\u{A0}%</text>") && !tiny.contains(">0.0001\u{A0}%"))
  }

  @Test("pictures fill a page to a limit")
  func picturesFillAPageToALimit() throws {
    let picture = FidelityReport.Picture(isVideo: false, bytes: [UInt8](repeating: 7, count: 4 << 20))
    let page = FidelityReport.page([try PageTests.report(PageTests.vectors(noise: 3))]) { _ in [picture] }
    #expect(page.components(separatedBy: "<img").count - 1 == 6 && page.contains("not shown: the page is full"))
    #expect(page.contains("alt=\"picture of id"))
  }
}
