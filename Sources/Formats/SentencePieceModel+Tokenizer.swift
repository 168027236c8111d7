import Bytes

/// What transformers makes of a SentencePiece model depends on the class that `tokenizer_config.json` names, or that
/// goes with the family: which special tokens there are, and how text is cut.
extension SentencePieceModel {
  /// Files that hold such a model, as checkpoints call them.
  static let files = ["sentencepiece.bpe.model", "spiece.model", "tokenizer.model"]

  private enum Style: String {
    case xlmRoberta = "XLMRobertaTokenizer"
    case llama = "LlamaTokenizer"
    case gemma = "GemmaTokenizer"
  }

  /// The `tokenizer.json` that means the same; nil for a checkpoint without such a file.
  ///
  /// - Throws: `unsupported` for classes that are not read, anything wrong with the file, naming it.
  static func tokenizerJSON(_ checkpoint: Checkpoint) throws(Failure) -> JSONText? {
    for name in files {
      guard let bytes = try checkpoint.file(name, limit: Limits.tokenizer) else { continue }
      do throws(Failure) {
        let settings = try checkpoint.json("tokenizer_config.json")
        let type = try checkpoint.json("config.json")?.optional("model_type")?.string("model_type") ?? ""
        return try SentencePieceModel(bytes).tokenizerJSON(try style(settings, type), settings)
      } catch { throw error.file == nil ? error.inFile(checkpoint.directory + name) : error }
    }
    return nil
  }

  private static func style(_ settings: JSON?, _ type: String) throws(Failure) -> Style {
    let usual: [String: Style] = [
      "xlm-roberta": .xlmRoberta, "llama": .llama, "mistral": .llama, "gemma3_text": .gemma,
    ]
    guard let value = settings?.optional("tokenizer_class") else {
      if let style = usual[type] { return style }
      throw Failure(
        .unsupported, "the tokenizer of \(Failure.quoted(type)) is not known: save tokenizer.json with transformers")
    }
    let name = try value.string("tokenizer_class")
    if let style = Style(rawValue: name.hasSuffix("Fast") ? String(name.dropLast(4)) : name) { return style }
    throw Failure(
      .unsupported,
      "the tokenizer_class \(Failure.quoted(name)) is not read from it; XLMRobertaTokenizer, LlamaTokenizer and "
        + "GemmaTokenizer are: save tokenizer.json with transformers")
  }

  private func tokenizerJSON(_ style: Style, _ settings: JSON?) throws(Failure) -> JSONText {
    let expected: Kind = style == .xlmRoberta ? .unigram : .bytePair
    guard kind == expected else {
      throw Failure(.unsupported, "a model of kind \(kind), which \(style.rawValue) does not have")
    }
    func flag(_ key: String, or usual: Bool) throws(Failure) -> Bool { try settings?.optional(key)?.bool(key) ?? usual }
    switch style {
    case .xlmRoberta:
      let takesSpace = try settings?.optional("mask_token")?.optional("lstrip")?.bool("lstrip") ?? false
      return try unigram(maskTakesSpace: takesSpace)
    case .llama:
      let isOld = try flag("legacy", or: false)
      let addsSpace = try flag("add_prefix_space", or: true)
      let scheme: JSONText = addsSpace ? (isOld ? "always" : "first") : "never"
      return bytePair(
        normalizer: .null,
        preTokenizer: ["type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": false],
        unknown: .null, marks: ("<s>", "</s>"),
        (try flag("add_bos_token", or: true), try flag("add_eos_token", or: false)))
    case .gemma:
      return bytePair(
        normalizer: ["type": "Replace", "pattern": ["String": " "], "content": "\u{2581}"],
        preTokenizer: [
          "type": "Split", "pattern": ["String": " "], "behavior": "MergedWithPrevious", "invert": false,
        ], unknown: "<unk>", marks: ("<bos>", "<eos>"),
        (try flag("add_bos_token", or: true), try flag("add_eos_token", or: false)))
    }
  }

  // MARK: Kinds

