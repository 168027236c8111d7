import Bytes
import Foundation
import Inputs
import TestSupport
import Testing

/// Tokenizers of every kind that embedders have, held to the `tokenizers` library (Tools/make-tokenizer-goldens).
struct TokenizerKindTests {
  static let folder = "Tests/Goldens/tokenizers/"

  /// SentencePiece's own map of characters, which the goldens share.
  static let characterMap: [UInt8] = {
    guard let packed = try? TokenizerTests.read(folder + "nmt_nfkc.lz4") else { return [] }
    var map = [UInt8](repeating: 0, count: 240_007)
    try? packed.withUnsafeBytes { packed in
      try map.withUnsafeMutableBytes { try LZ4Frame.decompress(packed, into: $0) }
    }
    return map
  }()

  static let kinds = [
    "xlm-roberta", "e5", "t5", "unigram-bytes", "albert", "llama", "mistral", "bpe-unknown", "gemma", "roberta",
    "roberta-prefix", "modernbert", "qwen3", "llama3", "mpnet", "bert-cased", "flags",
  ]

  static func json(_ kind: String) throws -> String {
    try String(contentsOfFile: Repository.root + "/" + folder + kind + ".json", encoding: .utf8)
  }

  static func tokenizer(_ json: String, map: [UInt8] = characterMap) throws(Failure) -> Tokenizer {
    let text = json.replacingOccurrences(of: "\"nmt_nfkc\"", with: "\"" + Base64.encoded(map) + "\"")
    return try Tokenizer.load { (name) throws(Failure) in name == "tokenizer.json" ? Array(text.utf8) : nil }
  }

  @Test("ids are those of the tokenizers library", arguments: kinds)
  func idsAreThoseOfTheTokenizersLibrary(_ kind: String) throws {
    let tokenizer = try TokenizerKindTests.tokenizer(try TokenizerKindTests.json(kind))
    let texts = try Repository.json(TokenizerKindTests.folder + "texts.json").elements()
    let rows = try Repository.json(TokenizerKindTests.folder + kind + "-ids.json").elements()
    #expect(texts.count == 300 && rows.count == 300)
    for (text, row) in zip(texts, rows) {
      let text = try text.string()
      let ids = try row.elements().map { Int32(try $0.integer(in: 0...100_000)) }
      #expect(tokenizer.encode(text, maximum: 100_000).ids == ids, "\(kind): \(Failure.quoted(text))")
    }
  }

  @Test("long texts take time in proportion", arguments: ["xlm-roberta", "unigram-bytes", "llama", "gemma", "mpnet"])
  func longTextsTakeTimeInProportion(_ kind: String) throws {
    let tokenizer = try TokenizerKindTests.tokenizer(try TokenizerKindTests.json(kind))
    // Quadratic time would be hours.
    for unit in ["a", "ab ", "\u{301}", "<", " "] {
      let text = String(repeating: unit, count: 300_000)
      let clock = ContinuousClock()
      let time = clock.measure { _ = tokenizer.ids(text) }
      #expect(time < .seconds(60), "\(kind) took \(time) for \(Failure.quoted(unit))")
    }
  }

