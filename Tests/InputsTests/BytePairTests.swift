import Bytes
import Formats
import Foundation
import Inputs
import TestSupport
import Testing

/// Qwen2's tokenizer, held to llama.cpp's vectors and the family's prompts (Tools/make-qwen-goldens).
struct BytePairTests {
  static func qwen2() throws -> Tokenizer { try tokenizer("Tests/Goldens/qwen2/tokenizer.json") }

  static func tokenizer(_ path: String, _ change: (String) -> String = { $0 }, config: String? = nil) throws
    -> Tokenizer
  {
    let text = change(try String(contentsOfFile: Repository.root + "/" + path, encoding: .utf8))
    return try Tokenizer.load { (name) throws(Failure) in
      name == "tokenizer.json"
        ? Array(text.utf8) : name == "tokenizer_config.json" ? config.map { Array($0.utf8) } : nil
    }
  }

  static func ids(_ json: JSON) throws -> [Int32] {
    try json.elements().map { Int32(try $0.integer(in: -200...200_000)) }
  }

  @Test("llama.cpp's 47 vectors hold")
  func llamaCppsVectorsHold() throws {
    let tokenizer = try BytePairTests.qwen2()
    let rows = try Repository.json("Tests/Goldens/qwen2/cases.json").required("texts").elements()
    #expect(rows.count == 47)
    for row in rows {
      let text = try row.required("text").string()
      #expect(tokenizer.ids(text) == (try BytePairTests.ids(try row.required("ids"))), "\(Failure.quoted(text))")
    }
  }

  @Test("the family's prompts get the published ids")
  func theFamilysPromptsGetThePublishedIds() throws {
    let tokenizer = try BytePairTests.qwen2()
    let before = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    let after = "<|im_end|>\n<|im_start|>assistant\n\n<|im_end|>\n"
    let rows = try Repository.json("Tests/Goldens/qwen2/cases.json").required("prompts").elements()
    #expect(rows.count == 10)
    for row in rows {
      let text = before + (try row.required("text").string()) + after
      let parts = text.components(separatedBy: "<image>").map { tokenizer.ids($0) }
      let ids = parts.dropFirst().reduce(parts[0]) { $0 + [-200] + $1 }
      #expect(ids == (try BytePairTests.ids(try row.required("ids"))))
    }
  }

  @Test("ids are those of the tokenizers library, on mixed scripts, white space and digits")
  func idsAreThoseOfTheTokenizersLibrary() throws {
    let tokenizer = try BytePairTests.tokenizer("Tests/Goldens/llave/model/tokenizer.json")
    let rows = try Repository.json("Tests/Goldens/bytepair-cases.json").elements()
    #expect(rows.count >= 400)
    for row in rows {
      let text = try row.required("text").string()
      #expect(tokenizer.ids(text) == (try BytePairTests.ids(try row.required("ids"))), "\(Failure.quoted(text))")
    }
  }

  @Test("a word of a hundred thousand bytes is no trap")
  func aWordOfAHundredThousandBytesIsNoTrap() throws {
    let tokenizer = try BytePairTests.qwen2()
    let ids = tokenizer.ids(String(repeating: "a", count: 100_000))
    #expect(ids.count > 1_000 && ids.count < 100_001)
  }

  static let refused: [(@Sendable (String) -> String, Failure.Kind, String)] = [
    ({ $0.replacingOccurrences(of: "\\\\p{N}|", with: "\\\\p{N}{1,7}|") }, .unsupported, "known ones"),
    ({ $0.replacingOccurrences(of: "\"Isolated\"", with: "\"Other\"") }, .malformed, "Isolated"),
    ({ $0.replacingOccurrences(of: "\"NFC\"", with: "\"NFX\"") }, .unsupported, "NFX"),
    ({ $0.replacingOccurrences(of: "\"BPE\"", with: "\"WordLevel\"") }, .unsupported, "BPE"),
    (
      { $0.replacingOccurrences(of: "\"!\":0,", with: "").replacingOccurrences(of: "\"!\": 0, ", with: "") },
      .malformed, "byte 33"
    ),
    (
      { $0.replacingOccurrences(of: "\"merges\": [", with: "\"merges\": [\"q zz\", ") }, .malformed,
      "not in the vocabulary"
    ),
    ({ $0.replacingOccurrences(of: "\"merges\": [", with: "\"merges\": [\"qzz\", ") }, .malformed, "two tokens"),
  ]

  @Test("tokenizers of another kind are refused", arguments: refused.indices)
  func tokenizersOfAnotherKindAreRefused(_ index: Int) throws {
    let (change, kind, words) = BytePairTests.refused[index]
    do {
      _ = try BytePairTests.tokenizer("Tests/Goldens/qwen2/tokenizer.json", change)
      Issue.record("row \(index) was accepted")
    } catch let failure as Failure {
      #expect(failure.kind == kind && failure.description.contains(words), "\(failure)")
    }
  }