  /// fairseq's order: four special tokens in the place of SentencePiece's three, and a mask at the end.
  private func unigram(maskTakesSpace: Bool) throws(Failure) -> JSONText {
    let special = ["<s>", "<pad>", "</s>", "<unk>"]
    let entries =
      special.map { ($0, Float(0)) } + pieces.dropFirst(3).map { ($0.text, $0.score) } + [("<mask>", Float(0))]
    guard Set(entries.map { Array($0.0.utf8) }).count == entries.count else {
      throw Failure(.unsupported, "its special tokens are not the three that XLM-RoBERTa's begin with")
    }
    var added = special.enumerated().map { SentencePieceModel.added($0.element, $0.offset, isSpecial: true) }
    added += pieces.enumerated().dropFirst(3).filter { $0.element.isAdded }.map {
      SentencePieceModel.added($0.element.text, $0.offset + 1, isSpecial: $0.element.type == 3)
    }
    added.append(SentencePieceModel.added("<mask>", entries.count - 1, isSpecial: true, takesSpace: maskTakesSpace))
    return [
      "version": "1.0", "truncation": .null, "padding": .null, "added_tokens": .array(added),
      "normalizer": characterMap.isEmpty
        ? .null : ["type": "Precompiled", "precompiled_charsmap": .string(Base64.encoded(characterMap))],
      "pre_tokenizer": [
        "type": "Sequence",
        "pretokenizers": [
          ["type": "WhitespaceSplit"],
          ["type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true],
        ],
      ],
      "post_processor": SentencePieceModel.template(("<s>", 0), ("</s>", 2)), "decoder": .null,
      "model": [
        "type": "Unigram", "unk_id": 3, "byte_fallback": false,
        "vocab": .array(entries.map { .array([.string($0.0), .number(Double($0.1))]) }),
      ],
    ]
  }

  private func bytePair(
    normalizer: JSONText, preTokenizer: JSONText, unknown: JSONText, marks: (start: String, end: String),
    _ has: (start: Bool, end: Bool)
  ) -> JSONText {
    // The control pieces of these names, else the usual places of the beginning's and the end's.
    func mark(_ name: String) -> (String, Int)? { pieces.firstIndex { $0.text == name }.map { (name, $0) } }
    let added = pieces.enumerated().filter { $0.element.isAdded || $0.offset == self.unknown }.map {
      SentencePieceModel.added($0.element.text, $0.offset, isSpecial: $0.element.type != 4)
    }
    let merges = SentencePieceMerges.list(pieces.enumerated().map { ($0.element.text, -Double($0.offset)) })
    return [
      "version": "1.0", "truncation": .null, "padding": .null, "added_tokens": .array(added),
      "normalizer": normalizer, "pre_tokenizer": preTokenizer,
      "post_processor": SentencePieceModel.template(
        has.start ? mark(marks.start) : nil, has.end ? mark(marks.end) : nil), "decoder": .null,
      "model": [
        "type": "BPE", "dropout": .null, "unk_token": unknown, "continuing_subword_prefix": .null,
        "end_of_word_suffix": .null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
        "vocab": .object(pieces.enumerated().map { ($0.element.text, .int($0.offset)) }),
        "merges": .array(merges.map { .array([.string($0.left), .string($0.right)]) }),
      ],
    ]
  }

  // MARK: Parts

  private static func added(_ text: String, _ id: Int, isSpecial: Bool, takesSpace: Bool = false) -> JSONText {
    [
      "id": .int(id), "content": .string(text), "single_word": false, "lstrip": .bool(takesSpace), "rstrip": false,
      "normalized": false, "special": .bool(isSpecial),
    ]
  }

  private static func template(_ start: (String, Int)?, _ end: (String, Int)?) -> JSONText {
    func special(_ mark: (String, Int)?) -> [JSONText] {
      mark.map { [["SpecialToken": ["id": .string($0.0), "type_id": 0]]] } ?? []
    }
    let named = [start, end].compactMap { $0 }.map { name, id -> (String, JSONText) in
      (name, ["id": .string(name), "ids": .array([.int(id)]), "tokens": .array([.string(name)])])
    }
    return [
      "type": "TemplateProcessing",
      "single": .array(special(start) + [["Sequence": ["id": "A", "type_id": 0]]] + special(end)), "pair": .array([]),
      "special_tokens": .object(named),
    ]
  }
}

extension SentencePieceModel.Piece {
  /// Whether it is found in text before the text is cut.
  fileprivate var isAdded: Bool { type == 3 || type == 4 }
}
