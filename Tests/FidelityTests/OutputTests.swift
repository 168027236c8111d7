import Bytes
import Fidelity
import Foundation
import TestSupport
import Testing

/// What an index keeps of its vectors.
struct OutputTests {
  /// Numbers of `Tools/make-output-golden`.
  struct Uniform {
    private var state: UInt64 = 7

    mutating func next(_ count: Int) -> [Float] {
      (0..<count).map { _ in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Float(state >> 40) / Float(1 << 23) - 1
      }
    }
  }

  static func vectors(_ documents: Int, _ queries: Int, _ width: Int) -> FidelityReport.Vectors {
    var uniform = Uniform()
    let index = uniform.next(documents * width)
    let noise = uniform.next(queries * width)
    return .init(
      queries: Embeddings(width: width, values: zip(index, noise).map { $0 + $1 }),
      documents: Embeddings(width: width, values: index))
  }

  static func coding(_ form: String, _ documents: Embeddings) throws -> VectorCoding {
    let form = try VectorForm(form)
    return try VectorCoding(
      form, columns: documents.width, ranges: try ColumnRanges(of: documents, width: form.width))
  }

  static func labels(_ count: Int) -> [Retrieval.Label] { (0..<count).map { .init(positive: $0, negatives: []) } }

  @Test("a form is said as it is read, and what is none is refused in a line")
  func formsAreReadAsTheyAreSaid() throws {
    for text in ["float32", "256", "int8", "float16", "256:binary", "ternary", "binary+rescore4", "64:int8+rescore100"]
    {
      #expect(try VectorForm(text).description == text)
    }
    #expect(try VectorForm("256:float32").description == "256")
    let sizes = try ["float32", "8", "float16", "int8", "binary", "9:ternary"].map {
      try VectorForm($0).bytes(columns: 20)
    }
    #expect(sizes == [80, 32, 40, 20, 3, 4])
    for text in [
      "", "0", "-1", "1.5", "٣", "256:", ":int8", "int4", "256:int8:binary", "int8+", "int8+rescore", "int8+rescore0",
      "int8+rescore101", "int8+rescore+4", "float32+rescore2", "256+rescore2", "99999999999999999999", "1048577", "+",
      "int8 ", "INT8", "int8+rescore-1", "int8\u{0}",
    ] {
      #expect(throws: Failure.self, "\(text)") { try VectorForm(text) }
    }
    #expect(try VectorForm.list("float32,256,int8").count == 3)
    for list in ["", "int8,", "int8,int8", (1...33).map(String.init).joined(separator: ",")] {
      #expect(throws: Failure.self, "\(list)") { try VectorForm.list(list) }
    }
    #expect(throws: Failure.self) { try VectorCoding(VectorForm("21"), columns: 20) }
    #expect(throws: Failure.self) { try VectorCoding(VectorForm("int8"), columns: 20) }
  }

  @Test("codes and what is found by them are sentence-transformers' with faiss and usearch")
  func codesAndSearchesAreThoseOfSentenceTransformers() throws {
    let golden = try Repository.json("Tests/Goldens/outputs.json")
    func count(_ key: String) throws -> Int { try golden.required(key).integer(in: 1...1_000) }
    let (queries, width) = (try count("queries"), try count("width"))
    let vectors = OutputTests.vectors(try count("documents"), queries, width)
    let first = try vectors.documents.rows(0..<8)
    for (name, form) in [("int8", "int8"), ("ubinary", "binary")] {
      let wanted = try golden.required("codes").required(name).elements().flatMap {
        try $0.elements().map { UInt8(truncatingIfNeeded: Int(try $0.double())) }
      }
      #expect(try OutputTests.coding(form, vectors.documents).bytes(first) == wanted)
    }
    for search in try golden.required("searches").elements() {
      let form = try search.required("form").string()
      let run = try Retrieval.run(
        queries: vectors.queries, documents: vectors.documents,
        in: OutputTests.coding(form, vectors.documents), by: .innerProduct, labels: OutputTests.labels(queries),
        threads: 2)
      let wanted = try search.required("found").elements().map { try $0.elements().map { Int(try $0.double()) } }
      #expect(run.top.map { Array($0.prefix(10)) } == wanted, "\(form)")
    }
  }

  @Test("products of bits are those of 1 and -1, on every set of instructions")
  func productsOfBitsAreThoseOfOnes() throws {
    for width in [3, 8, 20, 64, 100, 896] {
      let vectors = OutputTests.vectors(70, 9, width)
      let coding = try OutputTests.coding("binary", vectors.documents)
      func ones(_ rows: Embeddings) throws -> Embeddings {
        let rows = rows.coded(by: coding)
        return Embeddings(width: rows.width, values: try rows.rows(0..<rows.count))
      }
      let wanted = try Retrieval.run(
        queries: ones(vectors.queries), documents: ones(vectors.documents), labels: OutputTests.labels(9), threads: 1)
      for set in InstructionSets.all {
        let found = try InstructionSets.with(set) {
          try Retrieval.run(
            queries: vectors.queries, documents: vectors.documents, in: coding, by: .cosine,
            labels: OutputTests.labels(9), threads: 1)
        }
        #expect(found.top == wanted.top && found.rank == wanted.rank, "\(width) columns, set \(set)")
      }
    }
  }

