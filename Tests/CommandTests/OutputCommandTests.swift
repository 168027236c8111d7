import Bytes
import Fidelity
import Foundation
import TestSupport
import Testing

/// `--width`, `--precision` and `--outputs`, as a user runs them.
struct OutputCommandTests {
  static func words(_ index: Int) -> String {
    let words = ["hello", "world", "the", "quick", "brown", "fox", "a"]
    return "\(words[index % 7]) \(words[index / 7 % 7]) \(words[index * 3 % 7])"
  }

  /// A container, its 4-bit twin, and 40 items.
  static func directory() throws -> (directory: TemporaryDirectory, model: String, coarse: String, items: String) {
    let directory = try CommandTests.imported()
    let (m, q) = (directory.path + "/m.llv", directory.path + "/q.llv")
    #expect(try ProgramRun(["quantize", m, "--bits", "4", "-o", q]).status == 0)
    let lines = (0..<40).map { "{\"id\": \"\($0)\", \"text\": \"\(words($0))\"}" }.joined(separator: "\n")
    return (directory, m, q, try directory.write("items.jsonl", lines))
  }

  @Test("embed gives vectors as an index keeps them, and ranges beside 8-bit codes")
  func embedGivesVectorsAsAnIndexKeepsThem() throws {
    let (directory, model, _, items) = try OutputCommandTests.directory()
    func embed(_ name: String, _ more: [String]) throws -> String {
      let path = directory.path + "/" + name
      let run = try ProgramRun(["embed", model, "--input", items, "--output", path] + more)
      #expect(run.status == 0, "\(run.errors)")
      return path
    }
    let floats = try Embeddings(numPy: embed("f.npy", []))
    let values = try floats.rows(0..<40)
    for form in ["16", "float16", "int8", "binary", "20:binary", "ternary", "16:int8"] {
      let form = try VectorForm(form)
      let width = form.width.map { ["--width", String($0)] } ?? []
      let path = try embed("\(form).npy", ["--precision", form.precision.rawValue] + width)
      let ranges = try ColumnRanges(of: floats, width: form.width)
      let coding = try VectorCoding(form, columns: floats.width, ranges: ranges)
      #expect(try Array(Repository.read(path).dropFirst(NumPyHeader.count)) == coding.bytes(values), "\(form)")
      guard form.precision == .int8 else { continue }
      #expect(try ColumnRanges(numPy: path + ".ranges.npy") == ranges)
      // With the ranges, or the vectors that they are those of, every batch gives the same codes.
      for given in form.width == nil ? [path + ".ranges.npy", directory.path + "/f.npy"] : [directory.path + "/f.npy"] {
        let again = try embed("again-\(UUID()).npy", ["--precision", "int8", "--ranges", given] + width)
        #expect(try Repository.read(again) == Repository.read(path))
      }
    }
    #expect(try Repository.read(directory.path + "/items.jsonl").count > 0 && directory.names.contains("int8.npy.ids"))
    let line = try ProgramRun(["embed", model, "--precision", "binary"], input: "\"fox\"\n").output
    let bytes = try JSON.parse(Array(line.utf8)).required("embedding").elements()
    #expect(try bytes.count == 4 && bytes.allSatisfy { try (0...255).contains($0.double()) })
    for words in [
      ["--precision", "int8"], ["--width", "33"], ["--width", "0"], ["--precision", "int4"],
      ["--ranges", directory.path + "/f.npy"],
      ["--precision", "int8", "--width", "8", "--ranges", directory.path + "/int8.npy.ranges.npy"],
    ] {
      // Without input: a program that refuses its options is gone before it could be read.
      let run = try ProgramRun(["embed", model] + words)
      #expect([64, 65].contains(run.status) && run.errors.hasPrefix("llvconv: "), "\(words): \(run.errors)")
    }
  }

