import Bytes
import Tensors

/// A model's tokenizer as `tokenizer.ggml.*` keys.
struct GGUFTokenizerKeys {
  private(set) var keys: [GGUFKey] = []

  init(_ checkpoint: Checkpoint, rows: Int) throws(Failure) {
    guard let json = try checkpoint.json("tokenizer.json") else {
      throw Failure(.unsupported, "the container holds no tokenizer.json, which the GGUF keys are made from")
    }
    do throws(Failure) {
      let model = try json.required("model")
      let type = try model.optional("type")?.string("type") ?? (model["merges"] == nil ? "WordPiece" : "BPE")
      let cutters = try GGUFTokenizerKeys.steps(json.optional("pre_tokenizer"), "pretokenizers")
      var isByteLevel = false
      for step in cutters where try step.required("type").string("type") == "ByteLevel" { isByteLevel = true }
      switch type {
      case "BPE" where isByteLevel: try addBytePair(json, model, cutters, rows: rows)
      case "BPE": try addSentencePiece(json, model, cutters, rows: rows)
      case "Unigram": try addUnigram(json, model, cutters, rows: rows)
      case "WordPiece": try addWordPiece(json, model, rows: rows)
      default: throw model.failure("tokenizers of type \(Failure.quoted(type)) have no GGUF keys here", .unsupported)
      }
      if let settings = try checkpoint.json("tokenizer_config.json"), let template = settings.optional("chat_template"),
        template.kind == .string
      {
        keys.append(.init("tokenizer.chat_template", .string(try template.string())))
      }
    } catch { throw error.inFile(checkpoint.directory + "tokenizer.json") }
  }

  private struct Token {
    var text: String
    /// 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 a byte.
    var type: Int
  }

  /// The tokens by id, `rows` of them: the table may have more rows than the tokenizer has tokens.
  private func tokens(
    _ json: JSON, _ vocabulary: [(String, Int)], rows: Int, _ spelling: (String) -> String
  ) throws(Failure) -> [Token] {
    var tokens = (0..<rows).map { Token(text: "[PAD\($0)]", type: 5) }
    func place(_ id: Int, _ token: Token) throws(Failure) {
      guard tokens.indices.contains(id) else {
        throw json.failure("token id \(id), but the token table has \(rows) rows")
      }
      tokens[id] = token
    }
    for (text, id) in vocabulary { try place(id, Token(text: spelling(text), type: 1)) }
    for added in try json.optional("added_tokens")?.elements("added_tokens") ?? [] {
      let id = try added.required("id").integer("id", in: 0...Limits.arrayElements)
      let isSpecial = try added.optional("special")?.bool("special") ?? false
      // One beyond the table is never used by a model that lacks a row for it.
      if id >= rows { continue }
      try place(id, Token(text: try added.required("content").string("content"), type: isSpecial ? 3 : 4))
    }
    return tokens
  }

  private static func vocabulary(_ model: JSON) throws(Failure) -> [(String, Int)] {
    var result: [(String, Int)] = []
    try model.required("vocab").forEachMember("vocab") { (key, value) throws(Failure) in
      guard let text = String(validating: try key.bytes(), as: UTF8.self) else { throw key.failure("is no text") }
      result.append((text, try value.integer("id", in: 0...Limits.arrayElements)))
    }
    return result
  }

  private mutating func add(_ tokens: [Token]) {
    keys.append(.init("tokenizer.ggml.tokens", .strings(tokens.map(\.text))))
    keys.append(.init("tokenizer.ggml.token_type", .int32s(tokens.map(\.type))))
  }

  private mutating func addSpecial(_ name: String, _ id: Int?) {
    if let id { keys.append(.init("tokenizer.ggml.\(name)_token_id", .uint32(id))) }
  }

  /// The steps of a normalizer, pre-tokenizer or post-processor, of sequences too.
  private static func steps(_ json: JSON?, _ key: String) throws(Failure) -> [JSON] {
    guard let json else { return [] }
    guard let parts = json.optional(key) else { return [json] }
    var steps: [JSON] = []
    for part in try parts.elements(key) { steps += try GGUFTokenizerKeys.steps(part, key) }
    return steps
  }

  // MARK: Tokens around a text

