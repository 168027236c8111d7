import Bytes
import Formats
import Foundation
import Inputs
import TestSupport
import Testing

/// Tokenizers of GGUF files, made from the goldens' files as converters make them.
struct GGUFTokenizerTests {
  /// Keys by name; later ones take the place of earlier ones.
  struct Keys {
    var texts: [String: String] = ["general.architecture": "bert"]
    var flags: [String: Bool] = [:]
    var ids: [String: Int] = [:]
    var tokens: [[UInt8]] = []
    var types: [Int] = []
    var scores: [Float] = []
    var merges: [[UInt8]] = []
    var map: [UInt8] = []

    func read() throws -> GGUFKeys {
      var file = GGUFBytes()
      for (key, text) in texts { file.add(key, string: Array(text.utf8)) }
      for (key, flag) in flags { file.add("tokenizer.ggml." + key, 7, [flag ? 1 : 0]) }
      for (key, id) in ids { file.add("tokenizer.ggml.\(key)_token_id", 5, GGUFBytes.le(Int32(id))) }
      file.add("tokenizer.ggml.tokens", strings: tokens)
      file.add("tokenizer.ggml.token_type", integers: types)
      func array(_ kind: UInt32, _ count: Int) -> [UInt8] { GGUFBytes.le(kind) + GGUFBytes.le(UInt64(count)) }
      if !scores.isEmpty {
        file.add(
          "tokenizer.ggml.scores", 9, array(6, scores.count) + scores.flatMap { GGUFBytes.le($0.bitPattern) })
      }
      if !merges.isEmpty { file.add("tokenizer.ggml.merges", strings: merges) }
      if !map.isEmpty { file.add("tokenizer.ggml.precompiled_charsmap", 9, array(0, map.count) + map) }
      let directory = try TemporaryDirectory()
      try directory.write("vocabulary.gguf", file.bytes)
      return try GGUF.read(directory.path + "/vocabulary.gguf").keys
    }

    func tokenizer() throws -> Tokenizer {
      let json = try read().tokenizerJSON().bytes()
      return try Tokenizer.load { (name) throws(Failure) in name == "tokenizer.json" ? json : nil }
    }
  }

  /// The vocabulary of a golden, by id; control tokens are the special ones.
  private static func keys(_ kind: String) throws -> (Keys, JSON) {
    let json = try Repository.json(TokenizerKindTests.folder + kind + ".json")
    let model = try json.required("model")
    var keys = Keys()
    let vocabulary = try model.required("vocab")
    if vocabulary.kind == .array {
      for piece in try vocabulary.elements() {
        keys.tokens.append(try piece.elements()[0].bytes())
        keys.scores.append(Float(try piece.elements()[1].double()))
      }
    } else {
      var byID: [Int: [UInt8]] = [:]
      for (text, id) in try vocabulary.members() { byID[try id.integer(in: 0...9_999)] = text }
      keys.tokens = (0..<byID.count).map { byID[$0] ?? [] }
    }
    keys.types = keys.tokens.map { $0.count == 6 && $0.starts(with: "<0x".utf8) ? 6 : 1 }
    for added in try json.required("added_tokens").elements() {
      let id = try added.required("id").integer(in: 0...9_999)
      if id == keys.tokens.count {
        keys.tokens.append(try added.required("content").bytes())
        keys.types.append(3)
      }
      keys.types[id] = try added.required("special").bool() ? 3 : 4
    }
    return (keys, json)
  }

  private static func check(_ tokenizer: Tokenizer, _ kind: String, but skipped: Set<UInt32> = []) throws {
    let texts = try Repository.json(TokenizerKindTests.folder + "texts.json").elements()
    let rows = try Repository.json(TokenizerKindTests.folder + kind + "-ids.json").elements()
    var compared = 0
    for (text, row) in zip(texts, rows) {
      let text = try text.string()
      if text.unicodeScalars.contains(where: { skipped.contains($0.value) }) { continue }
      let ids = try row.elements().map { Int32(try $0.integer(in: 0...100_000)) }
      #expect(tokenizer.encode(text, maximum: 100_000).ids == ids, "\(kind): \(Failure.quoted(text))")
      compared += 1
    }
    #expect(compared > 200)
  }

  static func xlmRoberta() throws -> Keys {
    var (keys, _) = try keys("xlm-roberta")
    keys.types[3] = 2
    keys.texts["tokenizer.ggml.model"] = "t5"
    keys.map = TokenizerKindTests.characterMap
    keys.ids = ["bos": 0, "eos": 2, "unknown": 3, "mask": keys.tokens.count - 1]
    keys.flags = [
      "add_bos_token": true, "add_eos_token": true, "add_space_prefix": true, "remove_extra_whitespaces": true,
    ]
    return keys
  }

  @Test("keys of the kind t5 are Unigram with its map of characters")
  func keysOfTheKindT5AreUnigram() throws {
    try GGUFTokenizerTests.check(try GGUFTokenizerTests.xlmRoberta().tokenizer(), "xlm-roberta")
  }

  /// - Parameter kind: a golden of SentencePiece's BPE; its scores are the ranks of its merges.
  static func sentencePiece(_ kind: String) throws -> Keys {
    var (keys, json) = try keys(kind)
    var rank: [[UInt8]: Int] = [:]
    for merge in try json.required("model").required("merges").elements() {
      let parts = try merge.elements().map { try $0.bytes() }
      if rank[parts[0] + parts[1]] == nil { rank[parts[0] + parts[1]] = rank.count }
    }
    keys.scores = keys.tokens.map { -Float(rank[$0] ?? rank.count) }
    keys.texts["tokenizer.ggml.model"] = "llama"
    return keys
  }

