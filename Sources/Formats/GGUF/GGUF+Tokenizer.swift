import Bytes

extension GGUFKeys {
  /// The tokenizer that the `tokenizer.ggml.*` keys describe, as the `tokenizer.json` that means the same.
  ///
  /// - Throws: `unsupported` for kinds that are not read, `malformed` for lists that do not fit each other.
  public func tokenizerJSON() throws(Failure) -> JSONText {
    let vocabulary = try GGUFVocabulary(self)
    let kind = try tokenizerKind()
    let parts =
      switch kind {
      case .bytePair(let cutter): try bytePair(vocabulary, cutter)
      case .wordPiece: try wordPiece(vocabulary)
      case .sentencePiece: try sentencePiece(vocabulary)
      case .unigram: try unigram(vocabulary)
      }
    return [
      "version": "1.0", "truncation": .null, "padding": .null,
      "added_tokens": vocabulary.added(
        spacedMask: kind.maskTakesSpace ? try vocabulary.special(self, ["mask"])?.id : nil),
      "normalizer": GGUFKeys.sequence("normalizers", parts.normalizers),
      "pre_tokenizer": GGUFKeys.sequence("pretokenizers", parts.preTokenizers),
      "post_processor": try template(vocabulary, kind), "decoder": .null, "model": parts.model,
    ]
  }

  /// What is odd about the tokenizer and might make vectors wrong.
  public func tokenizerNotes() throws(Failure) -> [String] {
    let kind = try tokenizerKind()
    let usual = kind.usualMarks(of: try text("general.architecture"))
    let (start, end) = try marks(kind)
    let missing = [usual.start && !start ? "beginning" : nil, usual.end && !end ? "end" : nil].compactMap { $0 }
    if missing.isEmpty { return [] }
    return [
      "the file asks for no token at the \(missing.joined(separator: " and at the ")) of a text, which models of its "
        + "kind are trained with: some converters lost add_bos_token and add_eos_token; compare with the original model"
    ]
  }

  private struct Parts {
    var normalizers: [JSONText] = []
    var preTokenizers: [JSONText] = []
    var model: JSONText
  }

  private static func sequence(_ key: String, _ steps: [JSONText]) -> JSONText {
    steps.count < 2 ? steps.first ?? .null : .object([("type", "Sequence"), (key, .array(steps))])
  }

  private func tokenizerKind() throws(Failure) -> GGUFTokenizerKind {
    let model = try requiredText("tokenizer.ggml.model")
    switch model {
    case "bert": return .wordPiece
    case "llama": return .sentencePiece
    case "t5": return .unigram
    case "gpt2":
      let name = try requiredText("tokenizer.ggml.pre")
      guard let cutter = GGUFCutter.all.first(where: { $0.name == name }) else {
        let known = GGUFCutter.all.map(\.name).joined(separator: ", ")
        throw Failure(.unsupported, "pre-tokenizer \(Failure.quoted(name)) is not read; \(known) are")
      }
      return .bytePair(cutter)
    default:
      throw Failure(
        .unsupported,
        "tokenizer model \(Failure.quoted(model)) is not read; gpt2 (byte-level BPE), bert (WordPiece), "
          + "llama (SentencePiece BPE) and t5 (Unigram) are")
    }
  }

  // MARK: Tokens around a text

  /// Whether a text gets a token before it, and one after it.
  private func marks(_ kind: GGUFTokenizerKind) throws(Failure) -> (start: Bool, end: Bool) {
    let usual = kind.marks
    let end = kind == .wordPiece ? "tokenizer.ggml.add_sep_token" : "tokenizer.ggml.add_eos_token"
    return (try bool("tokenizer.ggml.add_bos_token") ?? usual.start, try bool(end) ?? usual.end)
  }

  private func template(_ vocabulary: GGUFVocabulary, _ kind: GGUFTokenizerKind) throws(Failure) -> JSONText {
    let (hasStart, hasEnd) = try marks(kind)
    // (The key is spelled so.)
    let names =
      kind == .wordPiece
      ? (start: ["cls", "bos"], end: ["seperator", "eos"]) : (start: ["bos", "cls"], end: ["eos", "seperator"])
    var special: [GGUFVocabulary.Token] = []
    func mark(_ isThere: Bool, _ names: [String]) throws(Failure) -> [JSONText] {
      guard isThere else { return [] }
      let token = try required("tokenizer.ggml.\(names[0])_token_id", try vocabulary.special(self, names))
      if !special.contains(where: { $0.id == token.id }) { special.append(token) }
      return [["SpecialToken": ["id": .string(token.text), "type_id": 0]]]
    }
    let single = try mark(hasStart, names.start) + [["Sequence": ["id": "A", "type_id": 0]]] + mark(hasEnd, names.end)
    return [
      "type": "TemplateProcessing", "single": .array(single), "pair": .array([]),
      "special_tokens": .object(special.map { ($0.text, $0.json) }),
    ]
  }