  @Test("compare searches an index of codes as it is, and floats in every form")
  func compareSearchesAnIndexOfCodes() throws {
    let (directory, model, coarse, items) = try OutputCommandTests.directory()
    func embed(_ model: String, _ name: String, _ more: [String] = []) throws -> String {
      let path = "\(directory.path)/\(name).npy"
      #expect(try ProgramRun(["embed", model, "--input", items, "--output", path] + more).status == 0)
      return path
    }
    let (old, new) = (try embed(model, "old"), try embed(coarse, "new"))
    let (codes, bits) = (
      try embed(model, "int8", ["--precision", "int8"]), try embed(model, "bits", ["--precision", "binary"])
    )
    let newBits = try embed(coarse, "new-bits", ["--precision", "binary"])
    let thresholds = [
      "--paired", "--allow", "few", "--min-cosine", "0", "--min-overlap", "0", "--max-recall-drop", "1",
    ]
    func compare(_ words: [String]) throws -> ProgramRun { try ProgramRun(["compare"] + words + thresholds) }
    func recall(_ report: JSON, _ key: String) throws -> Double {
      try report.required("mixed_index_retrieval").required(key).double()
    }
    let queries = ["--queries", new, "--reference-queries", old]
    let floats = try compare(["--index", old, "--outputs", "int8,binary,binary+rescore4,16"] + queries + ["--json"])
    #expect(floats.status == 0, "\(floats.errors)")
    let rows = try JSON.parse(Array(floats.output.utf8)).required("outputs").elements()
    // What the table says of a form is what an index in that form gives.
    for (index, more, row) in [(codes, ["--ranges", codes + ".ranges.npy"], 0), (bits, ["--precision", "binary"], 1)] {
      let run = try compare(["--index", index] + more + queries + ["--json"])
      #expect(run.status == 0, "\(run.errors)")
      let report = try JSON.parse(Array(run.output.utf8))
      for (key, name) in [("p_at_1", "recall_at_1"), ("recall_at_10", "recall_at_10")] {
        let wanted = try rows[row].required("mixed_index").required(name).required("value").double()
        #expect(try recall(report, key) == wanted, "\(index)")
      }
    }
    let both = try compare([
      "--index", bits, "--precision", "binary", "--queries", newBits, "--reference-queries", bits,
    ])
    #expect(both.status == 0 && both.output.contains("only codes were given"), "\(both.output)\(both.errors)")
    let again = try compare(
      ["--index", bits, "--precision", "binary", "--outputs", "binary+rescore4"] + queries)
    #expect(again.status == 0 && again.output.contains("binary+rescore4, 4 bytes *"), "\(again.output)\(again.errors)")
    for words in [
      ["--index", bits] + queries, ["--index", codes] + queries,
      ["--index", bits, "--precision", "binary", "--outputs", "int8"] + queries,
      ["--index", bits, "--precision", "binary", "--metric", "l2"] + queries,
      ["--index", bits, "--precision", "binary", "--width", "8"] + queries,
      ["--index", old, "--precision", "binary"] + queries, ["--index", old, "--outputs", "64"] + queries,
      ["--index", old, "--queries", new, "--reference-queries", codes],
      [
        "--index", bits, "--precision", "binary", "--outputs", "binary", "--queries", newBits, "--reference-queries",
        bits,
      ],
    ] {
      let run = try compare(words)
      #expect([64, 65, 69].contains(run.status) && run.errors.hasPrefix("llvconv: "), "\(words): \(run.errors)")
    }
  }

  @Test("verify crosses candidates with forms, and eval scores one")
  func verifyCrossesCandidatesWithForms() throws {
    let (directory, model, coarse, _) = try OutputCommandTests.directory()
    let data = try directory.write(
      "pairs.jsonl",
      (0..<40).map {
        "{\"query\": \"\(OutputCommandTests.words($0))\", \"positive\": \"\(OutputCommandTests.words($0)) .\"}"
      }.joined(separator: "\n"))
    let page = directory.path + "/r.html"
    let run = try ProgramRun([
      "verify", coarse, "--reference", model, "--data", data, "--allow", "few", "--max-recall-drop", "1",
      "--min-cosine", "0", "--min-overlap", "0", "--outputs", "float32,8,int8,binary+rescore4", "--report", page,
    ])
    #expect(run.status == 0 && run.output.contains("binary+rescore4, 4 bytes"), "\(run.output)\(run.errors)")
    #expect(run.output.split(separator: "\n").allSatisfy { $0.count <= 80 }, "\(run.output)")
    #expect(String(decoding: try Repository.read(page), as: UTF8.self).contains("Forms of your index"))
    for outputs in ["int5", "64", "int8,int8"] {
      let run = try ProgramRun(["verify", coarse, "--reference", model, "--data", data, "--outputs", outputs])
      #expect(run.status == 64 && run.errors.hasPrefix("llvconv: "), "\(outputs): \(run.errors)")
    }
    for form in [["--precision", "int8"], ["--precision", "binary", "--width", "16"], []] {
      let run = try ProgramRun(["eval", model, "--data", data, "--json"] + form)
      let sets = try JSON.parse(Array(run.output.utf8)).required("data_sets").elements()
      #expect(try sets[0].required("forward").required("recall_10").double() > 0, "\(form): \(run.errors)")
    }
    #expect(try ProgramRun(["eval", model, "--data", data, "--width", "33"]).status == 64)
  }
}