  @Test("keys of the kind llama are BPE whose merges follow from the scores")
  func keysOfTheKindLlamaAreBPE() throws {
    var gemma = try GGUFTokenizerTests.sentencePiece("gemma")
    gemma.types[3] = 2
    gemma.ids = ["bos": 2, "eos": 1, "unknown": 3]
    gemma.flags = ["add_bos_token": true, "add_eos_token": true, "add_space_prefix": false]
    try GGUFTokenizerTests.check(try gemma.tokenizer(), "gemma")
    // Defaults: a token in front, none behind, a mark in front of the text. (<tool> is found after normalization
    // there, which no key says.)
    var llama = try GGUFTokenizerTests.sentencePiece("llama")
    llama.types[0] = 2
    llama.ids = ["bos": 1, "eos": 2, "unknown": 0]
    let tokenizer = try llama.tokenizer()
    #expect(tokenizer.encode("hello world", maximum: 100).ids.first == 1)
    try GGUFTokenizerTests.check(tokenizer, "llama", but: [0x3C])
  }

  @Test("keys of byte-level BPE are GPT-2's pattern under its names", arguments: ["roberta-bpe", "modern-bert"])
  func keysOfByteLevelBPEAreGPT2sPattern(_ name: String) throws {
    let kind = name == "modern-bert" ? "modernbert" : "roberta"
    var (keys, json) = try GGUFTokenizerTests.keys(kind)
    keys.merges = try json.required("model").required("merges").elements().map { merge in
      try Array(merge.elements().map { try $0.bytes() }.joined(separator: [0x20]))
    }
    keys.texts["tokenizer.ggml.model"] = "gpt2"
    keys.texts["tokenizer.ggml.pre"] = name
    func id(_ names: String...) -> Int? { keys.tokens.firstIndex { names.map { Array($0.utf8) }.contains($0) } }
    keys.ids = ["bos": id("<s>", "[CLS]") ?? 0, "eos": id("</s>", "[SEP]") ?? 0, "mask": id("<mask>", "[MASK]") ?? 0]
    keys.flags = ["add_bos_token": true, "add_eos_token": true]
    try GGUFTokenizerTests.check(try keys.tokenizer(), kind)
    #expect(try keys.read().tokenizerNotes().isEmpty)
    keys.flags = [:]
    #expect(try keys.read().tokenizerNotes().count == 1)
    #expect(try keys.tokenizer().encode("a", maximum: 9).ids.count == 1)
  }

  @Test("a file that lost its beginning or end is noted, and read as it says")
  func aFileThatLostItsBeginningIsNoted() throws {
    var keys = try GGUFTokenizerTests.xlmRoberta()
    #expect(try keys.read().tokenizerNotes().isEmpty)
    // As converters wrote bge-m3 (llama.cpp issue 14280).
    keys.flags["add_bos_token"] = nil
    keys.flags["add_eos_token"] = nil
    #expect(try keys.read().tokenizerNotes().first?.contains("no token at the beginning of a text") ?? false)
    let ids = try keys.tokenizer().encode("hello", maximum: 100).ids
    #expect(ids.first != 0 && ids.last == 2)
    keys.flags["add_eos_token"] = false
    #expect(try keys.read().tokenizerNotes().first?.contains("at the beginning and at the end") ?? false)
    #expect(try keys.tokenizer().encode("hello", maximum: 100).ids.last != 2)
    // T5's texts have no beginning.
    keys.texts["general.architecture"] = "t5encoder"
    keys.flags["add_eos_token"] = true
    #expect(try keys.read().tokenizerNotes().isEmpty)
  }

  static let refused: [(change: @Sendable (inout Keys) -> Void, words: String)] = [
    ({ $0.scores[5] = .nan }, "no finite number"),
    ({ $0.scores[5] = -.infinity }, "no finite number"),
    ({ $0.scores.removeLast() }, "must have equal length"),
    ({ $0.scores = [] }, "scores"),
    ({ $0.ids["unknown"] = $0.tokens.count }, "out of range"),
    ({ $0.ids["bos"] = -1 }, "out of range"),
    ({ $0.ids["bos"] = nil }, "bos_token_id"),
    ({ $0.tokens[6] = $0.tokens[5] }, "twice"),
    ({ $0.types.removeLast() }, "equal length"),
    ({ $0.texts["tokenizer.ggml.model"] = "rwkv" }, "rwkv"),
    ({ $0.texts["tokenizer.ggml.model"] = "gpt2" }, "tokenizer.ggml.pre"),
    ({ $0.map = Array($0.map.prefix(1_000)) }, "character map"),
  ]

  @Test("bad keys are refused", arguments: refused.indices)
  func badKeysAreRefused(_ row: Int) throws {
    let (change, words) = GGUFTokenizerTests.refused[row]
    var keys = try GGUFTokenizerTests.xlmRoberta()
    change(&keys)
    do {
      _ = try keys.tokenizer()
      Issue.record("row \(row) was accepted")
    } catch let failure as Failure {
      #expect(failure.description.contains(words), "\(failure)")
    }
  }
}