  // MARK: Byte-level BPE

  private func bytePair(_ vocabulary: GGUFVocabulary, _ cutter: GGUFCutter) throws(Failure) -> Parts {
    let split: [JSONText] =
      cutter.number == nil
      ? []
      : [["type": "Split", "pattern": ["Regex": .string(cutter.pattern)], "behavior": "Isolated", "invert": false]]
    return Parts(
      normalizers: cutter.composes ? [["type": "NFC"]] : [],
      preTokenizers: split + [
        ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": .bool(split.isEmpty)]
      ],
      model: [
        "type": "BPE", "dropout": .null, "unk_token": .null, "continuing_subword_prefix": .null,
        "end_of_word_suffix": .null, "fuse_unk": false, "byte_fallback": false,
        "ignore_merges": .bool(cutter.ignoresMerges), "vocab": vocabulary.plain,
        "merges": .array(try texts("tokenizer.ggml.merges").map(JSONText.string)),
      ])
  }

  // MARK: WordPiece

  /// ggml writes a word's first piece with U+2581 in front and the others bare, where WordPiece has them bare and with
  /// `##`.
  static let wordMark = "\u{2581}"

  private func wordPiece(_ vocabulary: GGUFVocabulary) throws(Failure) -> Parts {
    let unknown = try required("tokenizer.ggml.unknown_token_id", try vocabulary.special(self, ["unknown"]))
    func spelled(_ token: String) -> String {
      token.utf8.starts(with: GGUFKeys.wordMark.utf8) ? String(token.unicodeScalars.dropFirst()) : "##" + token
    }
    // Special tokens are members of the vocabulary too, as transformers writes them.
    var plain = vocabulary.plainEntries.map { (spelled($0.text), $0.id) }
    plain += vocabulary.addedEntries.map { ($0.text, $0.id) }
    plain.sort { $0.1 < $1.1 }
    return Parts(
      normalizers: [
        [
          "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": .null,
          "lowercase": true,
        ]
      ],
      preTokenizers: [["type": "BertPreTokenizer"]],
      model: [
        "type": "WordPiece", "unk_token": .string(unknown.text), "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100, "vocab": .object(plain.map { ($0.0, .int($0.1)) }),
      ])
  }

  // MARK: SentencePiece

  private static let mark = JSONText.string(wordMark)
  private static let markSpaces: JSONText = ["type": "Replace", "pattern": ["String": " "], "content": mark]

  /// BPE whose merges are what the scores stand for.
  private func sentencePiece(_ vocabulary: GGUFVocabulary) throws(Failure) -> Parts {
    let scores = try scores(vocabulary)
    let unknown = try vocabulary.special(self, ["unknown"]) ?? vocabulary.first(of: 2)
    let addsSpace = try bool("tokenizer.ggml.add_space_prefix") ?? true
    var pieces = vocabulary.plainEntries.filter { vocabulary.types[$0.id] == 1 }.map { ($0.text, scores[$0.id]) }
    // Tokens for runs of spaces: user-defined, and made by merging before all others, the first ones first.
    let best = (scores.max() ?? 0) + 1
    pieces += vocabulary.addedEntries.filter { vocabulary.types[$0.id] == 4 && $0.isMarks }.map {
      ($0.text, best + Double(vocabulary.tokens.count - $0.id))
    }
    let merges = SentencePieceMerges.list(pieces)
    // Special tokens are members of the vocabulary too.
    let known = (vocabulary.plainEntries + vocabulary.addedEntries).sorted { $0.id < $1.id }
    return Parts(
      normalizers: (addsSpace ? [["type": "Prepend", "prepend": GGUFKeys.mark]] : []) + [GGUFKeys.markSpaces],
      model: [
        "type": "BPE", "dropout": .null, "unk_token": unknown.map { .string($0.text) } ?? .null,
        "continuing_subword_prefix": .null, "end_of_word_suffix": .null, "fuse_unk": true,
        "byte_fallback": .bool(vocabulary.types.contains(6)), "ignore_merges": false,
        "vocab": .object(known.map { ($0.text, .int($0.id)) }),
        "merges": .array(merges.map { .array([.string($0.left), .string($0.right)]) }),
      ])
  }

