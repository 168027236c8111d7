import Bytes

/// `tokenizer.json`: a pipeline of normalizer, pre-tokenizer, model and post-processor. Padding and truncation in it
/// are not used: `encode` is told how long a text may be.
extension Tokenizer {
  init(tokenizerJSON json: JSON, config: [UInt8]?) throws(Failure) {
    if let version = json.optional("version"), try version.string("version") != "1.0" {
      throw version.failure("version \(Failure.quoted(try version.string())) is not supported; 1.0 is", .unsupported)
    }
    let value = try json.required("model")
    let words = try value.required("vocab")
    normalizers = try Normalizer.steps(json.optional("normalizer"))
    let growth = normalizers.reduce(1) { $0 * $1.growth }
    guard growth <= Normalizer.mostGrowth else {
      throw json.failure("normalizers could make a text \(growth) times as long; at most \(Normalizer.mostGrowth)")
    }
    preTokenizers = try PreTokenizer.steps(json.optional("pre_tokenizer"))
    // Old files do not say.
    let type =
      try value.optional("type")?.string("type")
      ?? (words.kind == .array ? "Unigram" : value["merges"] == nil ? "WordPiece" : "BPE")
    let byteLevel = preTokenizers.firstIndex(where: \.isByteLevel)
    if let byteLevel, type != "BPE" || byteLevel != preTokenizers.count - 1 {
      throw json.failure("ByteLevel goes with BPE, as the last pre_tokenizer", .unsupported)
    }
    let pieces: [[UInt8]: Int32]
    switch type {
    case "WordPiece":
      pieces = try Tokenizer.pieces(vocabulary: words)
      model = .wordPiece(try Tokenizer.wordPiece(value, pieces))
    case "BPE":
      pieces = try Tokenizer.pieces(vocabulary: words)
      model = .bytePair(try Tokenizer.bytePair(value, pieces, isByteLevel: byteLevel != nil))
    case "Unigram":
      let list = try Tokenizer.scoredPieces(words)
      model = .unigram(try Tokenizer.unigram(value, list))
      pieces = Dictionary(list.enumerated().map { ($1.text, Int32($0)) }) { $1 }
    default:
      throw value.failure(
        "tokenizer of kind \(Failure.quoted(type)) is not supported; WordPiece, BPE and Unigram are", .unsupported)
    }
    addedTokens = AddedTokens(try Tokenizer.addedTokens(json, pieces, normalizers))
    let template = try Template(json.optional("post_processor"))
    before = template.before
    after = template.after.isEmpty ? try Tokenizer.finalToken(config, addedTokens.tokens) : template.after
    vocabulary = Tokenizer.vocabulary(pieces, addedTokens.tokens)
  }

