import Bytes
import Formats
import Foundation
import Inputs
import Tensors
import TestSupport
import Testing

/// SentencePiece's own files in the place of `tokenizer.json`.
struct SentencePieceTests {
  /// A checkpoint with such a file and settings, as a model.
  static func model(_ file: [UInt8], _ name: String, settings: String) throws -> Model {
    let directory = try TemporaryDirectory()
    let folder = directory.path + "/checkpoint"
    try FileManager.default.copyItem(atPath: FamilyTests.folder + "bert", toPath: folder)
    try directory.write("checkpoint/tokenizer_config.json", settings)
    try Data(file).write(to: URL(fileURLWithPath: folder + "/" + name))
    var notes: [String] = []
    return try Import.model(try Checkpoint.open(folder), notes: &notes)
  }

  @Test(
    "ids are those of transformers",
    arguments: [
      ("xlm-roberta-model", "sentencepiece.bpe.model"), ("llama-model", "tokenizer.model"),
      ("gemma-model", "tokenizer.model"),
    ])
  func idsAreThoseOfTransformers(_ kind: String, _ name: String) throws {
    let folder = Repository.root + "/Tests/Goldens/tokenizers/"
    let model = try SentencePieceTests.model(
      try Repository.read(folder + kind), name,
      settings: String(decoding: try Repository.read(folder + kind + "-config.json"), as: UTF8.self))
    let tokenizer = try Tokenizer.load { (name) throws(Failure) in try model.file(name) }
    let texts = try Repository.json("Tests/Goldens/tokenizers/texts.json").elements()
    let rows = try Repository.json("Tests/Goldens/tokenizers/\(kind)-ids.json").elements()
    #expect(texts.count == 300 && rows.count == 300)
    for (text, row) in zip(texts, rows) {
      let text = try text.string()
      let ids = try row.elements().map { Int32(try $0.integer(in: 0...100_000)) }
      #expect(tokenizer.encode(text, maximum: 100_000).ids == ids, "\(Failure.quoted(text))")
    }
  }

  @Test("files that are none are refused in a line", arguments: try Case.load("sentencepiece"))
  func filesThatAreNoneAreRefused(_ row: Case) throws {
    let bytes = try Case.bytes(try row.json.required("bytes"))
    let outcome: Result<[String], Failure>
    do {
      _ = try SentencePieceTests.model(
        bytes, "tokenizer.model", settings: "{\"tokenizer_class\": \"XLMRobertaTokenizerFast\"}")
      outcome = .success([])
    } catch let failure as Failure { outcome = .failure(failure) }
    #expect(row.complaint(outcome) == nil)
  }

  @Test("a file cut anywhere is read or refused, and so is one of another class")
  func aFileCutAnywhereIsReadOrRefused() throws {
    let bytes = try Repository.read("Tests/Goldens/tokenizers/llama-model")
    let settings = "{\"tokenizer_class\": \"LlamaTokenizer\"}"
    for end in stride(from: 0, to: bytes.count, by: 211) {
      do { _ = try SentencePieceTests.model(Array(bytes[..<end]), "tokenizer.model", settings: settings) } catch {
        #expect(error is Failure)
      }
    }
    let failure = #expect(throws: Failure.self) {
      try SentencePieceTests.model(bytes, "tokenizer.model", settings: "{\"tokenizer_class\": \"T5Tokenizer\"}")
    }
    #expect(failure?.description.contains("T5Tokenizer") == true)
  }
}