  /// The tokens that are put before and after every text, nil where there is none.
  private static func marks(_ json: JSON) throws(Failure) -> (start: String?, end: String?) {
    var marks: (start: String?, end: String?)
    for step in try steps(json.optional("post_processor"), "processors") {
      switch try step.required("type").string("type") {
      case "TemplateProcessing":
        let parts = try step.required("single").elements("single")
        func name(_ part: JSON?) throws(Failure) -> String? {
          try part?.optional("SpecialToken")?.required("id").string("id")
        }
        guard parts.count <= 3 else {
          throw step.failure("GGUF has keys for one token before a text and one after it", .unsupported)
        }
        if parts.count > 1 { marks = (try name(parts.first) ?? marks.start, try name(parts.last) ?? marks.end) }
      case "RobertaProcessing", "BertProcessing":
        func name(_ key: String) throws(Failure) -> String? {
          try step.required(key).elements(key).first?.string(key)
        }
        marks = (try name("cls"), try name("sep"))
      default: continue
      }
    }
    return marks
  }

  private mutating func add(_ marks: (start: String?, end: String?)) {
    keys += [
      .init("tokenizer.ggml.add_bos_token", .bool(marks.start != nil)),
      .init("tokenizer.ggml.add_eos_token", .bool(marks.end != nil)),
    ]
  }

  // MARK: Byte-level BPE

  private mutating func addBytePair(_ json: JSON, _ model: JSON, _ cutters: [JSON], rows: Int) throws(Failure) {
    let kind = try GGUFTokenizerKeys.kind(json, cutters)
    let tokens = try tokens(json, try GGUFTokenizerKeys.vocabulary(model), rows: rows) { $0 }
    keys += [.init("tokenizer.ggml.model", .string("gpt2")), .init("tokenizer.ggml.pre", .string(kind))]
    add(tokens)
    let merges = try GGUFTokenizerKeys.merges(model).map { $0.left + " " + $0.right }
    keys.append(.init("tokenizer.ggml.merges", .strings(merges)))
    func id(_ names: String...) -> Int? {
      names.lazy.compactMap { name in tokens.firstIndex { $0.text == name } }.first
    }
    let marks = try GGUFTokenizerKeys.marks(json)
    let start = marks.start.flatMap { id($0) } ?? id("<|endoftext|>") ?? tokens.firstIndex { $0.type == 3 }
    addSpecial(
      "eos", marks.end.flatMap { id($0) } ?? id("<|im_end|>", "<|endoftext|>") ?? tokens.lastIndex { $0.type == 3 })
    addSpecial("bos", start)
    addSpecial("padding", id("<pad>", "[PAD]", "<|endoftext|>") ?? tokens.firstIndex { $0.type == 3 })
    addSpecial("mask", id("<mask>", "[MASK]"))
    add(marks)
  }

  private static func merges(_ model: JSON) throws(Failure) -> [SentencePieceMerges.Merge] {
    var merges: [SentencePieceMerges.Merge] = []
    for merge in try model.required("merges").elements("merges") {
      var parts: [String] = []
      if merge.kind == .string {
        parts = try merge.string("merge").split(separator: " ", omittingEmptySubsequences: false).map(String.init)
      } else {
        for part in try merge.elements("merge") { parts.append(try part.string("merge")) }
      }
      guard parts.count == 2 else { throw merge.failure("a merge must be two tokens") }
      merges.append((parts[0], parts[1]))
    }
    return merges
  }

  /// ggml's name for the pattern that cuts text before merging.
  private static func kind(_ json: JSON, _ cutters: [JSON]) throws(Failure) -> String {
    var pattern: (place: JSON, text: String)?
    for step in cutters {
      if let regex = try step.optional("pattern")?.optional("Regex")?.string("Regex") { pattern = (step, regex) }
      guard try step.required("type").string("type") == "ByteLevel" else { continue }
      if try step.optional("use_regex")?.bool("use_regex") ?? true, pattern == nil { pattern = (step, GGUFCutter.gpt2) }
      if try step.optional("add_prefix_space")?.bool("add_prefix_space") ?? false {
        throw step.failure("add_prefix_space has no key in GGUF for byte-level BPE", .unsupported)
      }
    }
    guard let pattern else { throw json.failure("no pattern, which GGUF needs a name for", .unsupported) }
    var composes = false
    for step in try steps(json.optional("normalizer"), "normalizers") {
      if try step.required("type").string("type") == "NFC" { composes = true }
    }
    let isEncoder = try marks(json).start != nil
    let known = GGUFCutter.all.filter { $0.pattern == pattern.text }
    let found =
      known.first { $0.number != nil || $0.composes == composes && $0.isEncoder == isEncoder }
      ?? known.first { $0.composes == composes || !$0.composes && !$0.isEncoder }
    guard let found else { throw pattern.place.failure("its pattern has no name in GGUF", .unsupported) }
    return found.name
  }

