import Bytes
import Foundation
import TestSupport
import Testing

/// Models that are no container, where a model is only read: imported on the way.
struct DirectModelTests {
  private static func verdict(_ run: ProgramRun) throws -> JSON { try JSON.parse(Array(run.output.utf8)) }

  private static let loose = ["--allow", "few,labels", "--max-recall-drop", "1", "--json"]

  @Test("verify takes folders and a safetensors file on either side, and writes nothing beside them")
  func verifyTakesWhatUsersHave() throws {
    var tiny = TinyBert()
    // MLX has no groups of 16.
    tiny.intermediate = 64
    let directory = try CommandTests.imported(tiny)
    let (path, data) = (directory.path, try directory.write("pairs.jsonl", CommandTests.pairs))
    let (c, mlx) = (path + "/ct", path + "/mlx")
    for (format, choice, out) in [("compressed-tensors", "W8A16", c), ("mlx", "8:g32:affine", mlx)] {
      let words = ["export", path + "/m.llv", "--to", format, "--weights", choice, "-o", out]
      #expect(try ProgramRun(words).status == 0)
    }
    let before = directory.names
    let inside = try FileManager.default.contentsOfDirectory(atPath: path + "/model").sorted()
    for candidate in [c, mlx, path + "/model/model.safetensors"] {
      let run = try ProgramRun(
        ["verify", candidate, "--reference", path + "/model", "--data", data] + DirectModelTests.loose)
      let report = try DirectModelTests.verdict(run)
      let isSame = candidate.hasSuffix(".safetensors")
      #expect(run.status == (isSame ? 2 : 0), "\(candidate): \(run.output) \(run.errors)")
      #expect(run.output.contains("nothing was compared") == isSame)
      let divergence = try report.required("divergence")
      #expect(try divergence.required("weights").elements().count >= 12, "\(candidate)")
      #expect(try divergence.required("layers").elements().count >= 12, "\(candidate)")
    }
    #expect(directory.names == before)
    #expect(try FileManager.default.contentsOfDirectory(atPath: path + "/model").sorted() == inside)
  }

  @Test("embed and eval give of a folder what they give of its container, and keep nothing")
  func embedAndEvalGiveTheSame() throws {
    let directory = try CommandTests.imported()
    let path = directory.path
    let items = "{\"text\":\"hello world\"}\n{\"text\":\"fox\"}\n"
    let folder = try ProgramRun(["embed", path + "/model"], input: items)
    #expect(folder.status == 0, "\(folder.errors)")
    #expect(try folder.output == ProgramRun(["embed", path + "/m.llv"], input: items).output)
    let data = try directory.write("pairs.jsonl", CommandTests.pairs)
    let scores = try ["/m.llv", "/model/", "/model/model.safetensors"].map {
      try ProgramRun(["eval", path + $0, "--data", data, "--json"]).output
    }
    #expect(scores.allSatisfy { $0.contains("recall_1") && $0 == scores[0] }, "\(scores)")
    #expect(directory.names == ["m.llv", "m.llv.cache", "model", "pairs.jsonl"])
  }

  @Test("the tower of a GGUF pair lies beside it or is named, and layers with added columns are compared")
  func theTowerOfAPairIsFound() throws {
    let directory = try PictureCommandTests.imported()
    let path = directory.path
    let (m, g, tower) = (path + "/m.llv", path + "/g.gguf", path + "/g-mmproj.gguf")
    #expect(try ProgramRun(["export", m, "--to", "gguf", "--type", "Q8_0", "-o", g]).status == 0)
    #expect(try ProgramRun(["export", m, "--to", "hf", "-o", path + "/hf"]).status == 0)
    let data = try directory.write("pairs.jsonl", CommandTests.pairs)
    func verify(_ words: [String]) throws -> ProgramRun {
      try ProgramRun(["verify"] + words + ["--reference", m, "--data", data] + DirectModelTests.loose)
    }
    let beside = try verify([g])
    #expect(beside.status == 0 && beside.errors.contains("g-mmproj.gguf, which lies beside it"), "\(beside.errors)")
    // transformers' layout has other names, and its configuration says less: weights and layers compare all the same.
    let other = try DirectModelTests.verdict(try verify([path + "/hf"])).required("divergence")
    let errors = try other.required("layers").elements().map { try $0.required("relative_error").double() }
    #expect(try errors.count > 8 && other.required("weights").elements().count > 20)
    try FileManager.default.moveItem(atPath: tower, toPath: path + "/t.gguf")
    let alone = try verify([g])
    #expect(alone.status == 64 && alone.errors.contains("of the kind qwen2"), "\(alone.errors)")
    let named = try verify([g, "--mmproj", path + "/t.gguf"])
    #expect(named.status == 0 && named.output == beside.output, "\(named.errors)")
    let several = try verify([g, m, "--mmproj", path + "/t.gguf"])
    #expect(several.status == 64 && several.errors.contains("is for one candidate"), "\(several.errors)")
    let container = try verify([m, "--mmproj", path + "/t.gguf"])
    #expect(container.status == 64 && container.errors.contains("goes with a GGUF text model"), "\(container.errors)")
    try FileManager.default.moveItem(atPath: path + "/t.gguf", toPath: path + "/g-mmproj-00001-of-00002.gguf")
    #expect(try verify([g]).errors.contains("g-mmproj-00001-of-00002.gguf, which lies beside it"))
  }

