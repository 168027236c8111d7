import Bytes

extension GGUF {
  /// The tokenizer that the file's `tokenizer.ggml.*` keys describe, as the `tokenizer.json` that means the same: byte-level
  /// BPE of the kinds `qwen2` and `llama-bpe`.
  ///
  /// - Throws: `unsupported` for other kinds, `malformed` for lists that do not fit each other.
  public func tokenizerJSON() throws(Failure) -> JSONText {
    let model = try text("tokenizer.ggml.model")
    guard model == "gpt2" else {
      throw Failure(.unsupported, "tokenizer model \(Failure.quoted(model)) is not read; gpt2 (byte-level BPE) is")
    }
    let kind = try text("tokenizer.ggml.pre")
    let numbers = ["qwen2": "\\p{N}", "deepseek-r1-qwen": "\\p{N}", "llama-bpe": "\\p{N}{1,3}"]
    guard let number = numbers[kind] else {
      throw Failure(
        .unsupported,
        "pre-tokenizer \(Failure.quoted(kind)) is not read; \(numbers.keys.sorted().joined(separator: ", ")) are")
    }
    let pattern =
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\(number)| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
    let tokens = try texts("tokenizer.ggml.tokens")
    let types = try integers("tokenizer.ggml.token_type", count: tokens.count)
    var vocabulary: [(String, JSONText)] = []
    var added: [JSONText] = []
    for (id, token) in tokens.enumerated() {
      switch types[id] {
      case 3, 4:  // control, user-defined
        added.append([
          "id": .int(id), "content": .string(token), "single_word": false, "lstrip": false, "rstrip": false,
          "normalized": false, "special": .bool(types[id] == 3),
        ])
      case 5: continue  // unused: fills the table up
      default: vocabulary.append((token, .int(id)))
      }
    }
    return [
      "version": "1.0", "truncation": .null, "padding": .null, "added_tokens": .array(added),
      "normalizer": kind == "llama-bpe" ? .null : ["type": "NFC"],
      "pre_tokenizer": [
        "type": "Sequence",
        "pretokenizers": .array([
          ["type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Isolated", "invert": false],
          ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false],
        ]),
      ],
      "post_processor": try postProcessor(tokens), "decoder": ["type": "ByteLevel"],
      "model": [
        "type": "BPE", "dropout": .null, "unk_token": .null, "continuing_subword_prefix": .null,
        "end_of_word_suffix": .null, "fuse_unk": false, "byte_fallback": false,
        "ignore_merges": .bool(kind == "llama-bpe"), "vocab": .object(vocabulary),
        "merges": .array(try texts("tokenizer.ggml.merges").map(JSONText.string)),
      ],
    ]
  }

  private func postProcessor(_ tokens: [String]) throws(Failure) -> JSONText {
    guard case .bool(true)? = self["tokenizer.ggml.add_eos_token"] else {
      return ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false]
    }
    guard case .integer(let id)? = self["tokenizer.ggml.eos_token_id"], tokens.indices.contains(Int(clamping: id))
    else {
      throw Failure(.malformed, "add_eos_token without an eos_token_id of the vocabulary")
    }
    let name = JSONText.string(tokens[Int(id)])
    return [
      "type": "TemplateProcessing",
      "single": .array([["Sequence": ["id": "A", "type_id": 0]], ["SpecialToken": ["id": name, "type_id": 0]]]),
      "pair": .array([]),
      "special_tokens": .object([
        (tokens[Int(id)], ["id": name, "ids": .array([.int(Int(id))]), "tokens": .array([name])])
      ]),
    ]
  }

  // MARK: Typed access

  private func required(_ key: String) throws(Failure) -> Value {
    guard let value = self[key] else { throw Failure(.malformed, "is missing", thing: "key \(Failure.quoted(key))") }
    return value
  }

  private func text(_ key: String) throws(Failure) -> String {
    guard case .string(let bytes) = try required(key), let text = String(validating: bytes, as: UTF8.self) else {
      throw Failure(.malformed, "is no text", thing: "key \(Failure.quoted(key))")
    }
    return text
  }

  private func texts(_ key: String) throws(Failure) -> [String] {
    guard case .array(let values) = try required(key) else {
      throw Failure(.malformed, "is no array", thing: "key \(Failure.quoted(key))")
    }
    var result: [String] = []
    result.reserveCapacity(values.count)
    for (index, value) in values.enumerated() {
      guard case .string(let bytes) = value, let text = String(validating: bytes, as: UTF8.self) else {
        throw Failure(.malformed, "element \(index) is no text", thing: "key \(Failure.quoted(key))")
      }
      result.append(text)
    }
    return result
  }

  private func integers(_ key: String, count: Int) throws(Failure) -> [Int64] {
    guard case .array(let values) = try required(key), values.count == count else {
      throw Failure(.malformed, "must be an array of \(count) numbers", thing: "key \(Failure.quoted(key))")
    }
    var result: [Int64] = []
    for value in values {
      guard case .integer(let number) = value else {
        throw Failure(.malformed, "must be an array of \(count) numbers", thing: "key \(Failure.quoted(key))")
      }
      result.append(number)
    }
    return result
  }
}
