import Bytes

/// Tokenizers of the files that came before `tokenizer.json`.
extension Tokenizer {
  // MARK: vocab.json and merges.txt

  /// As Qwen2's tokenizer reads them: NFC, its own pattern, special tokens from `tokenizer_config.json` or
  /// `added_tokens.json`.
  init(vocabularyJSON json: JSON, _ file: (String) throws(Failure) -> [UInt8]?) throws(Failure) {
    let config = try file("tokenizer_config.json")
    let settings = try config.map { (bytes) throws(Failure) in try JSON.parse(bytes, what: "tokenizer_config.json") }
    if let value = settings?.optional("tokenizer_class"), !(try value.string().hasPrefix("Qwen2Tokenizer")) {
      throw value.failure(
        "tokenizer_class \(Failure.quoted(try value.bytes())) is not read from vocab.json; Qwen2Tokenizer is",
        .unsupported)
    }
    guard let lines = try file("merges.txt") else { throw Failure(.missing, "no merges.txt beside it") }
    let texts = try Tokenizer.pieces(vocabulary: json)
    let added = try Tokenizer.addedTokens(settings, try file("added_tokens.json"))
    let pieces = Tokenizer.bytePieces(texts)
    model = .bytePair(
      try BytePair(
        alphabet: try BytePair.bytes(pieces), pieces: pieces, merges: try Tokenizer.merges(lines), ignoresMerges: false)
    )
    addedTokens = AddedTokens(added)
    normalizers = [.unicode(.composed)]
    preTokenizers = [
      .split(.words(.qwen2), .isolated, isInverted: false), .byteLevel(addsSpace: false, pattern: nil),
    ]
    (before, after) = ([], try Tokenizer.finalToken(config, added))
    vocabulary = Tokenizer.vocabulary(texts, added)
  }

  /// One merge a line; a first line that starts with `#version` is none.
  private static func merges(_ bytes: [UInt8]) throws(Failure) -> [(left: [UInt8], right: [UInt8])] {
    var merges: [(left: [UInt8], right: [UInt8])] = []
    for (number, line) in bytes.split(separator: 0x0A).enumerated()
    where !line.starts(with: "#version".utf8) || number > 0 {
      let parts = line.split(separator: 0x20, omittingEmptySubsequences: false).map(Array.init)
      guard parts.count == 2, let left = ByteCharacters.bytes(parts[0]), let right = ByteCharacters.bytes(parts[1])
      else {
        throw Failure(.malformed, "a merge must be two tokens", file: "merges.txt", place: "line \(number + 1)")
      }
      merges.append((left, right))
    }
    return merges
  }

  /// `{"151643": {"content": "<|endoftext|>", …}}`, or `{"<|endoftext|>": 151643}`.
  private static func addedTokens(_ settings: JSON?, _ file: [UInt8]?) throws(Failure) -> [AddedTokens.Token] {
    var tokens: [AddedTokens.Token] = []
    func add(_ content: [UInt8], _ id: Int) {
      guard !content.isEmpty else { return }
      let text = String(decoding: content, as: UTF8.self).unicodeScalars.map(\.value)
      tokens.append(AddedTokens.Token(text: text, id: Int32(id)))
    }
    let ids = 0...Int(Int32.max) - 1
    if let decoder = settings?.optional("added_tokens_decoder") {
      for (key, value) in try decoder.members("added_tokens_decoder") {
        guard let id = Int(String(decoding: key, as: UTF8.self)), ids.contains(id) else {
          throw value.failure("\(Failure.quoted(key)) is no token id")
        }
        add(try value.required("content").bytes("content"), id)
      }
    } else if let file {
      do throws(Failure) {
        for (key, value) in try JSON.parse(file, what: "added_tokens.json").members("added_tokens.json") {
          add(key, try value.integer("id", in: ids))
        }
      } catch { throw error.inFile("added_tokens.json") }
    }
    return tokens
  }

  // MARK: vocab.txt

  /// One piece a line, its number the id; the special tokens by their usual names.
  init(vocabulary bytes: [UInt8], config: [UInt8]?) throws(Failure) {
    guard String(validating: bytes, as: UTF8.self) != nil else { throw Failure(.malformed, "not UTF-8") }
    var lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    if lines.last?.isEmpty ?? false { lines.removeLast() }
    var pieces: [[UInt8]: Int32] = [:]
    for (index, line) in lines.enumerated() {
      let piece = Array(line.last == UInt8(ascii: "\r") ? line.dropLast() : line)
      if pieces.updateValue(Int32(index), forKey: piece) != nil {
        throw Failure(.malformed, "piece \(Failure.quoted(piece)) twice", place: "line \(index + 1)")
      }
    }
    var normalizer = BertNormalizer()
    var names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    if let config {
      let json = try JSON.parse(config, what: "tokenizer_config.json")
      normalizer.lowercases = try json.optional("do_lower_case")?.bool("do_lower_case") ?? true
      normalizer.separatesIdeographs =
        try json.optional("tokenize_chinese_chars")?.bool("tokenize_chinese_chars") ?? true
      normalizer.stripsAccents = try json.optional("strip_accents")?.bool("strip_accents") ?? normalizer.lowercases
      for (index, key) in ["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"].enumerated() {
        guard let value = json.optional(key) else { continue }
        names[index] = try (value.optional("content") ?? value).string(key)
      }
    }
    func id(_ name: String) throws(Failure) -> Int32 {
      guard let id = pieces[Array(name.utf8)] else {
        throw Failure(.malformed, "the vocabulary lacks the special token \(Failure.quoted(name))")
      }
      return id
    }
    var added: [AddedTokens.Token] = []
    for name in names where pieces[Array(name.utf8)] != nil {
      added.append(AddedTokens.Token(text: name.unicodeScalars.map(\.value), id: try id(name)))
    }
    addedTokens = AddedTokens(added)
    (normalizers, preTokenizers) = ([.bert(normalizer)], [.bert])
    let wordPiece = WordPiece(
      pieces: pieces, unknown: try id(names[1]), continuingPrefix: Array("##".utf8), longestWord: 100)
    model = .wordPiece(wordPiece)
    (before, after) = ([try id(names[2])], [try id(names[3])])
    vocabulary = Tokenizer.vocabulary(pieces, added)
  }
}
