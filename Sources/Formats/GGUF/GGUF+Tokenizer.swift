import Bytes

extension GGUFKeys {
  /// The tokenizer that the `tokenizer.ggml.*` keys describe, as the `tokenizer.json` that means the same: byte-level
  /// BPE of the kinds `qwen2` and `llama-bpe`, and BERT's WordPiece.
  ///
  /// - Throws: `unsupported` for other kinds, `malformed` for lists that do not fit each other.
  public func tokenizerJSON() throws(Failure) -> JSONText {
    let vocabulary = try GGUFVocabulary(self)
    let model = try requiredText("tokenizer.ggml.model")
    switch model {
    case "gpt2": return try bytePair(vocabulary)
    case "bert": return try wordPiece(vocabulary)
    default:
      throw Failure(
        .unsupported,
        "tokenizer model \(Failure.quoted(model)) is not read; gpt2 (byte-level BPE) and bert (WordPiece) are")
    }
  }

  // MARK: Byte-level BPE

  /// ggml's names for how text is cut before merging, and what of the pattern differs: the numbers.
  static let cutters = [
    (kind: "qwen2", number: "\\p{N}"), (kind: "deepseek-r1-qwen", number: "\\p{N}"),
    (kind: "llama-bpe", number: "\\p{N}{1,3}"),
  ]

  static func pattern(_ number: String) -> String {
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\(number)| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
  }

  private func bytePair(_ vocabulary: GGUFVocabulary) throws(Failure) -> JSONText {
    let kind = try requiredText("tokenizer.ggml.pre")
    guard let number = GGUFKeys.cutters.first(where: { $0.kind == kind })?.number else {
      let known = GGUFKeys.cutters.map(\.kind).joined(separator: ", ")
      throw Failure(.unsupported, "pre-tokenizer \(Failure.quoted(kind)) is not read; \(known) are")
    }
    return [
      "version": "1.0", "truncation": .null, "padding": .null,
      "added_tokens": vocabulary.added,
      "normalizer": kind == "llama-bpe" ? .null : ["type": "NFC"],
      "pre_tokenizer": [
        "type": "Sequence",
        "pretokenizers": .array([
          [
            "type": "Split", "pattern": ["Regex": .string(GGUFKeys.pattern(number))], "behavior": "Isolated",
            "invert": false,
          ],
          ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false],
        ]),
      ],
      "post_processor": try endMark(vocabulary), "decoder": ["type": "ByteLevel"],
      "model": [
        "type": "BPE", "dropout": .null, "unk_token": .null, "continuing_subword_prefix": .null,
        "end_of_word_suffix": .null, "fuse_unk": false, "byte_fallback": false,
        "ignore_merges": .bool(kind == "llama-bpe"), "vocab": vocabulary.plain,
        "merges": .array(try texts("tokenizer.ggml.merges").map(JSONText.string)),
      ],
    ]
  }

  private func endMark(_ vocabulary: GGUFVocabulary) throws(Failure) -> JSONText {
    guard try bool("tokenizer.ggml.add_eos_token") ?? false else {
      return ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false]
    }
    guard let end = try vocabulary.special(self, "eos") else {
      throw Failure(.malformed, "add_eos_token without an eos_token_id")
    }
    let name = JSONText.string(end.text)
    return [
      "type": "TemplateProcessing",
      "single": .array([["Sequence": ["id": "A", "type_id": 0]], ["SpecialToken": ["id": name, "type_id": 0]]]),
      "pair": .array([]), "special_tokens": .object([(end.text, end.json)]),
    ]
  }

  // MARK: WordPiece

  /// ggml writes a word's first piece with U+2581 in front and the others bare, where WordPiece has them bare and with
  /// `##`.
  static let wordMark = "\u{2581}"

  private func wordPiece(_ vocabulary: GGUFVocabulary) throws(Failure) -> JSONText {
    // (The key is spelled so.)
    let start = try required("tokenizer.ggml.cls_token_id", try vocabulary.special(self, "cls", "bos"))
    let end = try required("tokenizer.ggml.seperator_token_id", try vocabulary.special(self, "seperator", "eos"))
    let unknown = try required("tokenizer.ggml.unknown_token_id", try vocabulary.special(self, "unknown"))
    func spelled(_ token: String) -> String {
      token.utf8.starts(with: GGUFKeys.wordMark.utf8) ? String(token.unicodeScalars.dropFirst()) : "##" + token
    }
    // Special tokens are members of the vocabulary too, as transformers writes them.
    var plain = vocabulary.plainEntries.map { (spelled($0.text), $0.id) }
    plain += vocabulary.addedEntries.map { ($0.text, $0.id) }
    plain.sort { $0.1 < $1.1 }
    return [
      "version": "1.0", "truncation": .null, "padding": .null,
      "added_tokens": vocabulary.added,
      "normalizer": [
        "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": .null,
        "lowercase": true,
      ],
      "pre_tokenizer": ["type": "BertPreTokenizer"],
      "post_processor": [
        "type": "TemplateProcessing",
        "single": .array([
          ["SpecialToken": ["id": .string(start.text), "type_id": 0]], ["Sequence": ["id": "A", "type_id": 0]],
          ["SpecialToken": ["id": .string(end.text), "type_id": 0]],
        ]), "pair": .array([]), "special_tokens": .object([(start.text, start.json), (end.text, end.json)]),
      ],
      "decoder": ["type": "WordPiece", "prefix": "##", "cleanup": true],
      "model": [
        "type": "WordPiece", "unk_token": .string(unknown.text), "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100, "vocab": .object(plain.map { ($0.0, .int($0.1)) }),
      ],
    ]
  }
}

