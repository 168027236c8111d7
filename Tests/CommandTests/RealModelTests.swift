import Bytes
import Formats
import Foundation
import Glibc
import TestSupport
import Testing

/// all-MiniLM-L6-v2 itself. Tools/test fetches it and says where it is.
@Suite(
  .enabled(if: Repository.model != nil, "LLVCONV_MODEL is not set: Tools/test fetches the model and sets it"),
  .serialized)
struct RealModelTests {
  /// The model imported once for all tests here.
  static let imported: TemporaryDirectory? = {
    guard let model = Repository.model, let directory = try? TemporaryDirectory(),
      let run = try? ProgramRun(["import", model, "-o", directory.path + "/m.llv"]), run.status == 0
    else { return nil }
    return directory
  }()

  static func texts() throws -> [(text: String, ids: [Int])] {
    try Repository.json("Tests/Goldens/minilm-texts.json").elements().map { row in
      (try row.required("text").string(), try row.required("ids").elements().map { try $0.integer(in: 0...1 << 30) })
    }
  }

  static func floats(_ npy: [UInt8]) -> [Float] {
    let header = 10 + Int(npy[8]) + Int(npy[9]) << 8
    return npy[header...].withUnsafeBytes { raw in
      (0..<raw.count / 4).map { raw.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
    }
  }

  /// Embeds the golden texts with a model in the directory.
  static func embed(_ name: String, _ extra: [String] = []) throws -> [Float] {
    let directory = try #require(imported)
    let lines = try texts().map { JSONText.object([("text", .string($0.text))]).text() }.joined(separator: "\n")
    let input = try directory.write("items.jsonl", lines)
    let output = directory.path + "/vectors.npy"
    let run = try ProgramRun(
      ["embed", directory.path + "/" + name, "--input", input, "--output", output, "--force"] + extra)
    #expect(run.status == 0, "\(run.errors)")
    return floats(try Repository.read(output))
  }

  static func meanCosine(_ a: [Float], _ b: [Float]) -> Double {
    let rows = a.count / 384
    return (0..<rows).reduce(0.0) { sum, row in
      sum
        + zip(a[row * 384..<(row + 1) * 384], b[row * 384..<(row + 1) * 384]).reduce(0.0) {
          $0 + Double($1.0) * Double($1.1)
        }
    } / Double(rows)
  }

  @Test("token ids are those of the tokenizers library")
  func tokenIdsAreThoseOfTheTokenizersLibrary() throws {
    let directory = try #require(RealModelTests.imported)
    let texts = try RealModelTests.texts()
    let input = texts.map { JSONText.object([("text", .string($0.text))]).text() }.joined(separator: "\n")
    let run = try ProgramRun(["embed", directory.path + "/m.llv", "--tokens"], input: input)
    for (line, golden) in zip(run.output.split(separator: "\n"), texts) {
      let ids = try JSON.parse(Array(line.utf8)).required("tokens").elements().map { try $0.integer(in: 0...1 << 30) }
      #expect(ids == golden.ids, "\(Failure.quoted(golden.text))")
    }
  }

  @Test("embeddings are those of sentence-transformers, to 2e-5")
  func embeddingsAreThoseOfSentenceTransformersTo2e5() throws {
    let golden = RealModelTests.floats(try Repository.read("Tests/Goldens/minilm.npy"))
    let found = try RealModelTests.embed("m.llv")
    #expect(golden.count == 45 * 384 && found.count == golden.count)
    #expect(zip(golden, found).allSatisfy { abs($0 - $1) <= 2e-5 })
    #expect(try RealModelTests.embed("m.llv", ["--threads", "1"]).map(\.bitPattern) == found.map(\.bitPattern))
  }

  /// The mixed texts are harder than ordinary ones: Docs/measurements/fidelity.md has the figures on 2,000 pairs.
  static let recipes: [(words: String, cosine: Double, bytes: Int)] = [
    ("--bits 8", 0.9996, 25_280_000), ("--bits 8 --activations 8", 0.9992, 25_280_000),
    ("--bits 8 --group channel --activations 8", 0.993, 24_000_000), ("--bits 4", 0.960, 19_970_000),
    ("--bits 4 --activations 8", 0.960, 19_970_000), ("--bits 4 --symmetric", 0.954, 19_300_000),
  ]

  @Test("quantized models stay close and small", arguments: recipes.indices)
  func quantizedModelsStayCloseAndSmall(_ row: Int) throws {
    let (words, cosine, bytes) = RealModelTests.recipes[row]
    let directory = try #require(RealModelTests.imported)
    let run = try ProgramRun(
      ["quantize", directory.path + "/m.llv"] + words.split(separator: " ").map(String.init) + [
        "-o", directory.path + "/q.llv", "--force",
      ])
    #expect(run.status == 0, "\(run.errors)")
    let golden = RealModelTests.floats(try Repository.read("Tests/Goldens/minilm.npy"))
    let found = RealModelTests.meanCosine(golden, try RealModelTests.embed("q.llv"))
    #expect(found >= cosine, "\(words): \(found)")
    #expect(try Repository.read(directory.path + "/q.llv").count <= bytes)
  }

  @Test("healthy candidates pass on real pairs: 8 and 4 bits, calibrated, and back from other programs' files")
  func healthyCandidatesPassOnRealPairs() throws {
    let directory = try #require(RealModelTests.imported)
    let path = directory.path
    let m = path + "/m.llv"
    let all = String(decoding: try Repository.read("Tools/data/debian-pairs.jsonl"), as: UTF8.self).split(
      separator: "\n")
    let data = try directory.write("pairs.jsonl", all.prefix(400).joined(separator: "\n"))
    let others = try directory.write("other.jsonl", all.suffix(64).joined(separator: "\n"))
    func run(_ words: [String]) throws { #expect(try ProgramRun(words).status == 0, "\(words)") }
    try run(["measure", m, "--data", others, "-o", path + "/c.llv"])
    try run(["quantize", m, "--bits", "8", "--activations", "8", "-o", path + "/8.llv"])
    let four = try ProgramRun(["quantize", m, "--bits", "4", "--calibration", path + "/c.llv", "-o", path + "/4.llv"])
    // Why four bits are more: the token table.
    #expect(four.errors.contains("bits per weight (8.04 in 52 % (int8 g384), 4.53 in 47 % (int4"), "\(four.errors)")
    try run(["export", m, "--to", "gguf", "--type", "Q8_0", "-o", path + "/g.gguf"])
    try run(["export", m, "--to", "compressed-tensors", "--weights", "W8A16", "-o", path + "/ct"])
    let verify = try ProgramRun(
      ["verify"] + ["8.llv", "4.llv", "g.gguf", "ct"].map { path + "/\($0)" }
        + ["--reference", m, "--data", data, "--json"])
    let reports = try JSON.parse(Array(verify.output.utf8)).elements()
    let verdicts = try reports.map { try $0.required("verdict").string() }
    #expect(verify.status == 0 && verdicts == ["pass", "pass", "pass", "pass"], "\(verdicts) \(verify.errors)")
  }

  @Test("a file of weights that is cut while it is in use ends the program with an error, not with a signal")
  func aFileThatIsCutWhileInUseIsAnError() throws {
    let directory = try #require(RealModelTests.imported)
    let path = directory.path + "/cut.llv"
    #expect(try ProgramRun(["quantize", directory.path + "/m.llv", "--bits", "4", "-o", path]).status == 0)
    let process = Process()
    process.executableURL = URL(fileURLWithPath: Repository.program)
    process.arguments = ["embed", path]
    let (stdin, stderr) = (Pipe(), Pipe())
    (process.standardInput, process.standardOutput, process.standardError) = (stdin, FileHandle.nullDevice, stderr)
    try process.run()
    let maps = "/proc/\(process.processIdentifier)/maps"
    // The last weights are among the first that are used.
    for _ in 0..<500 {
      let text = (try? String(contentsOfFile: maps, encoding: .utf8)) ?? ""
      if text.split(separator: "\n").count(where: { $0.hasSuffix("cut.llv") }) >= 24 { break }
      usleep(20_000)
    }
    #expect(truncate(path, 1 << 20) == 0)
    stdin.fileHandleForWriting.write(Data("{\"text\": \"what is it\"}\n".utf8))
    try stdin.fileHandleForWriting.close()
    let errors = String(decoding: stderr.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationReason == .exit && process.terminationStatus == 74, "\(errors)")
    #expect(errors.contains("was cut or could not be read") && errors.split(separator: "\n").count == 1, "\(errors)")
  }
}