  private func unigram(_ vocabulary: GGUFVocabulary) throws(Failure) -> Parts {
    let scores = try scores(vocabulary)
    let unknown = try required(
      "tokenizer.ggml.unknown_token_id", try vocabulary.special(self, ["unknown"]) ?? vocabulary.first(of: 2))
    var normalizers: [JSONText] = []
    let map = try bytes("tokenizer.ggml.precompiled_charsmap") ?? []
    if !map.isEmpty {
      normalizers.append(["type": "Precompiled", "precompiled_charsmap": .string(Base64.encoded(map))])
    }
    let addsSpace = try bool("tokenizer.ggml.add_space_prefix") ?? false
    if try bool("tokenizer.ggml.remove_extra_whitespaces") ?? false {
      // One space in front is the one that Metaspace would put there.
      normalizers += [
        ["type": "Strip", "strip_left": .bool(!addsSpace), "strip_right": true],
        ["type": "Replace", "pattern": ["Regex": " {2,}"], "content": " "],
      ]
    }
    return Parts(
      normalizers: normalizers,
      preTokenizers: [
        [
          "type": "Metaspace", "replacement": GGUFKeys.mark, "prepend_scheme": addsSpace ? "always" : "never",
          "split": true,
        ]
      ],
      model: [
        "type": "Unigram", "unk_id": .int(unknown.id), "byte_fallback": false,
        "vocab": .array(zip(vocabulary.tokens, scores).map { .array([.string($0), .number($1)]) }),
      ])
  }

  private func scores(_ vocabulary: GGUFVocabulary) throws(Failure) -> [Double] {
    let key = "tokenizer.ggml.scores"
    let scores = try required(key, try reals(key))
    guard let bad = scores.firstIndex(where: { !$0.isFinite }) else { return scores }
    throw GGUFKeys.wrong(
      key, "the score of token \(bad), \(Failure.quoted(vocabulary.tokens[bad])), is no finite number")
  }

  /// An array of bytes, signed or not.
  private func bytes(_ key: String) throws(Failure) -> [UInt8]? {
    guard self[key] != nil else { return nil }
    let numbers = try integers(key)
    guard numbers.allSatisfy({ (-128...255).contains($0) }) else { throw GGUFKeys.wrong(key, "must be bytes") }
    return numbers.map { UInt8(truncatingIfNeeded: $0) }
  }
}

/// The tokens of a GGUF file by kind.
private struct GGUFVocabulary {
  struct Token {
    let id: Int
    let text: String
    let isSpecial: Bool

    /// Whether it is made of nothing but marks for spaces.
    var isMarks: Bool { text.unicodeScalars.allSatisfy { String($0) == GGUFKeys.wordMark } }

    /// As a template's special token.
    var json: JSONText {
      ["id": .string(text), "ids": .array([.int(id)]), "tokens": .array([.string(text)])]
    }
  }

  let tokens: [String]
  /// 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 a byte.
  let types: [Int64]
  /// Pieces that text is cut into.
  let plainEntries: [Token]
  /// Tokens that are found in text before it is cut.
  let addedEntries: [Token]

  init(_ keys: GGUFKeys) throws(Failure) {
    tokens = try keys.texts("tokenizer.ggml.tokens")
    guard Set(tokens.map { Array($0.utf8) }).count == tokens.count else {
      throw GGUFKeys.wrong("tokenizer.ggml.tokens", "the same token twice")
    }
    if let scores = try keys.reals("tokenizer.ggml.scores"), scores.count != tokens.count {
      throw GGUFKeys.wrong(
        "tokenizer.ggml.scores", "\(scores.count) scores and \(tokens.count) tokens must have equal length")
    }
    types = try keys.integers("tokenizer.ggml.token_type", count: tokens.count)
    var (plain, added): ([Token], [Token]) = ([], [])
    for (id, text) in tokens.enumerated() {
      switch types[id] {
      // WordPiece's unknown token is one of these too.
      case 2, 3, 4: added.append(Token(id: id, text: text, isSpecial: types[id] != 4))
      case 5: continue  // Fills the table up.
      default: plain.append(Token(id: id, text: text, isSpecial: false))
      }
    }
    (plainEntries, addedEntries) = (plain, added)
  }

  var plain: JSONText { .object(plainEntries.map { ($0.text, .int($0.id)) }) }

  /// - Parameter spacedMask: the token that takes the spaces before it, which no key says.
  func added(spacedMask: Int?) -> JSONText {
    .array(
      addedEntries.map {
        [
          "id": .int($0.id), "content": .string($0.text), "single_word": false, "lstrip": .bool($0.id == spacedMask),
          "rstrip": false, "normalized": false, "special": .bool($0.isSpecial),
        ]
      })
  }

  func first(of type: Int64) -> Token? {
    types.firstIndex(of: type).map { Token(id: $0, text: tokens[$0], isSpecial: true) }
  }

  /// The token that `tokenizer.ggml.NAME_token_id` points at, for the first name that the file has.
  func special(_ keys: GGUFKeys, _ names: [String]) throws(Failure) -> Token? {
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
