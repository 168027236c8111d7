import Bytes
import Foundation
import TestSupport
import Testing

/// The model that ships with the repository, on its held-out scenes: it must be worth quantizing, and survive it.
struct DemoModelTests {
  static let folder = Repository.root + "/Tools/demo-model/"

  /// Scores by data set; for the search its recall at 1.
  static func scores(_ model: String) throws -> [String: Double] {
    let run = try ProgramRun(["eval", model, "--data", folder + "heldout", "--json"])
    #expect(run.status == 0, "\(run.errors)")
    var scores: [String: Double] = [:]
    for row in try JSON.parse(Array(run.output.utf8)).required("data_sets").elements() {
      scores[try row.required("name").string()] =
        try row["accuracy"]?.double() ?? row.required("forward").required("recall_1").double()
    }
    return scores
  }

  @Test("the demo model finds what it should, in fp32 arithmetic and in 4 bits, and verify passes")
  func theDemoModelFindsWhatItShould() throws {
    let directory = try TemporaryDirectory()
    let (m, q) = (directory.path + "/m.llv", directory.path + "/q.llv")
    let imported = try ProgramRun(["import", DemoModelTests.folder + "model", "-o", m])
    #expect(imported.status == 0, "\(imported.errors)")
    #expect(try ProgramRun(["quantize", m, "--bits", "4", "-o", q]).status == 0)
    let (full, small) = (try DemoModelTests.scores(m), try DemoModelTests.scores(q))
    #expect(Set(full.keys) == ["classification", "grounding", "i2t", "t2i", "video", "vqa"])
    let floors = ["classification": 0.9, "grounding": 0.95, "i2t": 0.9, "t2i": 0.9, "video": 0.85, "vqa": 0.6]
    for (name, floor) in floors {
      let (a, b) = (full[name] ?? 0, small[name] ?? 0)
      #expect(a >= floor && b >= a - 0.06, "\(name): \(a), in 4 bits \(b)")
    }
    let verify = try ProgramRun(["verify", q, "--reference", m, "--data", DemoModelTests.folder + "pairs.jsonl"])
    #expect(verify.status == 0, "\(verify.output)")
  }

  @Test("checkpoint, tokenizer and held-out data are at most 6 MB")
  func checkpointTokenizerAndHeldOutDataAreSmall() throws {
    var bytes = 0
    for name in FileManager.default.enumerator(atPath: DemoModelTests.folder)?.compactMap({ $0 as? String }) ?? [] {
      let attributes = try FileManager.default.attributesOfItem(atPath: DemoModelTests.folder + name)
      if attributes[.type] as? FileAttributeType == .typeRegular { bytes += attributes[.size] as? Int ?? 0 }
    }
    #expect(bytes > 1_000_000 && bytes <= 6_000_000, "\(bytes)")
  }
}