  @Test("what the file does not say is what the library takes: Metaspace in front, GPT-2's pattern")
  func whatTheFileDoesNotSayIsWhatTheLibraryTakes() throws {
    let json = try TokenizerKindTests.json("xlm-roberta")
    let plain = try TokenizerKindTests.tokenizer(json)
    let untold = try TokenizerKindTests.tokenizer(
      json.replacingOccurrences(of: #","prepend_scheme":"always","split":true"#, with: ""))
    #expect(json.contains(#","prepend_scheme":"always","split":true"#))
    #expect(untold.hasSameVocabulary(as: plain))
    let never = try TokenizerKindTests.tokenizer(
      json.replacingOccurrences(of: #""prepend_scheme":"always""#, with: #""add_prefix_space":false"#))
    #expect(!never.hasSameVocabulary(as: plain) && never.ids("x y") != plain.ids("x y"))
    let bytes = try TokenizerKindTests.json("roberta")
    let same = try TokenizerKindTests.tokenizer(bytes.replacingOccurrences(of: #","use_regex":true"#, with: ""))
    #expect(same.hasSameVocabulary(as: try TokenizerKindTests.tokenizer(bytes)))
  }

  /// Each row changes one thing of a good file.
  static let refused: [(kind: String, from: String, to: String, Failure.Kind, String)] = [
    ("xlm-roberta", #""unk_id":3"#, #""unk_id":100000"#, .malformed, "unk_id"),
    ("xlm-roberta", #""unk_id":3"#, #""unk_id":-1"#, .malformed, "unk_id"),
    ("xlm-roberta", #""unk_id":3,"#, "", .malformed, "unk_id"),
    ("xlm-roberta", #"["<pad>",0.0]"#, #"["<s>",0.0]"#, .malformed, #"piece "<s>" twice"#),
    ("xlm-roberta", #"["<pad>",0.0]"#, #"["<pad>"]"#, .malformed, "a text and its score"),
    ("xlm-roberta", #"["<pad>",0.0]"#, #"["<pad>",NaN]"#, .malformed, "byte"),
    ("xlm-roberta", #"["<pad>",0.0]"#, #"["<pad>",1e999]"#, .malformed, "finite"),
    ("xlm-roberta", #""replacement":"▁""#, #""replacement":"▁▁""#, .malformed, "one character"),
    ("xlm-roberta", #""prepend_scheme":"always""#, #""prepend_scheme":"often""#, .malformed, "none of always, first"),
    (
      "xlm-roberta", #""prepend_scheme":"always""#, #""prepend_scheme":"first","add_prefix_space":false"#, .malformed,
      "add_prefix_space is false"
    ),
    ("xlm-roberta", #""Regex":" {2,}""#, #""Regex":" {2,3}""#, .unsupported, "known ones"),
    ("xlm-roberta", #""Regex":" {2,}""#, #""Regex":"(a|b)*""#, .unsupported, "known ones"),
    ("xlm-roberta", #""Regex":" {2,}""#, #""String":"""#, .malformed, "empty pattern"),
    (
      "xlm-roberta", #"{2,}"},"content":"▁""#,
      #"{2,}"},"content":""# + String(repeating: "b", count: 10_000) + "\"", .malformed, "5000.0 times as long"
    ),
    ("xlm-roberta", #""nmt_nfkc""#, #""%%%%""#, .malformed, "no base64"),
    ("albert", #""type":"NFKD""#, #""type":"NFX""#, .unsupported, "NFX"),
    ("llama", #""unk_token":"<unk>""#, #""unk_token":"<none>""#, .malformed, "not in the vocabulary"),
    ("llama", #""merges":[["#, #""merges":[["▁","qqq"],["#, .malformed, "not in the vocabulary"),
    ("llama", #""dropout":null"#, #""dropout":0.1"#, .unsupported, "dropout"),
    ("roberta", #""byte_fallback":false"#, #""byte_fallback":true"#, .unsupported, "byte_fallback"),
    ("mpnet", #""type":"RobertaProcessing""#, #""type":"Other""#, .unsupported, "Other"),
    ("mpnet", #""sep":["</s>",2]"#, #""sep":["</s>"]"#, .malformed, "a token and its id"),
    ("mpnet", #"{"type":"BertPreTokenizer"}"#, #"{"type":"ByteLevel","add_prefix_space":false}"#, .unsupported, "BPE"),
    ("flags", #""behavior":"MergedWithNext""#, #""behavior":"Other""#, .malformed, "none of Removed"),
  ]

  @Test("a bad tokenizer is refused", arguments: refused.indices)
  func aBadTokenizerIsRefused(_ row: Int) throws {
    let (name, from, to, kind, words) = TokenizerKindTests.refused[row]
    let json = try TokenizerKindTests.json(name)
    let range = try #require(json.range(of: from), "no \(from)")
    TokenizerKindTests.expectFailure(kind, words, to) { () throws(Failure) in
      _ = try TokenizerKindTests.tokenizer(json.replacingCharacters(in: range, with: to))
    }
  }

  private static func expectFailure(
    _ kind: Failure.Kind, _ words: String, _ what: String, _ body: () throws(Failure) -> Void
  ) {
    do throws(Failure) {
      try body()
      Issue.record("\(what) was accepted")
    } catch {
      #expect(error.kind == kind && error.description.contains(words), "\(what): \(error)")
    }
  }

  // MARK: Maps of characters

  /// A map of one array of 256 units and a list of texts.
  static func map(_ units: [Int: UInt32], texts: [UInt8], size: UInt32 = 1_024) -> [UInt8] {
    func word(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32(8 * $0)) } }
    return word(size) + (0..<256).flatMap { word(units[$0] ?? 0) } + texts
  }

  /// A unit with a label, an offset from its place to its children, and whether a value is among these.
  static func unit(_ label: UInt32, _ offset: UInt32, hasLeaf: Bool = false) -> UInt32 {
    label | offset << 10 | (hasLeaf ? 1 << 8 : 0)
  }

  /// "a" becomes "b": the root's children are counted from 1, those of "a" (at 1 ^ 97 = 96) from 96 ^ 2 = 98.
  static let good: [Int: UInt32] = [0: unit(0, 1), 96: unit(97, 2, hasLeaf: true), 98: 1 << 31]

  static let broken: [(what: String, map: [UInt8], words: String)] = [
    ("nothing", [], "cut short"),
    ("no array", [0, 0, 0, 0], "array of 0 bytes"),
    ("an array longer than the file", map(good, texts: Array("b\0".utf8), size: 2_048), "array of 2048 bytes"),
    ("an odd array", map(good, texts: Array("b\0".utf8), size: 1_023), "array of 1023 bytes"),
    ("a huge array", map(good, texts: Array("b\0".utf8), size: 0xFFFF_FFFC), "array of 4294967292 bytes"),
    ("children outside", map(good.merging([0: unit(0, 1 << 10)]) { $1 }, texts: Array("b\0".utf8)), "outside"),
    (
      "children far outside",
      map(good.merging([96: unit(97, (1 << 21) - 1) | 1 << 9]) { $1 }, texts: Array("b\0".utf8)),
      "outside"
    ),
    // The child of "a" for "a" is at 96 again.
    ("a circle", map(good.merging([96: unit(97, 97)]) { $1 }, texts: Array("b\0".utf8)), "never ends"),
    (
      "a value beyond the texts", map(good.merging([98: 1 << 31 | 2]) { $1 }, texts: Array("b\0".utf8)),
      "value 2 beyond"
    ),
    ("no texts", map(good, texts: []), "beyond its 0 bytes"),
    (
      "more text than its file", map(good, texts: [UInt8](repeating: UInt8(ascii: "b"), count: (1 << 24) + 2)),
      "stands for more than"
    ),
    ("a text that is no UTF-8", map(good, texts: [0xFF, 0]), "no UTF-8"),
  ]

  @Test("a broken map of characters is refused", arguments: broken.indices)
  func aBrokenMapOfCharactersIsRefused(_ row: Int) throws {
    let (what, map, words) = TokenizerKindTests.broken[row]
    let json = try TokenizerKindTests.json("e5")
    TokenizerKindTests.expectFailure(.malformed, words, what) { () throws(Failure) in
      _ = try TokenizerKindTests.tokenizer(json, map: map)
    }
  }

  @Test("a small map does what it says")
  func aSmallMapDoesWhatItSays() throws {
    let json = try TokenizerKindTests.json("e5")
    let map = TokenizerKindTests.map(TokenizerKindTests.good, texts: Array("b\0".utf8))
    let tokenizer = try TokenizerKindTests.tokenizer(json, map: map)
    #expect(tokenizer.ids("abc xaz") == tokenizer.ids("bbc xbz"))
    #expect(tokenizer.ids("abc xaz") != tokenizer.ids("cbc xcz"))
  }

  @Test("cut or changed anywhere, a real map is refused or read, never a trap")
  func cutOrChangedAnywhereARealMapIsRefusedOrRead() throws {
    let json = try TokenizerKindTests.json("e5")
    let map = TokenizerKindTests.characterMap
    var random = Random(seed: 3)
    var outcomes = (refused: 0, read: 0)
    for turn in 0..<60 {
      var changed = map
      if turn % 3 == 0 {
        changed.removeLast(Int(random.next() % UInt64(map.count)))
      } else {
        for _ in 0..<(1 + turn) {
          changed[Int(random.next() % UInt64(map.count))] = UInt8(truncatingIfNeeded: random.next())
        }
      }
      do throws(Failure) {
        let tokenizer = try TokenizerKindTests.tokenizer(json, map: changed)
        #expect(!tokenizer.ids("Ａｂｃ ﬁ½ \u{301}e\u{301} 각 \u{1F44D} ℃").isEmpty)
        outcomes.read += 1
      } catch { outcomes.refused += 1 }
    }
    #expect(outcomes.refused > 20)
  }
}
