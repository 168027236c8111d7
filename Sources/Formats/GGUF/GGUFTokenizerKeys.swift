import Bytes
import Tensors

/// A model's tokenizer as `tokenizer.ggml.*` keys: byte-level BPE and WordPiece.
struct GGUFTokenizerKeys {
  private(set) var keys: [GGUFKey] = []

  init(_ checkpoint: Checkpoint, rows: Int) throws(Failure) {
    guard let json = try checkpoint.json("tokenizer.json") else {
      throw Failure(.unsupported, "the container holds no tokenizer.json, which the GGUF keys are made from")
    }
    do throws(Failure) {
      let model = try json.required("model")
      let type = try model.optional("type")?.string("type") ?? (model["merges"] == nil ? "WordPiece" : "BPE")
      switch type {
      case "BPE": try addBytePair(json, model, rows: rows)
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
    /// 1 normal, 3 control, 4 user-defined, 5 unused.
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

  // MARK: Byte-level BPE

  private mutating func addBytePair(_ json: JSON, _ model: JSON, rows: Int) throws(Failure) {
    let kind = try GGUFTokenizerKeys.kind(json)
    let tokens = try tokens(json, try GGUFTokenizerKeys.vocabulary(model), rows: rows) { $0 }
    keys += [.init("tokenizer.ggml.model", .string("gpt2")), .init("tokenizer.ggml.pre", .string(kind))]
    add(tokens)
    var merges: [String] = []
    for merge in try model.required("merges").elements("merges") {
      if merge.kind == .string {
        merges.append(try merge.string("merge"))
      } else {
        var parts: [String] = []
        for part in try merge.elements("merge") { parts.append(try part.string("merge")) }
        merges.append(parts.joined(separator: " "))
      }
    }
    keys.append(.init("tokenizer.ggml.merges", .strings(merges)))
    func id(_ names: String...) -> Int? {
      names.lazy.compactMap { name in tokens.firstIndex { $0.text == name } }.first
    }
    let end = try GGUFTokenizerKeys.endMark(json)
    addSpecial("eos", end.flatMap { id($0) } ?? id("<|im_end|>", "<|endoftext|>") ?? tokens.lastIndex { $0.type == 3 })
    addSpecial("bos", id("<|endoftext|>") ?? tokens.firstIndex { $0.type == 3 })
    addSpecial("padding", id("<|endoftext|>") ?? tokens.firstIndex { $0.type == 3 })
    keys += [
      .init("tokenizer.ggml.add_bos_token", .bool(false)), .init("tokenizer.ggml.add_eos_token", .bool(end != nil)),
    ]
  }

  /// ggml's name for the pattern that cuts text before merging.
  private static func kind(_ json: JSON) throws(Failure) -> String {
    guard let cutter = json.optional("pre_tokenizer") else { throw json.failure("no pre_tokenizer", .unsupported) }
    let steps = try cutter.optional("pretokenizers")?.elements("pretokenizers") ?? [cutter]
    for step in steps {
      guard let pattern = try step.optional("pattern")?.optional("Regex")?.string("Regex") else { continue }
      for (kind, number) in GGUFKeys.cutters where GGUFKeys.pattern(number) == pattern { return kind }
      throw step.failure("its pattern has no name in GGUF", .unsupported)
    }
    throw cutter.failure("no pattern, which GGUF needs a name for", .unsupported)
  }

  /// The token that is put after every text, nil when there is none.
  private static func endMark(_ json: JSON) throws(Failure) -> String? {
    guard let processor = json.optional("post_processor") else { return nil }
    let steps = try processor.optional("processors")?.elements("processors") ?? [processor]
    for step in steps where try step.required("type").string("type") == "TemplateProcessing" {
      for piece in try step.required("single").elements("single").reversed() {
        if let special = piece.optional("SpecialToken") { return try special.required("id").string("id") }
        break
      }
    }
    return nil
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
    for (name, text) in [
      ("cls", "[CLS]"), ("seperator", "[SEP]"), ("padding", "[PAD]"), ("unknown", "[UNK]"), ("mask", "[MASK]"),
      ("bos", "[CLS]"), ("eos", "[SEP]"),
    ] {
      addSpecial(name, tokens.firstIndex { $0.text == text })
    }
  }
}