  // MARK: Vectors made elsewhere

  /// A `.npy` file of Float32.
  static func npy(_ values: [Float], width: Int) -> [UInt8] {
    let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (\(values.count / width), \(width)), }"
    let header = text + String(repeating: " ", count: 117 - text.utf8.count) + "\n"
    return [0x93] + Array("NUMPY".utf8) + [1, 0, 118, 0] + Array(header.utf8)
      + values.flatMap { withUnsafeBytes(of: $0.bitPattern.littleEndian) { Array($0) } }
  }

  /// Vectors of texts, as the container gives them.
  private static func vectors(_ directory: TemporaryDirectory, _ texts: [String]) throws -> [Float] {
    let items = try directory.write("items.jsonl", texts.map { JSONText.string($0).text() }.joined(separator: "\n"))
    let output = directory.path + "/items.npy"
    let run = try ProgramRun([
      "embed", directory.path + "/q.llv", "--input", items, "--output", output, "--force",
    ])
    #expect(run.status == 0, "\(run.errors)")
    return RealModelTests.floats(try Repository.read(output))
  }

  @Test("vectors made elsewhere get the verdict that their model gets, by order and by id")
  func vectorsMadeElsewhereGetTheVerdictOfTheirModel() throws {
    let directory = try CommandTests.imported()
    let path = directory.path
    #expect(try ProgramRun(["quantize", path + "/m.llv", "--bits", "4", "-o", path + "/q.llv"]).status == 0)
    // The last pair is there twice, and all negatives are one document.
    let lines = CommandTests.pairs.split(separator: "\n").map(String.init)
    let data = try directory.write("pairs.jsonl", (lines + lines.suffix(1)).joined(separator: "\n"))
    let pairs = try (lines + lines.suffix(1)).map { try JSON.parse(Array($0.utf8)) }
    func text(_ key: String) throws -> [String] { try pairs.map { try $0.required(key).required("text").string() } }
    let queries = try DirectModelTests.vectors(directory, try text("query"))
    let negatives = [String](repeating: "é", count: pairs.count)
    let documents = try DirectModelTests.vectors(directory, try text("positive") + negatives)
    let q = try directory.write("Q.npy", DirectModelTests.npy(queries.map { $0 * 3 }, width: 32))
    let d = try directory.write("D.npy", DirectModelTests.npy(documents, width: 32))
    func verify(_ words: [String]) throws -> ProgramRun {
      try ProgramRun(["verify"] + words + ["--reference", path + "/model", "--data", data] + DirectModelTests.loose)
    }
    let model = try DirectModelTests.verdict(try verify([path + "/q.llv", "--no-layers"]))
    func expectSame(_ words: [String], _ what: String) throws {
      let run = try verify(words)
      let given = try DirectModelTests.verdict(run)
      for key in ["candidate_retrieval", "mixed_index_retrieval", "queries", "documents"] {
        let (a, b) = (try JSONText(try given.required(key)), try JSONText(try model.required(key)))
        #expect(a == b, "\(what): \(a.text()) \(b.text())")
      }
      // Lengths differ, so the last bits of products may.
      let means = try [given, model].map { try $0.required("cosine").required("mean").double() }
      #expect(abs(means[0] - means[1]) < 1e-7, "\(what): \(means)")
      let missing = try given.required("not_measured").elements().map { try $0.string() }
      #expect(missing.contains { $0.contains("weights") } && missing.contains { $0.contains("speed") }, "\(missing)")
    }
    try expectSame(["--vectors", "\(q),\(d)"], "by order")
    // Rows in another order, one document once, a row that nobody asks for.
    let places = (0..<12).reversed().map { $0 }
    let rows = { (all: [Float], row: Int) in all[row * 32..<(row + 1) * 32] }
    try directory.write("Q.npy", DirectModelTests.npy(places.flatMap { rows(queries, $0) }, width: 32))
    try directory.write("Q.npy.ids", places.map { "p\($0)\n" }.joined())
    let documentRows = places.flatMap { rows(documents, $0) } + rows(documents, 20) + rows(documents, 0)
    try directory.write("D.npy", DirectModelTests.npy(documentRows, width: 32))
    try directory.write(
      "D.npy.ids", places.map { "p\($0), positive\n" }.joined() + "p0, negative 1\nsomething else\n")
    try expectSame(["--vectors", "\(q),\(d)"], "by id")
    // The reference's own are no evidence, and a model beside them is compared with them.
    let both = try verify([path + "/q.llv", "--vectors", "\(q),\(d)"])
    #expect(try JSON.parse(Array(both.output.utf8)).elements().count == 2, "\(both.errors)")
  }

  static let refused: [(queries: [UInt8], ids: String?, code: Int32, words: [String])] = [
    (npy([1, 0, 0, 1], width: 2), nil, 65, ["has 2 rows, 3 are wanted", "the query of each pair", "Q.npy.ids"]),
    (npy([1, 0, 0, 1, .nan, 1], width: 2), nil, 65, ["\"c\"", "not finite", "row 2"]),
    (npy([1, 0, 0, 0, 1, 1], width: 2), nil, 65, ["\"b\" is zero", "row 1"]),
    (npy([1, 0, 0, 1, 1, 1], width: 2), "a\nb\nc", 65, ["2 whole lines", "3 rows"]),
    (npy([1, 0, 0, 1, 1, 1], width: 2), "a\nb\na\n", 65, ["\"a\" stands in lines 1 and 3"]),
    (npy([1, 0, 0, 1, 1, 1], width: 2), "a\nb\nx\n", 65, ["no line for 1 of 3 items", "\"c\" or \"line 3\""]),
    (npy([1, 0, 0, 1, 1, 1], width: 2), nil, 65, ["has 2 columns", "the reference's vectors have 32"]),
    (npy([1, 0, 0, 1, 1, 1], width: 1), nil, 65, ["has 6 rows"]),
    (Array("no array".utf8), nil, 65, ["not a .npy file"]),
    (Array(npy([1, 0, 0, 1, 1, 1], width: 2).dropLast()), nil, 65, ["does not fit"]),
  ]

  @Test("vectors that do not fit the data are refused in one line", arguments: refused.indices)
  func vectorsThatDoNotFitAreRefused(_ row: Int) throws {
    let directory = try CommandTests.imported()
    let (bytes, ids, code, words) = DirectModelTests.refused[row]
    let data = try directory.write(
      "pairs.jsonl", ["a", "b", "c"].map { #"{"id":"\#($0)","query":"\#($0)","positive":"the \#($0)"}"# }
        .joined(separator: "\n"))
    let q = try directory.write("Q.npy", bytes)
    if let ids { try directory.write("Q.npy.ids", ids) }
    let d = try directory.write("D.npy", DirectModelTests.npy([1, 0, 0, 1, 1, 1], width: 2))
    let run = try ProgramRun([
      "verify", "--vectors", "\(q),\(d)", "--reference", directory.path + "/m.llv", "--data", data,
    ])
    #expect(run.status == code, "\(run.status) \(run.errors)")
    for word in words { #expect(run.errors.contains(word), "no \(word) in \(run.errors)") }
    #expect(run.errors.split(separator: "\n").count == 1 && run.output.isEmpty, "\(run.errors)")
  }

  @Test("options that mean nothing for given vectors are refused, and so is a verify without a candidate")
  func optionsThatMeanNothingAreRefused() throws {
    let directory = try CommandTests.imported()
    let data = try directory.write("pairs.jsonl", CommandTests.pairs)
    let q = try directory.write("Q.npy", DirectModelTests.npy([Float](repeating: 1, count: 24), width: 2))
    let d = try directory.write("D.npy", DirectModelTests.npy([Float](repeating: 1, count: 48), width: 2))
    let words = ["verify", "--reference", directory.path + "/m.llv", "--data", data]
    #expect(try ProgramRun(words).errors.contains("needs a CANDIDATE, or --vectors"))
    #expect(try ProgramRun(words + ["--vectors", q]).errors.contains("takes two files"))
    for option in [["--profile", "llama.cpp"], ["--device", "cpu"], ["--no-layers"], ["--mmproj", q]] {
      let run = try ProgramRun(words + ["--vectors", "\(q),\(d)"] + option)
      #expect(run.status == 64 && run.errors.contains("\(option[0]) is for"), "\(run.errors)")
    }
  }
}