  @Test("codes in a file are read as they were written; what does not fit is refused")
  func codesInFilesAreReadAsTheyWereWritten() throws {
    let directory = try TemporaryDirectory()
    let vectors = OutputTests.vectors(40, 5, 20)
    let values = try vectors.documents.rows(0..<40)
    for form in ["float16", "int8", "binary", "ternary", "12:int8", "12:binary", "16:ternary"] {
      let coding = try OutputTests.coding(form, vectors.documents)
      let (type, columns) = coding.numPyArray
      let bytes = NumPyHeader.bytes(type, rows: 40, columns: columns) + coding.bytes(values)
      let path = try directory.write("x.npy", bytes)
      let read = try Embeddings(numPy: path, codes: coding.form.precision)
      let coded = vectors.documents.coded(by: coding)
      #expect(try read.width == coded.width && read.rows(0..<40) == coded.rows(0..<40), "\(form)")
      let cut = try directory.write("cut.npy", Array(bytes.dropLast()))
      #expect(throws: Failure.self, "\(form)") { try Embeddings(numPy: cut, codes: coding.form.precision) }
      // Codes are taken for numbers nowhere.
      guard form != "float16" else { continue }
      #expect(throws: Failure.self, "\(form)") { try Embeddings(numPy: path) }
    }
    // What sentence-transformers calls binary: signed, the highest bit turned.
    let coding = try OutputTests.coding("binary", vectors.documents)
    let turned = NumPyHeader.bytes("|i1", rows: 40, columns: 3) + coding.bytes(values).map { $0 ^ 0x80 }
    let read = try Embeddings(numPy: directory.write("b.npy", turned), codes: .binary)
    #expect(try read.rows(0..<40) == vectors.documents.coded(by: coding).rows(0..<40))
    #expect(throws: Failure.self) { try Embeddings(numPy: directory.path + "/b.npy", codes: .ternary) }
    let odd = NumPyHeader.bytes("|u1", rows: 1, columns: 3) + [1, 2, 3]
    #expect(throws: Failure.self) { try Embeddings(numPy: directory.write("o.npy", odd), codes: .ternary) }
  }

  @Test("ranges are those of the columns, from vectors and from a file of two rows")
  func rangesAreThoseOfTheColumns() throws {
    let directory = try TemporaryDirectory()
    let documents = Embeddings(width: 2, values: [1, 5, -1, 5, 0, 5])
    let ranges = try ColumnRanges(of: documents)
    #expect(ranges.low == [-1, 5] && ranges.high == [1, 5])
    let file = try directory.write("r.npy", ranges.numPyFile)
    #expect(try ColumnRanges(numPy: file) == ranges)
    #expect(throws: Failure.self) { try ColumnRanges(numPy: file, width: 1) }
    // A constant column has steps of 1.
    #expect(
      try VectorCoding(VectorForm("int8"), columns: 2, ranges: ranges).bytes([0, 5, 9, 6.5]) == [255, 128, 127, 129])
    for bad: [Float] in [[.nan, 0, 1, 1], [2, 0, 1, 1]] {
      let bytes = NumPyHeader.bytes("<f4", rows: 2, columns: 2) + bad.withUnsafeBytes { Array($0) }
      #expect(throws: Failure.self) { try ColumnRanges(numPy: directory.write("bad.npy", bytes)) }
    }
    #expect(throws: Failure.self) { try ColumnRanges(of: Embeddings(width: 1, values: [.infinity])) }
  }

  static func report(_ forms: String, noise: Float, isLabelled: Bool = true) throws -> FidelityReport {
    let (count, width) = (60, 16)
    let reference = OutputTests.vectors(count, count, width)
    var other = Uniform()
    _ = other.next(2 * count * width)
    let moved = zip(try reference.queries.rows(0..<count), other.next(count * width)).map { $0 + noise * $1 }
    var scope = FidelityReport.Scope()
    (scope.isLabelled, scope.metric) = (isLabelled, .cosine)
    var thresholds = FidelityReport.Thresholds()
    (thresholds.cosine, thresholds.overlap, thresholds.recallDrop) = (-1, 0, 0.2)
    return try FidelityReport(
      candidate: (.init("c"), .init(queries: Embeddings(width: width, values: moved), documents: reference.documents)),
      reference: (.init("r"), reference), data: "d", labels: OutputTests.labels(count), scope: scope, items: [],
      outputs: VectorForm.list(forms), thresholds: thresholds, threads: 2)
  }

  @Test("a table crosses forms with the index, a check holds each, and the page plots them")
  func aTableCrossesFormsWithTheIndex() throws {
    let forms = "float32,8,int8,binary,binary+rescore4,ternary"
    let report = try OutputTests.report(forms, noise: 0.1)
    #expect(report.outputs.map(\.form.description).joined(separator: ",") == forms && report.verdict == .pass)
    let float = report.outputs[0]
    #expect(float.reference.recall10.value == report.baseline.recall(at: 10) && float.reference.overlap10.value == 1)
    #expect(float.mixed.recall10.value == report.mixed.recall(at: 10) && float.bytes == 64)
    #expect(report.outputs[4].mixed.recall1.value > report.outputs[3].mixed.recall1.value)
    #expect(report.isOnFront(report.outputs[4]) && !report.isOnFront(report.outputs[3]))
    #expect(report.checks.count { $0.area == .output } == 6)
    let json = try JSON.parse(report.json.bytes()).required("outputs").elements()
    #expect(try json.count == 6 && json[3].required("bytes").integer(in: 0...99) == 2)
    #expect(try json[5].required("mixed_index").required("recall_at_10").required("low").double() < 1)
    let page = FidelityReport.page([report])
    #expect(
      page.contains("Forms of your index") && page.contains("5. binary+rescore4")
        && page.contains("recall@10 of 6 forms"))
    #expect(try !FidelityReport.page([OutputTests.report("int8", noise: 0.1, isLabelled: false)]).contains("int8: nan"))
    // Queries of another space fail in each form.
    let lost = try OutputTests.report("float32,binary", noise: 30)
    #expect(lost.checks.filter { $0.area == .output }.allSatisfy { $0.outcome == .fail } && lost.verdict == .fail)
  }
}