  // MARK: SentencePiece

  private mutating func addSentencePiece(
    _ json: JSON, _ model: JSON, _ cutters: [JSON], rows: Int
  ) throws(Failure) {
    let addsSpace = try GGUFTokenizerKeys.addsSpace(json, cutters)
    let vocabulary = try GGUFTokenizerKeys.vocabulary(model)
    let unknown = try model.optional("unk_token")?.string("unk_token")
    var tokens = try tokens(json, vocabulary, rows: rows) { $0 }
    GGUFTokenizerKeys.mark(&tokens, unknown: unknown)
    let texts = tokens.map { $0.type == 1 ? $0.text : "" }
    // Merges that make a token which is found before text is cut are what its kind means to readers.
    let found = Set(tokens.filter { $0.type != 1 }.map { Array($0.text.utf8) })
    let merges = try GGUFTokenizerKeys.merges(model).filter { !found.contains(Array(($0.left + $0.right).utf8)) }
    guard let scores = SentencePieceMerges.scores(texts, merges) else {
      throw model.failure("its merges are not those of SentencePiece's scores, which GGUF needs", .unsupported)
    }
    keys += [.init("tokenizer.ggml.model", .string("llama")), .init("tokenizer.ggml.pre", .string("default"))]
    add(tokens)
    keys.append(.init("tokenizer.ggml.scores", .float32s(scores)))
    try addMarks(json, tokens, unknown)
    keys.append(.init("tokenizer.ggml.add_space_prefix", .bool(addsSpace)))
  }

  private mutating func addUnigram(_ json: JSON, _ model: JSON, _ cutters: [JSON], rows: Int) throws(Failure) {
    if let fallback = model.optional("byte_fallback"), try fallback.bool("byte_fallback") {
      throw fallback.failure("readers of GGUF have no byte_fallback for Unigram", .unsupported)
    }
    var (vocabulary, scores): ([(String, Int)], [Double]) = ([], [])
    for entry in try model.required("vocab").elements("vocab") {
      let pair = try entry.elements("piece")
      guard pair.count == 2 else { throw entry.failure("a piece must be a text and its score") }
      vocabulary.append((try pair[0].string("piece"), scores.count))
      scores.append(try pair[1].double("score"))
    }
    guard !scores.isEmpty else { throw model.failure("a Unigram model without pieces") }
    let unknown = vocabulary[try model.required("unk_id").integer("unk_id", in: 0...(scores.count - 1))].0
    var tokens = try tokens(json, vocabulary, rows: rows) { $0 }
    GGUFTokenizerKeys.mark(&tokens, unknown: unknown)
    scores += Array(repeating: 0, count: max(0, rows - scores.count))
    let steps = try GGUFTokenizerKeys.normalization(json, cutters)
    keys += [.init("tokenizer.ggml.model", .string("t5")), .init("tokenizer.ggml.pre", .string("default"))]
    add(tokens)
    keys.append(.init("tokenizer.ggml.scores", .float32s(Array(scores.prefix(rows)))))
    try addMarks(json, tokens, unknown)
    keys += [
      .init("tokenizer.ggml.add_space_prefix", .bool(try GGUFTokenizerKeys.addsSpace(json, cutters))),
      .init("tokenizer.ggml.remove_extra_whitespaces", .bool(steps.removesSpaces)),
    ]
    if !steps.map.isEmpty { keys.append(.init("tokenizer.ggml.precompiled_charsmap", .uint8s(steps.map))) }
  }

  private static func mark(_ tokens: inout [Token], unknown: String?) {
    for index in tokens.indices {
      let text = tokens[index].text
      if text == unknown {
        tokens[index].type = 2
      } else if tokens[index].type == 1, text.utf8.count == 6, text.hasPrefix("<0x"), text.hasSuffix(">") {
        tokens[index].type = 6
      }
    }
  }

