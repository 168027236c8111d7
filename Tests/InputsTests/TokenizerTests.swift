import Bytes
import Foundation
import Inputs
import TestSupport
import Testing

struct TokenizerTests {
  static func golden() throws -> Tokenizer {
    try Tokenizer.load { (name) throws(Failure) in
      name == "tokenizer.json" ? try read("Tests/Goldens/tokenizer.json") : nil
    }
  }

  static func read(_ path: String) throws(Failure) -> [UInt8] {
    try InputFile(Repository.root + "/" + path).all(limit: 1 << 28, what: "golden")
  }

  @Test("ids are those of the tokenizers library, on random Unicode")
  func idsAreThoseOfTheTokenizersLibraryOnRandomUnicode() throws {
    let tokenizer = try TokenizerTests.golden()
    let cases = try Repository.json("Tests/Goldens/tokenizer-cases.json").elements()
    #expect(cases.count > 600)
    for row in cases {
      let text = try row.required("text").string()
      let ids = try row.required("ids").elements().map { Int32(try $0.integer(in: 0...100_000)) }
      let found = tokenizer.encode(text, maximum: 10_000)
      #expect(found.ids == ids && found.cut == 0, "\(Failure.quoted(text))")
    }
  }

  @Test("long texts are cut and keep their last special token")
  func longTextsAreCutAndKeepTheirLastSpecialToken() throws {
    let tokenizer = try TokenizerTests.golden()
    let full = tokenizer.encode("hello world the vector", maximum: 100).ids
    #expect(full.count == 6)
    let cut = tokenizer.encode("hello world the vector", maximum: 4)
    #expect(cut.ids == [full[0], full[1], full[2], full[5]] && cut.cut == 2)
    #expect(tokenizer.encode("hello", maximum: 1).ids == [full[0], full[5]])
  }

  @Test("vocab.txt gives the same as tokenizer.json")
  func vocabTxtGivesTheSameAsTokenizerJson() throws {
    let json = try JSON.parse(try TokenizerTests.read("Tests/Goldens/tokenizer.json"))
    var pieces: [(Int, [UInt8])] = []
    for (piece, id) in try json.required("model").required("vocab").members() {
      pieces.append((try id.integer(in: 0...9_999), piece))
    }
    let lines = pieces.sorted { $0.0 < $1.0 }.map { String(decoding: $0.1, as: UTF8.self) }.joined(separator: "\n")
    let tokenizer = try Tokenizer.load { (name) throws(Failure) in name == "vocab.txt" ? Array(lines.utf8) : nil }
    let golden = try TokenizerTests.golden()
    for row in try Repository.json("Tests/Goldens/tokenizer-cases.json").elements() {
      let text = try row.required("text").string()
      // The small tokenizer's words are shorter than BERT's.
      if text.split(whereSeparator: \.isWhitespace).contains(where: { $0.unicodeScalars.count > 20 }) { continue }
      #expect(tokenizer.encode(text, maximum: 1_000).ids == golden.encode(text, maximum: 1_000).ids)
    }
  }

  /// Each row changes one thing of a good file.
  static let refused: [(String, String, Failure.Kind, String)] = [
    (#""version":"1.0""#, #""version":"2.0""#, .unsupported, "2.0"),
    (#""type":"WordPiece""#, #""type":"XYZ""#, .unsupported, "XYZ"),
    (#""vocab":{"#, #""vocab":[],"x":{"#, .malformed, "must be an object"),
    (#""[UNK]":1"#, #""[UNK]":-1"#, .malformed, "out of range"),
    (#""[UNK]":1"#, #""[UNK]":0.5"#, .malformed, "must be an integer"),
    (#""[UNK]":1"#, #""[UNK]":4294967296"#, .malformed, "out of range"),
    (#""[UNK]":1"#, #""[UNK]":0"#, .malformed, "id 0 twice"),
    (#""[UNK]":1"#, #""[UNK]":1,"[UNK]":1"#, .malformed, "duplicate key"),
    (#""unk_token":"[UNK]""#, #""unk_token":"[NONE]""#, .malformed, "not in the vocabulary"),
    (#""content":"[MASK]""#, #""content":"""#, .malformed, "empty text"),
    (#""content":"[MASK]""#, #""content":"[SEP]""#, .malformed, "twice"),
    (#""type":"BertPreTokenizer""#, #""type":"Nope""#, .unsupported, "Nope"),
    (#""type":"BertNormalizer""#, #""type":"Nope""#, .unsupported, "Nope"),
    (#""SpecialToken":{"id":"[SEP]""#, #""SpecialToken":{"id":"[ABSENT]""#, .malformed, "not listed"),
    (#""model":{"#, #""madel":{"#, .malformed, "model"),
  ]

  @Test("a bad tokenizer is refused", arguments: refused.indices)
  func aBadTokenizerIsRefused(_ row: Int) throws {
    let (from, to, kind, words) = TokenizerTests.refused[row]
    let json = try JSONText(try JSON.parse(try TokenizerTests.read("Tests/Goldens/tokenizer.json"))).text()
    let range = try #require(json.range(of: from), "no \(from)")
    let changed = json.replacingCharacters(in: range, with: to)
    let result = outcome { () throws(Failure) in
      try Tokenizer.load { (name) throws(Failure) in name == "tokenizer.json" ? Array(changed.utf8) : nil }
    }
    guard case .failure(let failure) = result else {
      Issue.record("\(to) was accepted")
      return
    }
    #expect(failure.kind == kind && failure.description.contains(words), "\(failure)")
  }
}
