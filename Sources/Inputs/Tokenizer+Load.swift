import Bytes

extension Tokenizer {
  /// Reads a tokenizer from the files a model came with: `tokenizer.json`, or else `vocab.json` with `merges.txt`, or
  /// `vocab.txt`.
  ///
  /// - Parameter file: the content of a file by name, nil when there is none.
  /// - Throws: `malformed` or `unsupported`, naming the file and the place in it.
  public static func load(_ file: (String) throws(Failure) -> [UInt8]?) throws(Failure) -> Tokenizer {
    if let bytes = try file("tokenizer.json") {
      do throws(Failure) {
        return try Tokenizer(
          tokenizerJSON: try JSON.parse(bytes, what: "tokenizer.json"), config: try file("tokenizer_config.json"))
      } catch { throw error.inFile("tokenizer.json") }
    }
    if let bytes = try file("vocab.json") {
      do throws(Failure) {
        return try Tokenizer(vocabularyJSON: try JSON.parse(bytes, what: "vocab.json"), file)
      } catch { throw error.inFile("vocab.json") }
    }
    if let bytes = try file("vocab.txt") {
      do throws(Failure) {
        return try Tokenizer(vocabulary: bytes, config: try file("tokenizer_config.json"))
      } catch { throw error.inFile("vocab.txt") }
    }
    throw Failure(.missing, "the model has neither tokenizer.json, vocab.json nor vocab.txt")
  }

  // MARK: tokenizer.json

  private init(tokenizerJSON json: JSON, config: [UInt8]?) throws(Failure) {
    if let version = json.optional("version"), try version.string("version") != "1.0" {
      throw version.failure("version \(Failure.quoted(try version.string())) is not supported; 1.0 is", .unsupported)
    }
    let modelValue = try json.required("model")
    let words = try modelValue.required("vocab")
    // Old files do not say. Unigram models have a list of pieces with scores.
    let type = try modelValue.optional("type")?.string("type") ?? (words.kind == .array ? "Unigram" : "WordPiece")
    let pieces: [[UInt8]: Int32]
    switch type {
    case "WordPiece":
      pieces = try Tokenizer.pieces(vocabulary: words)
      let normalizer = try Tokenizer.normalizer(json)
      model = .wordPiece(try Tokenizer.wordPiece(modelValue, pieces), normalizer)
      try Tokenizer.require(json, "pre_tokenizer", "BertPreTokenizer")
      addedTokens = try Tokenizer.addedTokens(json, pieces) { normalizer.normalize($0) }
      (before, after) = try Tokenizer.template(json)
    case "BPE":
      pieces = try Tokenizer.pieces(vocabulary: words)
      let pair = try Tokenizer.bytePair(json, modelValue, pieces)
      model = .bytePair(pair)
      let added = try Tokenizer.addedTokens(json, pieces) { pair.normalizes ? Composition.canonical($0) : $0 }
      addedTokens = added
      let template = try Tokenizer.template(json)
      before = template.before
      after = template.after.isEmpty ? try Tokenizer.finalToken(config, added) : template.after
    default:
      let family = type == "Unigram" ? " (SentencePiece)" : ""
      throw modelValue.failure(
        "tokenizer of kind \(Failure.quoted(type))\(family) is not supported; WordPiece and byte-level BPE are",
        .unsupported)
    }
    vocabulary = Tokenizer.vocabulary(pieces, addedTokens)
  }

  static func vocabulary(_ pieces: [[UInt8]: Int32], _ added: [AddedToken]) -> Int {
    Int(max(pieces.values.max() ?? -1, added.map(\.id).max() ?? -1)) + 1
  }

  private static func require(_ json: JSON, _ key: String, _ type: String) throws(Failure) {
    let value = try json.required(key)
    let found = try value.required("type").string("type")
    guard found == type else {
      throw value.failure("\(key) of type \(Failure.quoted(found)) is not supported; \(type) is", .unsupported)
    }
  }

  static func pieces(vocabulary: JSON) throws(Failure) -> [[UInt8]: Int32] {
    var pieces: [[UInt8]: Int32] = [:]
    var owner: [Int32: [UInt8]] = [:]
    try vocabulary.forEachMember("vocab") { (key, value) throws(Failure) in
      let piece = try key.bytes()
      let id = Int32(try value.integer("id", in: 0...Int(Int32.max) - 1))
      if let other = owner[id] {
        throw value.failure("id \(id) twice: \(Failure.quoted(other)) and \(Failure.quoted(piece))")
      }
      owner[id] = piece
      pieces[piece] = id
    }
    return pieces
  }

  private static func wordPiece(_ json: JSON, _ pieces: [[UInt8]: Int32]) throws(Failure) -> WordPiece {
    let unknownValue = try json.required("unk_token")
    let unknown = try unknownValue.bytes("unk_token")
    guard let id = pieces[unknown] else {
      throw unknownValue.failure("unknown token \(Failure.quoted(unknown)) is not in the vocabulary")
    }
    return WordPiece(
      pieces: pieces, unknown: id,
      continuingPrefix: try json.optional("continuing_subword_prefix")?.bytes("continuing_subword_prefix")
        ?? Array("##".utf8),
      longestWord: try json.optional("max_input_chars_per_word")?.integer("max_input_chars_per_word", in: 0...1_000_000)
        ?? 100)
  }