  private mutating func addMarks(_ json: JSON, _ tokens: [Token], _ unknown: String?) throws(Failure) {
    func id(_ names: String?...) -> Int? {
      names.lazy.compactMap { name in name.flatMap { name in tokens.firstIndex { $0.text == name } } }.first
    }
    let marks = try GGUFTokenizerKeys.marks(json)
    addSpecial("bos", id(marks.start, "<s>", "<bos>"))
    addSpecial("eos", id(marks.end, "</s>", "<eos>"))
    addSpecial("unknown", id(unknown))
    addSpecial("seperator", id(marks.end, "</s>"))
    addSpecial("padding", id("<pad>", marks.end))
    addSpecial("cls", id(marks.start))
    addSpecial("mask", id("<mask>"))
    add(marks)
  }

  /// Whether a mark is put before a text, by the normalizer or by Metaspace.
  private static func addsSpace(_ json: JSON, _ cutters: [JSON]) throws(Failure) -> Bool {
    for step in try steps(json.optional("normalizer"), "normalizers") {
      if try step.required("type").string("type") == "Prepend" { return true }
    }
    for step in cutters where try step.required("type").string("type") == "Metaspace" {
      if let scheme = step.optional("prepend_scheme") { return try scheme.string("prepend_scheme") != "never" }
      return try step.optional("add_prefix_space")?.bool("add_prefix_space") ?? true
    }
    return false
  }

  /// The map of characters, and whether spaces are removed at the ends and beside others.
  private static func normalization(
    _ json: JSON, _ cutters: [JSON]
  ) throws(Failure) -> (map: [UInt8], removesSpaces: Bool) {
    var (map, removesSpaces): ([UInt8], Bool) = ([], false)
    for step in try steps(json.optional("normalizer"), "normalizers") {
      switch try step.required("type").string("type") {
      case "Precompiled" where map.isEmpty && !removesSpaces:
        let value = try step.required("precompiled_charsmap")
        guard let bytes = Base64.decoded(try value.bytes("precompiled_charsmap")) else {
          throw value.failure("precompiled_charsmap is no base64")
        }
        map = bytes
      case "Strip": removesSpaces = true
      case "Replace" where try step.required("pattern").optional("Regex")?.string("Regex") == " {2,}":
        removesSpaces = true
      case let type:
        throw step.failure("the normalizer \(Failure.quoted(type)) has no key in GGUF for Unigram", .unsupported)
      }
    }
    for step in cutters {
      switch try step.required("type").string("type") {
      case "Metaspace": continue
      case "WhitespaceSplit": removesSpaces = true
      case let type:
        throw step.failure("the pre_tokenizer \(Failure.quoted(type)) has no key in GGUF for Unigram", .unsupported)
      }
    }
    return (map, removesSpaces)
  }

  // MARK: WordPiece

  private mutating func addWordPiece(_ json: JSON, _ model: JSON, rows: Int) throws(Failure) {
    if let normalizer = json.optional("normalizer"), let lower = normalizer.optional("lowercase"),
      try !lower.bool("lowercase")
    {
      throw lower.failure("readers of GGUF make WordPiece text lower case; this model is cased", .unsupported)
    }
    let tokens = try tokens(json, try GGUFTokenizerKeys.vocabulary(model), rows: rows) {
      $0.utf8.starts(with: "##".utf8) ? String($0.unicodeScalars.dropFirst(2)) : GGUFKeys.wordMark + $0
    }
    keys.append(.init("tokenizer.ggml.model", .string("bert")))
    add(tokens)
    let marks = try GGUFTokenizerKeys.marks(json)
    let (start, end) = (marks.start ?? "[CLS]", marks.end ?? "[SEP]")
    let unknown = try model.optional("unk_token")?.string("unk_token") ?? "[UNK]"
    // A token that the post-processor or the model names may stand under its own spelling or as the start of a word.
    func id(_ names: String...) -> Int? {
      names.lazy.compactMap { name in
        tokens.firstIndex { $0.text == name } ?? tokens.firstIndex { $0.text == GGUFKeys.wordMark + name }
      }.first
    }
    addSpecial("cls", id(start))
    addSpecial("seperator", id(end))
    addSpecial("padding", id("[PAD]", "<pad>"))
    addSpecial("unknown", id(unknown))
    addSpecial("mask", id("[MASK]", "<mask>"))
    addSpecial("bos", id(start))
    addSpecial("eos", id(end))
  }
}
