import Bytes
import Foundation
import TestSupport
import Testing

/// What users do with a model, done to a tiny checkpoint of every family.
struct FamilyCommandTests {
  static let folder = Repository.root + "/Tests/Goldens/families/"
  @Test("measured, quantized in three ways, verified: no setting differs", arguments: Repository.families)
  func measuredQuantizedAndVerified(_ name: String) throws {
    let directory = try TemporaryDirectory()
    func path(_ file: String) -> String { directory.path + "/" + file }
    let lines = String(decoding: try Repository.read("Tools/data/debian-pairs.jsonl"), as: UTF8.self).split(
      separator: "\n")
    let calibration = try directory.write("calibration.jsonl", lines[..<24].joined(separator: "\n"))
    let data = try directory.write("pairs.jsonl", lines[100..<130].joined(separator: "\n"))
    func done(_ words: [String]) throws {
      let run = try ProgramRun(words)
      #expect(run.status == 0, "\(name): \(words) \(run.errors)")
    }
    try done([
      "import", FamilyCommandTests.folder + name, "--tokenizer", FamilyCommandTests.folder + "tokenizer.json", "-o",
      path("m.llv"),
    ])
    try done(["measure", path("m.llv"), "--data", calibration, "--sensitivity", "-o", path("moments.llv")])
    let choices = [
      "w8a8": ["--weights", "8:channel", "--activations", "8"],
      "w4": ["--weights", "4:g8", "--calibration", path("moments.llv")],
      "plan": ["--bits", "6", "--calibration", path("moments.llv")],
    ]
    for (label, words) in choices.sorted(by: { $0.key < $1.key }) {
      try done(["quantize", path("m.llv")] + words + ["-o", path(label + ".llv")])
      let run = try ProgramRun(["verify", path(label + ".llv"), "--reference", path("m.llv"), "--data", data])
      // Random weights may lose what thresholds ask for; what is compared must be the same model.
      #expect([0, 1, 2].contains(run.status), "\(name) \(label): \(run.errors)")
      #expect(run.output.contains("ok    settings that differ"), "\(name) \(label): \(run.output)")
    }
  }
}
