import Bytes
import Foundation
import TestSupport
import Testing

/// What other programs are known to do to an embedder, done to the real MiniLM: verify has to fail each, and to name
/// it.
@Suite(.enabled(if: Repository.model != nil))
struct KnownFailureTests {
  /// What is changed: a file of the checkpoint, and a text in it.
  struct Damage: Sendable, CustomTestStringConvertible {
    let testDescription, file, from, to, finding: String
  }

  static let damages: [Damage] = [
    .init(
      testDescription: "no tokens around a text", file: "tokenizer.json", from: "\"post_processor\":",
      to: "\"post_processor\":null,\"once\":", finding: "tokens around a text differs: 101 102 in the reference, none"),
    .init(
      testDescription: "upper case kept", file: "tokenizer.json", from: "\"lowercase\":true",
      to: "\"lowercase\":false", finding: "tokens of"),
    .init(
      testDescription: "texts cut", file: "sentence_bert_config.json", from: "256", to: "16",
      finding: "configuration, maximum_tokens differs: 256 in the reference, 16"),
    .init(
      testDescription: "another pooling", file: "1_Pooling/config.json", from: "\"pooling_mode_mean_tokens\":true",
      to: "\"pooling_mode_mean_tokens\":false,\"pooling_mode_lasttoken\":true",
      finding: "pool 0, kind differs: \"mean\" in the reference, \"last\""),
    .init(
      testDescription: "a prompt before all texts", file: "config_sentence_transformers.json",
      from: "\"__version__\":",
      to: "\"prompts\":{\"query\":\"query: \"},\"default_prompt_name\":\"query\",\"__version__\":",
      finding: "configuration, prompts differs: [] in the reference, [{\"name\":\"query\",\"text\":\"query: \"}]"),
    .init(
      testDescription: "vectors of any length", file: "modules.json", from: "models.Normalize", to: "models.Dropout",
      finding: "text graph, normalised differs: true in the reference, false"),
  ]

  @Test("verify fails what other programs do to an embedder, and names it", arguments: damages)
  func verifyFailsWhatOtherProgramsDoToAnEmbedder(_ damage: Damage) throws {
    let directory = try TemporaryDirectory()
    let source = try #require(Repository.model)
    let broken = directory.path + "/broken"
    try FileManager.default.copyItem(atPath: source, toPath: broken)
    let text = String(decoding: try Repository.read(broken + "/" + damage.file), as: UTF8.self)
    // However the file is spaced.
    let plain = text.replacing(": ", with: ":")
    #expect(plain.contains(damage.from), "\(damage.from) is not in \(damage.file)")
    try directory.write("broken/" + damage.file, plain.replacing(damage.from, with: damage.to))
    let lines = String(decoding: try Repository.read("Tools/data/debian-pairs.jsonl"), as: UTF8.self).split(
      separator: "\n")
    let data = try directory.write("pairs.jsonl", lines[512..<612].joined(separator: "\n"))
    let run = try ProgramRun(["verify", broken, "--reference", source, "--data", data])
    #expect(run.status == 1 && run.output.hasPrefix("FAIL"), "\(run.output) \(run.errors)")
    let words = run.output.split { $0 == "\n" || $0 == " " }.joined(separator: " ")
    #expect(words.contains(damage.finding), "\(run.output)")
  }
}