  @Test("a final token is added where the configuration asks for it")
  func aFinalTokenIsAddedWhereTheConfigurationAsksForIt() throws {
    let config = #"{"add_eos_token": true, "eos_token": {"content": "<|endoftext|>"}}"#
    let tokenizer = try BytePairTests.tokenizer("Tests/Goldens/qwen2/tokenizer.json", config: config)
    let ids = tokenizer.encode("A cat and a dog", maximum: 4)
    #expect(ids.ids == [32, 8251, 323, 151_643] && ids.cut == 2)
  }

  @Test("vocab.json and merges.txt make the same tokenizer, special tokens from either file")
  func vocabJSONAndMergesMakeTheSameTokenizer() throws {
    let json = try Repository.json("Tests/Goldens/llave/model/tokenizer.json")
    let model = try json.required("model")
    let vocabulary = try JSONText(try model.required("vocab")).bytes()
    let merges = try model.required("merges").elements().map { merge in
      merge.kind == .string ? try merge.string() : try merge.elements().map { try $0.string() }.joined(separator: " ")
    }
    let added = try json.required("added_tokens").elements().map {
      (try $0.required("content").string(), try $0.required("id").integer(in: 0...9_999))
    }
    let decoder: JSONText = [
      "tokenizer_class": "Qwen2Tokenizer",
      "added_tokens_decoder": .object(added.map { (String($0.1), ["content": .string($0.0)]) }),
    ]
    let plain: JSONText = .object(added.map { ($0.0, .int($0.1)) })
    for (name, special) in [("tokenizer_config.json", decoder), ("added_tokens.json", plain)] {
      let tokenizer = try Tokenizer.load { (file) throws(Failure) in
        switch file {
        case "vocab.json": vocabulary
        case "merges.txt": Array(("#version: 0.2\n" + merges.joined(separator: "\n") + "\n").utf8)
        case name: special.bytes()
        default: nil
        }
      }
      for row in try Repository.json("Tests/Goldens/bytepair-cases.json").elements() {
        #expect(tokenizer.ids(try row.required("text").string()) == (try BytePairTests.ids(try row.required("ids"))))
      }
      #expect(tokenizer.vocabulary == 333)
    }
  }

  @Test("a GGUF file's keys make the same tokenizer")
  func aGGUFFilesKeysMakeTheSameTokenizer() throws {
    let json = try Repository.json("Tests/Goldens/llave/model/tokenizer.json")
    var tokens: [Int: [UInt8]] = [:]
    for (piece, id) in try json.required("model").required("vocab").members() {
      tokens[try id.integer(in: 0...9_999)] = piece
    }
    for added in try json.required("added_tokens").elements() {
      tokens[try added.required("id").integer(in: 0...9_999)] = try added.required("content").bytes()
    }
    let controls = try json.required("added_tokens").count
    let merges = try json.required("model").required("merges").elements().map { merge in
      merge.kind == .string
        ? try merge.bytes() : try Array(merge.elements().map { try $0.bytes() }.joined(separator: [0x20]))
    }
    var file = GGUFBytes()
    file.add("general.architecture", string: Array("qwen2".utf8))
    file.add("tokenizer.ggml.model", string: Array("gpt2".utf8))
    file.add("tokenizer.ggml.pre", string: Array("qwen2".utf8))
    file.add("tokenizer.ggml.tokens", strings: (0..<tokens.count).compactMap { tokens[$0] })
    file.add("tokenizer.ggml.token_type", integers: (0..<tokens.count).map { $0 < tokens.count - controls ? 1 : 3 })
    file.add("tokenizer.ggml.merges", strings: merges)
    let directory = try TemporaryDirectory()
    try directory.write("vocabulary.gguf", file.bytes)
    let made = try GGUF.read(directory.path + "/vocabulary.gguf").keys.tokenizerJSON().bytes()
    let tokenizer = try Tokenizer.load { (name) throws(Failure) in name == "tokenizer.json" ? made : nil }
    for row in try Repository.json("Tests/Goldens/bytepair-cases.json").elements() {
      #expect(tokenizer.ids(try row.required("text").string()) == (try BytePairTests.ids(try row.required("ids"))))
    }
    // Cut anywhere, the file is refused.
    for length in stride(from: 0, to: file.bytes.count - 1, by: 97) {
      try directory.write("cut.gguf", Array(file.bytes[..<length]))
      #expect(throws: Failure.self) { try GGUF.read(directory.path + "/cut.gguf") }
    }
  }
}