  static func vocabulary(_ pieces: [[UInt8]: Int32], _ added: [AddedTokens.Token]) -> Int {
    Int(max(pieces.values.max() ?? -1, added.map(\.id).max() ?? -1)) + 1
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

  // MARK: Models

  private static func wordPiece(_ json: JSON, _ pieces: [[UInt8]: Int32]) throws(Failure) -> WordPiece {
    WordPiece(
      pieces: pieces, unknown: try unknown(try json.required("unk_token"), pieces),
      continuingPrefix: try json.optional("continuing_subword_prefix")?.bytes("continuing_subword_prefix")
        ?? Array("##".utf8),
      longestWord: try json.optional("max_input_chars_per_word")?.integer("max_input_chars_per_word", in: 0...1_000_000)
        ?? 100)
  }

  private static func unknown(_ json: JSON, _ pieces: [[UInt8]: Int32]) throws(Failure) -> Int32 {
    let text = try json.bytes("unk_token")
    guard let id = pieces[text] else {
      throw json.failure("unknown token \(Failure.quoted(text)) is not in the vocabulary")
    }
    return id
  }

  private static func bytePair(
    _ json: JSON, _ texts: [[UInt8]: Int32], isByteLevel: Bool
  ) throws(Failure) -> BytePair {
    for key in ["continuing_subword_prefix", "end_of_word_suffix", "dropout"] {
      guard let value = json.optional(key) else { continue }
      let isNothing =
        switch value.kind {
        case .string: try value.bytes(key).isEmpty
        case .number: try value.double(key) == 0
        default: false
        }
      if !isNothing { throw value.failure("\(key) is not supported in BPE", .unsupported) }
    }
    let mergesValue = try json.required("merges")
    let ignoresMerges = try json.optional("ignore_merges")?.bool("ignore_merges") ?? false
    if isByteLevel, let value = json.optional("byte_fallback"), try value.bool("byte_fallback") {
      throw value.failure("byte_fallback is not supported in byte-level BPE, which needs none", .unsupported)
    }
    var merges: [(left: [UInt8], right: [UInt8])] = []
    for entry in try mergesValue.elements("merges") { merges.append(try merge(entry, isByteLevel: isByteLevel)) }
    let pieces = isByteLevel ? bytePieces(texts) : texts
    do throws(Failure) {
      return try BytePair(
        alphabet: isByteLevel ? try BytePair.bytes(pieces) : .characters(try characters(json, texts)), pieces: pieces,
        merges: merges,
        ignoresMerges: ignoresMerges)
    } catch {
      throw error.place == nil ? mergesValue.failure(error.problem) : error
    }
  }

  private static func characters(
    _ json: JSON, _ pieces: [[UInt8]: Int32]
  ) throws(Failure) -> BytePair.Characters {
    let fallsBack = try json.optional("byte_fallback")?.bool("byte_fallback") ?? false
    var result = BytePair.Characters(
      tokens: [:], bytes: Array(repeating: nil, count: fallsBack ? 256 : 0),
      unknown: try json.optional("unk_token").map { (value) throws(Failure) in try unknown(value, pieces) },
      fusesUnknown: try json.optional("fuse_unk")?.bool("fuse_unk") ?? false)
    for (text, id) in pieces {
      if text.count <= 4, let code = scalars(text).first, utf8Length(code) == text.count { result.tokens[code] = id }
      if fallsBack, let byte = BytePiece.byte(text) { result.bytes[Int(byte)] = id }
    }
    return result
  }

  /// `"a b"`, or `["a", "b"]` as newer files have it.
  private static func merge(_ entry: JSON, isByteLevel: Bool) throws(Failure) -> (left: [UInt8], right: [UInt8]) {
    var parts: [[UInt8]]
    if entry.kind == .string {
      parts = try entry.bytes("merge").split(separator: 0x20, omittingEmptySubsequences: false).map(Array.init)
    } else {
      parts = []
      for part in try entry.elements("merge") { parts.append(try part.bytes("merge")) }
    }
    if isByteLevel { parts = parts.map { ByteCharacters.bytes($0) ?? [] } }
    guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else {
      throw entry.failure("a merge must be two tokens\(isByteLevel ? " of byte characters" : "")")
    }
    return (parts[0], parts[1])
  }

  private static func scoredPieces(_ json: JSON) throws(Failure) -> [(text: [UInt8], score: Double)] {
    var pieces: [(text: [UInt8], score: Double)] = []
    for entry in try json.elements("vocab") {
      let pair = try entry.elements("piece")
      guard pair.count == 2 else { throw entry.failure("a piece must be a text and its score") }
      pieces.append((try pair[0].bytes("piece"), try pair[1].double("score")))
    }
    return pieces
  }

  private static func unigram(_ json: JSON, _ pieces: [(text: [UInt8], score: Double)]) throws(Failure) -> Unigram {
    guard !pieces.isEmpty else { throw json.failure("a Unigram model without pieces") }
    let unknown = try json.required("unk_id").integer("unk_id", in: 0...(pieces.count - 1))
    do throws(Failure) {
      return try Unigram(
        pieces: pieces, unknown: Int32(unknown),
        fallsBackToBytes: try json.optional("byte_fallback")?.bool("byte_fallback") ?? false)
    } catch {
      throw error.place == nil ? json.failure(error.problem) : error
    }
  }

  // MARK: Added tokens

  private static func addedTokens(
    _ json: JSON, _ pieces: [[UInt8]: Int32], _ normalizers: [Normalizer]
  ) throws(Failure) -> [AddedTokens.Token] {
    var tokens: [AddedTokens.Token] = []
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
      let text = scalars(content)
      tokens.append(
        AddedTokens.Token(
          text: isNormalized ? normalizers.normalize(text) : text, id: id, isSingleWord: try flag("single_word"),
          takesLeftSpace: try flag("lstrip"), takesRightSpace: try flag("rstrip"), isNormalized: isNormalized))
    }
    return tokens.filter { !$0.text.isEmpty }
  }

  /// The token that `add_eos_token` of tokenizer_config.json asks for after every text.
  static func finalToken(_ config: [UInt8]?, _ added: [AddedTokens.Token]) throws(Failure) -> [Int32] {
    guard let config else { return [] }
    do throws(Failure) {
      let json = try JSON.parse(config, what: "tokenizer_config.json")
      guard let flag = json.optional("add_eos_token"), try flag.bool("add_eos_token") else { return [] }
      let value = try json.required("eos_token")
      let name = try (value.optional("content") ?? value).string("eos_token")
      guard let token = added.first(where: { $0.text == name.unicodeScalars.map(\.value) }) else {
        throw value.failure("eos_token \(Failure.quoted(name)) is not among the added tokens")
      }
      return [token.id]
    } catch { throw error.inFile("tokenizer_config.json") }
  }

  /// Tokens of byte-level BPE as the bytes they stand for. Special tokens may stand in a vocabulary as they are; they
  /// are found before BPE and never merged.
  static func bytePieces(_ texts: [[UInt8]: Int32]) -> [[UInt8]: Int32] {
    var pieces: [[UInt8]: Int32] = [:]
    pieces.reserveCapacity(texts.count)
    for (text, id) in texts { if let bytes = ByteCharacters.bytes(text) { pieces[bytes] = id } }
    return pieces
  }
}
