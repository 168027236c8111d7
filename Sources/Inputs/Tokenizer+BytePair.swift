import Bytes

/// Byte-level BPE from `tokenizer.json`, or from `vocab.json` and `merges.txt`.
extension Tokenizer {
  static func bytePair(_ json: JSON, _ model: JSON, _ texts: [[UInt8]: Int32]) throws(Failure) -> BytePair {
    for key in ["continuing_subword_prefix", "end_of_word_suffix", "dropout"] {
      guard let value = model.optional(key) else { continue }
      let isEmpty = if value.kind == .string { try value.bytes(key).isEmpty } else { false }
      if !isEmpty {
        throw value.failure("\(key) is not supported in byte-level BPE", .unsupported)
      }
    }
    if let value = model.optional("byte_fallback"), try value.bool("byte_fallback") {
      throw value.failure("byte_fallback is not supported; byte-level BPE needs none", .unsupported)
    }
    let mergesValue = try model.required("merges")
    var merges: [(left: [UInt8], right: [UInt8])] = []
    for entry in try mergesValue.elements("merges") { merges.append(try merge(entry)) }
    do throws(Failure) {
      return try BytePair(
        pieces: bytePieces(texts), merges: merges,
        ignoresMerges: try model.optional("ignore_merges")?.bool("ignore_merges") ?? false,
        normalizes: try isComposing(json), preTokenizer: try preTokenizer(json))
    } catch {
      throw error.place == nil ? mergesValue.failure(error.problem) : error
    }
  }

  /// `"a b"`, or `["a", "b"]` as newer files have it.
  private static func merge(_ entry: JSON) throws(Failure) -> (left: [UInt8], right: [UInt8]) {
    var parts: [[UInt8]]
    if entry.kind == .string {
      parts = try entry.bytes("merge").split(separator: 0x20, omittingEmptySubsequences: false).map(Array.init)
    } else {
      parts = []
      for part in try entry.elements("merge") { parts.append(try part.bytes("merge")) }
    }
    guard parts.count == 2, let left = ByteCharacters.bytes(parts[0]), let right = ByteCharacters.bytes(parts[1]),
      !left.isEmpty, !right.isEmpty
    else { throw entry.failure("a merge must be two tokens of byte characters") }
    return (left, right)
  }

  private static func isComposing(_ json: JSON) throws(Failure) -> Bool {
    guard let value = json.optional("normalizer") else { return false }
    let type = try value.required("type").string("type")
    guard type == "NFC" else {
      throw value.failure("normalizer of type \(Failure.quoted(type)) is not supported with BPE; NFC is", .unsupported)
    }
    return true
  }

  /// `Sequence` of `Split` by a known pattern and `ByteLevel` without a pattern of its own.
  private static func preTokenizer(_ json: JSON) throws(Failure) -> PreTokenizer {
    let value = try json.required("pre_tokenizer")
    let supported = "a Sequence of Split and ByteLevel, as Qwen2 has it, is supported"
    guard try value.required("type").string("type") == "Sequence" else {
      throw value.failure(supported, .unsupported)
    }
    let parts = try value.required("pretokenizers").elements("pretokenizers")
    guard parts.count == 2, try parts[0].required("type").string("type") == "Split",
      try parts[1].required("type").string("type") == "ByteLevel"
    else { throw value.failure(supported, .unsupported) }
    let pattern = try parts[0].required("pattern").required("Regex")
    guard let preTokenizer = PreTokenizer(pattern: try pattern.string("Regex")) else {
      throw pattern.failure(
        "pattern \(Failure.quoted(try pattern.bytes())) is not one of the known ones (Qwen2's, Llama 3's)", .unsupported
      )
    }
    let behaviour = try parts[0].required("behavior")
    guard try behaviour.string("behavior") == "Isolated", try !(parts[0].optional("invert")?.bool("invert") ?? false)
    else {
      throw behaviour.failure("behavior must be Isolated, not inverted", .unsupported)
    }
    guard try !(parts[1].optional("add_prefix_space")?.bool() ?? true),
      try !(parts[1].optional("use_regex")?.bool() ?? true)
    else { throw parts[1].failure("ByteLevel must neither add a space nor use a pattern of its own", .unsupported) }
    return preTokenizer
  }

  /// The token that `add_eos_token` of tokenizer_config.json asks for after every text.
  static func finalToken(_ config: [UInt8]?, _ added: [AddedToken]) throws(Failure) -> [Int32] {
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
    let pair = try BytePair(
      pieces: Tokenizer.bytePieces(texts), merges: try Tokenizer.merges(lines), ignoresMerges: false, normalizes: true,
      preTokenizer: .qwen2)
    self.init(
      model: .bytePair(pair), addedTokens: added, before: [], after: try Tokenizer.finalToken(config, added),
      vocabulary: Tokenizer.vocabulary(texts, added))
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
  private static func addedTokens(_ settings: JSON?, _ file: [UInt8]?) throws(Failure) -> [AddedToken] {
    var tokens: [AddedToken] = []
    func add(_ content: [UInt8], _ id: Int) {
      guard !content.isEmpty else { return }
      let text = String(decoding: content, as: UTF8.self).unicodeScalars.map(\.value)
      tokens.append(AddedToken(text: text, id: Int32(id)))
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

  /// Tokens as the bytes they stand for. Special tokens may stand in a vocabulary as they are; they are found before
  /// BPE and never merged.
  private static func bytePieces(_ texts: [[UInt8]: Int32]) -> [[UInt8]: Int32] {
    var pieces: [[UInt8]: Int32] = [:]
    pieces.reserveCapacity(texts.count)
    for (text, id) in texts { if let bytes = ByteCharacters.bytes(text) { pieces[bytes] = id } }
    return pieces
  }
}