  private static func normalizer(_ json: JSON) throws(Failure) -> BertNormalizer {
    try require(json, "normalizer", "BertNormalizer")
    let value = try json.required("normalizer")
    var normalizer = BertNormalizer()
    normalizer.cleansText = try value.required("clean_text").bool("clean_text")
    normalizer.separatesIdeographs = try value.required("handle_chinese_chars").bool("handle_chinese_chars")
    normalizer.lowercases = try value.required("lowercase").bool("lowercase")
    // Accents go with the case unless the file says otherwise.
    normalizer.stripsAccents = try value.optional("strip_accents")?.bool("strip_accents") ?? normalizer.lowercases
    return normalizer
  }

  static func addedTokens(
    _ json: JSON, _ pieces: [[UInt8]: Int32], _ normalize: ([UInt32]) -> [UInt32]
  ) throws(Failure) -> [AddedToken] {
    var tokens: [AddedToken] = []
    var seen: [[UInt8]: Int32] = [:]
    var owner: [Int32: [UInt8]] = [:]
    for (piece, id) in pieces { owner[id] = piece }
    for entry in try json.optional("added_tokens")?.elements("added_tokens") ?? [] {
      let content = try entry.required("content").bytes("content")
      let id = Int32(try entry.required("id").integer("id", in: 0...Int(Int32.max) - 1))
      guard !content.isEmpty else { throw entry.failure("added token with empty text") }
      guard seen[content] == nil else { throw entry.failure("added token \(Failure.quoted(content)) twice") }
      if let other = owner[id], other != content {
        throw entry.failure("added token \(Failure.quoted(content)) has id \(id), which is \(Failure.quoted(other))")
      }
      if let other = pieces[content], other != id {
        throw entry.failure("added token \(Failure.quoted(content)) has id \(id), but \(other) in the vocabulary")
      }
      seen[content] = id
      owner[id] = content
      func flag(_ key: String) throws(Failure) -> Bool { try entry.optional(key)?.bool(key) ?? false }
      let isNormalized = try flag("normalized")
      let text = String(decoding: content, as: UTF8.self).unicodeScalars.map(\.value)
      tokens.append(
        AddedToken(
          text: isNormalized ? normalize(text) : text, id: id, isSingleWord: try flag("single_word"),
          takesLeftSpace: try flag("lstrip"), takesRightSpace: try flag("rstrip"), isNormalized: isNormalized))
    }
    return tokens.filter { !$0.text.isEmpty }
  }

  private static func template(_ json: JSON) throws(Failure) -> (before: [Int32], after: [Int32]) {
    guard let value = json.optional("post_processor") else { return ([], []) }
    return try template(of: value)
  }

  /// The special tokens around a single text, from `TemplateProcessing` or `BertProcessing`.
  private static func template(of value: JSON) throws(Failure) -> (before: [Int32], after: [Int32]) {
    let type = try value.required("type").string("type")
    // Byte-level processing only moves offsets.
    if type == "ByteLevel" { return ([], []) }
    if type == "Sequence" {
      var parts: [(before: [Int32], after: [Int32])] = []
      for part in try value.required("processors").elements("processors") { parts.append(try template(of: part)) }
      parts.removeAll { $0.before.isEmpty && $0.after.isEmpty }
      guard parts.count <= 1 else {
        throw value.failure("two templates one after the other are not supported", .unsupported)
      }
      return parts.first ?? ([], [])
    }
    if type == "BertProcessing" {
      func id(_ key: String) throws(Failure) -> Int32 {
        let pair = try value.required(key).elements(key)
        guard pair.count == 2 else { throw value.failure("\(key) must be a token and its id") }
        return Int32(try pair[1].integer("id", in: 0...Int(Int32.max) - 1))
      }
      return ([try id("cls")], [try id("sep")])
    }
    guard type == "TemplateProcessing" else {
      throw value.failure(
        "post_processor of type \(Failure.quoted(type)) is not supported; TemplateProcessing is", .unsupported)
    }
    let tokens = try value.required("special_tokens")
    var before: [Int32] = []
    var after: [Int32] = []
    var hasText = false
    for part in try value.required("single").elements("single") {
      if part["Sequence"] != nil {
        guard !hasText else { throw part.failure("the template has the text twice", .unsupported) }
        hasText = true
        continue
      }
      let name = try part.required("SpecialToken").required("id")
      guard let token = tokens[try name.string("id")] else {
        throw name.failure("template names the special token \(Failure.quoted(try name.bytes())), which is not listed")
      }
      for id in try token.required("ids").elements("ids") {
        let number = Int32(try id.integer("id", in: 0...Int(Int32.max) - 1))
        if hasText { after.append(number) } else { before.append(number) }
      }
    }
    guard hasText else { throw value.failure("the template has no place for the text") }
    return (before, after)
  }

  // MARK: vocab.txt

  /// One piece a line, its number the id; the special tokens by their usual names.
  private init(vocabulary bytes: [UInt8], config: [UInt8]?) throws(Failure) {
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
    var added: [AddedToken] = []
    for name in names where pieces[Array(name.utf8)] != nil {
      added.append(AddedToken(text: name.unicodeScalars.map(\.value), id: try id(name)))
    }
    addedTokens = added
    let wordPiece = WordPiece(
      pieces: pieces, unknown: try id(names[1]), continuingPrefix: Array("##".utf8), longestWord: 100)
    model = .wordPiece(wordPiece, normalizer)
    (before, after) = ([try id(names[2])], [try id(names[3])])
    vocabulary = Tokenizer.vocabulary(pieces, added)
  }
}