/// The tokens of a GGUF file by kind.
private struct GGUFVocabulary {
  struct Token {
    let id: Int
    let text: String
    let isSpecial: Bool

    /// As a template's special token.
    var json: JSONText {
      ["id": .string(text), "ids": .array([.int(id)]), "tokens": .array([.string(text)])]
    }
  }

  let tokens: [String]
  /// Pieces that text is cut into.
  let plainEntries: [Token]
  /// Tokens that are found in text before it is cut.
  let addedEntries: [Token]

  init(_ keys: GGUFKeys) throws(Failure) {
    tokens = try keys.texts("tokenizer.ggml.tokens")
    guard Set(tokens).count == tokens.count else {
      throw GGUFKeys.wrong("tokenizer.ggml.tokens", "the same token twice")
    }
    if let scores = try keys.reals("tokenizer.ggml.scores"), scores.count != tokens.count {
      throw GGUFKeys.wrong(
        "tokenizer.ggml.scores", "\(scores.count) scores and \(tokens.count) tokens must have equal length")
    }
    let types = try keys.integers("tokenizer.ggml.token_type", count: tokens.count)
    var (plain, added): ([Token], [Token]) = ([], [])
    for (id, text) in tokens.enumerated() {
      switch types[id] {
      // Control and user-defined. WordPiece's unknown token is one of these too.
      case 2, 3, 4: added.append(Token(id: id, text: text, isSpecial: types[id] != 4))
      case 5: continue  // Unused: fills the table up.
      default: plain.append(Token(id: id, text: text, isSpecial: false))
      }
    }
    (plainEntries, addedEntries) = (plain, added)
  }

  var plain: JSONText { .object(plainEntries.map { ($0.text, .int($0.id)) }) }

  var added: JSONText {
    .array(
      addedEntries.map {
        [
          "id": .int($0.id), "content": .string($0.text), "single_word": false, "lstrip": false,
          "rstrip": false, "normalized": false, "special": .bool($0.isSpecial),
        ]
      })
  }

  /// The token that `tokenizer.ggml.NAME_token_id` points at, for the first name that the file has.
  func special(_ keys: GGUFKeys, _ names: String...) throws(Failure) -> Token? {
    for name in names {
      let key = "tokenizer.ggml.\(name)_token_id"
      guard let id = try keys.integer(key, in: Int.min...Int.max) else { continue }
      guard tokens.indices.contains(id) else {
        throw GGUFKeys.wrong(key, "token id \(id) out of range: \(tokens.count) tokens")
      }
      return Token(id: id, text: tokens[id], isSpecial: true)
    }
    return nil
  }
}
