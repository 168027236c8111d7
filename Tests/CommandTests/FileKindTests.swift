import Bytes
import Foundation
import TestSupport
import Testing

/// A file of another kind than the command takes: what it is, and which command comes first.
struct FileKindTests {
  static let rows: [([String], Int32, [String])] = [
    (["quantize", "DIR/model/model.safetensors", "--bits", "8"], 64, ["is a checkpoint", "import FOLDER -o"]),
    (["quantize", "DIR/model", "--bits", "8"], 64, ["is a checkpoint", "llvconv import DIR/model -o", "comes first"]),
    (["quantize", "DIR", "--bits", "8"], 64, ["is a folder without a checkpoint"]),
    (["quantize", "DIR/m.gguf", "--bits", "8"], 64, ["is a GGUF file", "import DIR/m.gguf", "comes first"]),
    (["quantize", "org/model", "--bits", "8"], 66, ["no such file", "download", "import FOLDER"]),
    (["quantize", "DIR/absent.llv", "--bits", "8"], 66, ["no such file"]),
    (["quantize", "DIR/model.bin", "--bits", "8"], 64, ["Python objects", "safetensors first"]),
    (["quantize", "DIR/tokenizer.json", "--bits", "8"], 64, ["is a tokenizer, not a model", "import FOLDER"]),
    (["bench", "DIR/model/model.safetensors"], 64, ["is a checkpoint", "comes first"]),
    (["measure", "DIR/model", "--data", "DIR/x.jsonl"], 64, ["is a checkpoint", "comes first"]),
    (["export", "DIR/m.gguf", "--to", "hf"], 64, ["is a GGUF file", "comes first"]),
    (["embed", "DIR/tokenizer.json"], 64, ["is a tokenizer, not a model", "import FOLDER"]),
    (["embed", "DIR/m.gguf"], 65, ["m.gguf", "24-byte header"]),
    (["import", "DIR/tokenizer.json"], 69, ["is a tokenizer, not a model", "takes the folder"]),
    (["import", "DIR/model/config.json"], 69, ["configuration, without its weights"]),
    (["import", "org/model"], 66, ["no such file", "download"]),
    (["import", "DIR/model.bin"], 69, ["Python objects", "never opened"]),
    (["import", "DIR/pickled"], 69, ["Python objects", "never opened"]),
    (["import", "DIR/v.npy"], 69, ["NumPy array"]),
  ]

  @Test("a file of another kind is named, and what comes first", arguments: rows.indices)
  func aFileOfAnotherKindIsNamed(_ row: Int) throws {
    let (words, status, wanted) = FileKindTests.rows[row]
    let directory = try CommandTests.imported()
    try directory.write("tokenizer.json", #"{"version":"1.0","model":{"type":"BPE","vocab":{"a":0},"merges":[]}}"#)
    try directory.write("model.bin", Array("PK\u{3}\u{4}".utf8) + [0, 0])
    try directory.write("pickled/pytorch_model.bin", [0x80, 2])
    try directory.write("x.jsonl", "\"a\"")
    try directory.write("v.npy", [0x93] + Array("NUMPY".utf8) + [1, 0])
    try directory.write("m.gguf", Array("GGUF".utf8) + [3, 0, 0, 0])
    let output = ["embed", "bench"].contains(words[0]) ? [] : ["-o", directory.path + "/y"]
    func placed(_ text: String) -> String { text.replacingOccurrences(of: "DIR", with: directory.path) }
    let run = try ProgramRun(words.map(placed) + output)
    #expect(run.status == status, "\(words): \(run.status) \(run.errors)")
    for word in wanted { #expect(run.errors.contains(placed(word)), "\(words): no \(word) in \(run.errors)") }
    #expect(run.errors.split(separator: "\n").count == 1 && !exists(directory.path + "/y"))
  }

  @Test("a checkpoint whose tokenizer is not read is refused by import, which names its kind")
  func aCheckpointWhoseTokenizerIsNotReadIsRefused() throws {
    let directory = try CommandTests.imported()
    func importing(_ file: String, _ text: String) throws -> ProgramRun {
      try directory.write("model/" + file, text)
      return try ProgramRun(["import", directory.path + "/model", "-o", directory.path + "/y.llv"])
    }
    try FileManager.default.removeItem(atPath: directory.path + "/model/vocab.txt")
    // A model of one piece, whose class nobody names.
    let piece = try importing("sentencepiece.bpe.model", "\n\u{3}\n\u{1}a")
    #expect(piece.status == 69 && piece.errors.contains("save tokenizer.json with transformers"), "\(piece.errors)")
    let unigram = try importing("tokenizer.json", #"{"version":"1.0","model":{"type":"Unigram","vocab":[["a",-1.5]]}}"#)
    #expect(unigram.status == 65 && unigram.errors.contains("unk_id"), "\(unigram.errors)")
    let words = try importing("tokenizer.json", #"{"version":"1.0","model":{"type":"WordLevel","vocab":{"a":0}}}"#)
    #expect(words.status == 69 && words.errors.contains(#"kind "WordLevel""#), "\(words.errors)")
    #expect(!exists(directory.path + "/y.llv"))
  }

  @Test("verify refuses a reference of another kind than its candidate")
  func verifyRefusesAReferenceOfAnotherKind() throws {
    let (pictures, texts) = (try PictureCommandTests.imported(), try CommandTests.imported())
    let data = try texts.write("pairs.jsonl", #"{"id":"1","query":{"text":"a"},"positive":{"text":"b"}}"#)
    let run = try ProgramRun([
      "verify", pictures.path + "/m.llv", "--reference", texts.path + "/m.llv", "--data", data,
    ])
    #expect(run.status == 64 && run.errors.contains("is of the kind bert"), "\(run.status) \(run.errors)")
    #expect(run.errors.contains("of the kind llava_onevision"), "\(run.errors)")
  }
}
