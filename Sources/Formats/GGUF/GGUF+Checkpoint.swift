import Bytes
import Tensors

/// A GGUF file as the checkpoint it was made from: tensors under the checkpoint's names, and the files that the keys
/// stand for (`config.json`, `tokenizer.json`, sentence-transformers' modules).
extension GGUF {
  /// - Parameter projector: the file with the vision tower and projector (`mmproj`) that goes with a text model.
  static func checkpoint(_ text: Parts, projector: Parts?) throws(Failure) -> Checkpoint {
    let architecture: String
    do throws(Failure) { architecture = try text.keys.requiredText("general.architecture") } catch {
      throw error.inFile(text.path)
    }
    var checkpoint = Checkpoint(
      tensors: [], weights: text.files, directory: Bytes.directory(of: text.path), notes: text.notes)
    var config: [(String, JSONText)]
    do throws(Failure) {
      switch architecture {
      case "qwen2":
        config = try text.keys.qwen2()
        checkpoint.tensors = try renamed(text.tensors, GGUFNames.qwen2)
        if projector == nil { checkpoint.made = try text.keys.sentenceFiles("qwen2", "model_max_length") }
      case "bert":
        config = try text.keys.bert(text.tensors)
        checkpoint.tensors = try renamed(text.tensors, GGUFNames.bert)
        checkpoint.made = try text.keys.sentenceFiles("bert", "max_seq_length")
      case "clip":
        throw Failure(
          .unsupported, "holds a vision tower alone; import the text model's file and give this one with --mmproj")
      default:
        throw Failure(
          .unsupported, "architecture \(Failure.quoted(architecture)) is not read; qwen2, bert and clip are",
          thing: "key \"general.architecture\"")
      }
      checkpoint.made["tokenizer.json"] = try text.keys.tokenizerJSON().bytes()
      checkpoint.notes += try text.keys.tokenizerNotes()
    } catch { throw error.inFile(text.path) }
    if let projector {
      guard architecture == "qwen2" else {
        throw Failure(.usage, "--mmproj goes with a qwen2 text model, this is \(architecture)", file: text.path)
      }
      do throws(Failure) {
        let tower = try Tower(projector)
        config = try text.keys.languageModel(config) + tower.config
        checkpoint.tensors += tower.tensors
        checkpoint.weights += projector.files
        checkpoint.notes += projector.notes + tower.notes
      } catch { throw error.inFile(projector.path) }
    }
    checkpoint.made["config.json"] = JSONText.object(config).bytes(pretty: true)
    checkpoint.isMade = true
    return checkpoint
  }

  private static func renamed(_ tensors: [Tensor], _ names: GGUFNames) throws(Failure) -> [Tensor] {
    // Unknown tensors keep their names; the architecture says what it thinks of them.
    tensors.map { $0.renamed(names.checkpoint($0.name.text).map { TensorName($0) } ?? $0.name) }
  }

  /// What an `mmproj` file says.
  private struct Tower {
    var tensors: [Tensor] = []
    var config: [(String, JSONText)] = []
    var notes: [String] = []

    init(_ parts: Parts) throws(Failure) {
      let keys = parts.keys
      guard try keys.requiredText("general.architecture") == "clip" else {
        throw Failure(.malformed, "is no mmproj file: its architecture is not clip")
      }
      try refuseUnsupported(keys, parts.tensors)
      let layers = try depth(keys)
      let width = try keys.requiredInteger("clip.vision.embedding_length", in: 1...(1 << 24))
      let isSwapped = parts.tensors.contains {
        $0.name.text.hasPrefix("v.blk.0.ffn_down.weight") && $0.columns == width && $0.rows != width
      }
      if isSwapped { notes.append("ffn_up and ffn_down have each other's names, as older converters wrote them") }
      for tensor in parts.tensors {
        var name = tensor.name.text
        if isSwapped, name.contains(".ffn_") {
          name = name.split(separator: ".").map {
            $0 == "ffn_up" ? "ffn_down" : $0 == "ffn_down" ? "ffn_up" : String($0)
          }
          .joined(separator: ".")
        }
        let layer = name.split(separator: ".").dropFirst(2).first.flatMap { Int($0) }
        if name.hasPrefix("v.blk."), let layer, let layers, layer >= layers { continue }
        let translated =
          GGUFNames.newline.ggml.contains(name) ? GGUFNames.newline.checkpoint : GGUFNames.clip.checkpoint(name)
        tensors.append(tensor.renamed(translated.map { TensorName($0) } ?? tensor.name))
      }
      try describe(keys)
    }

    /// How many layers run; nil for all.
    private func depth(_ keys: GGUFKeys) throws(Failure) -> Int? {
      guard keys["clip.vision.feature_layer"] != nil else { return nil }
      let chosen = try keys.integers("clip.vision.feature_layer")
      guard chosen.count == 1, chosen[0] > 0, chosen[0] <= 1 << 20 else {
        throw Failure(
          .unsupported, "features of \(chosen.count) layers, or of layer 0: one is read",
          thing: "key \"clip.vision.feature_layer\"")
      }
      return Int(chosen[0])
    }

    private func refuseUnsupported(_ keys: GGUFKeys, _ tensors: [Tensor]) throws(Failure) {
      if let type = try keys.text("clip.projector_type"), type != "mlp" {
        throw GGUFKeys.wrong("clip.projector_type", "\(Failure.quoted(type)) is not supported; mlp is", .unsupported)
      }
      if try keys.bool("clip.use_silu") ?? false {
        throw GGUFKeys.wrong("clip.use_silu", "must be false", .unsupported)
      }
      for key in ["clip.vision.image_mean", "clip.vision.image_std"] {
        guard let numbers = try keys.reals(key) else { continue }
        guard numbers == [0.5, 0.5, 0.5] else {
          throw GGUFKeys.wrong(key, "\(numbers) is not SigLIP's 0.5", .unsupported)
        }
      }
      if let epsilon = try keys.real("clip.vision.attention.layer_norm_epsilon"), Float(epsilon) != 1e-6 {
        throw GGUFKeys.wrong(
          "clip.vision.attention.layer_norm_epsilon", "\(epsilon) is not SigLIP's 1e-6", .unsupported)
      }
      if tensors.contains(where: { $0.name == "v.class_embd" }) {
        throw Failure(
          .unsupported, "a tower with a class token is CLIP; SigLIP is read", thing: "tensor \"v.class_embd\"")
      }
    }

    private mutating func describe(_ keys: GGUFKeys) throws(Failure) {
      let side = try keys.requiredInteger("clip.vision.image_size", in: 1...Limits.imageSide)
      config += [
        ("mm_vision_tower", .string("siglip-\(side)")), ("mm_projector_type", "mlp2x_gelu"),
        (
          "mm_vision_attention_heads",
          .int(try keys.requiredInteger("clip.vision.attention.head_count", in: 1...4_096))
        ),
      ]
      if let merge = try keys.text("clip.vision.mm_patch_merge_type") {
        config.append(("mm_patch_merge_type", .string(merge)))
      }
      if keys["clip.vision.image_grid_pinpoints"] != nil {
        let sides = try keys.integers("clip.vision.image_grid_pinpoints").map { JSONText.int(Int($0)) }
        guard sides.count % 2 == 0 else {
          throw GGUFKeys.wrong("clip.vision.image_grid_pinpoints", "must be pairs of sides")
        }
        let pairs = stride(from: 0, to: sides.count, by: 2).map { JSONText.array([sides[$0], sides[$0 + 1]]) }
        config.append(("image_grid_pinpoints", .array(pairs)))
      }
      // ggml has no keys for these; our own writer adds them.
      for (key, name) in GGUFKeys.ownTexts {
        if let text = try keys.text(key) { config.append((name, .string(text))) }
      }
      if let tokens = try keys.integer(GGUFKeys.ownTokens.key, in: 1...(1 << 24)) {
        config.append((GGUFKeys.ownTokens.name, .int(tokens)))
      }
    }
  }
}

extension GGUFKeys {
  /// Keys that only llvconv writes, and what they are called in `config.json`.
  static let ownTexts = [
    (key: "llvconv.image_aspect_ratio", name: "image_aspect_ratio"),
    (key: "llvconv.newline_position", name: "mm_newline_position"),
  ]
  static let ownTokens = (key: "llvconv.maximum_tokens", name: "tokenizer_model_max_length")

  private static let size = 1...(1 << 24)

  private func size(_ key: String) throws(Failure) -> JSONText { .int(try requiredInteger(key, in: GGUFKeys.size)) }

  fileprivate func qwen2() throws(Failure) -> [(String, JSONText)] {
    if let type = try text("qwen2.rope.scaling.type"), type != "none" {
      throw GGUFKeys.wrong("qwen2.rope.scaling.type", "\(Failure.quoted(type)) is not supported", .unsupported)
    }
    let heads = try requiredInteger("qwen2.attention.head_count", in: GGUFKeys.size)
    return [
      ("model_type", "qwen2"), ("hidden_size", try size("qwen2.embedding_length")),
      ("num_hidden_layers", .int(try requiredInteger("qwen2.block_count", in: 1...Int(Int32.max)))),
      ("num_attention_heads", .int(heads)),
      ("num_key_value_heads", .int(try integer("qwen2.attention.head_count_kv", in: GGUFKeys.size) ?? heads)),
      ("intermediate_size", try size("qwen2.feed_forward_length")),
      ("max_position_embeddings", try size("qwen2.context_length")),
      (
        "rms_norm_eps",
        .number(
          shortest(
            try required("qwen2.attention.layer_norm_rms_epsilon", try real("qwen2.attention.layer_norm_rms_epsilon"))))
      ),
      ("rope_theta", .number(shortest(try real("qwen2.rope.freq_base") ?? 10_000))), ("hidden_act", "silu"),
      ("is_causal", .bool(try bool("qwen2.attention.causal") ?? true)),
    ]
  }

  /// The same keys as the authors' checkpoints have them.
  fileprivate func languageModel(_ config: [(String, JSONText)]) throws(Failure) -> [(String, JSONText)] {
    if let pooling = try integer("qwen2.pooling_type", in: 0...100), pooling != 3 {
      throw GGUFKeys.wrong("qwen2.pooling_type", "\(pooling) is not that of the last token, 3", .unsupported)
    }
    return config.filter { $0.0 != "is_causal" }
  }

  fileprivate func bert(_ tensors: [Tensor]) throws(Failure) -> [(String, JSONText)] {
    func rows(_ name: TensorName) -> JSONText { .int(tensors.first { $0.name == name }?.rows ?? 1) }
    return [
      ("model_type", "bert"), ("hidden_size", try size("bert.embedding_length")),
      ("num_hidden_layers", .int(try requiredInteger("bert.block_count", in: 1...Int(Int32.max)))),
      ("num_attention_heads", try size("bert.attention.head_count")),
      ("intermediate_size", try size("bert.feed_forward_length")),
      ("max_position_embeddings", try size("bert.context_length")),
      ("layer_norm_eps", .number(shortest(try real("bert.attention.layer_norm_epsilon") ?? 1e-12))),
      ("hidden_act", "gelu"), ("vocab_size", rows("token_embd.weight")),
      ("type_vocab_size", rows("token_types.weight")),
    ]
  }

  /// A number that was rounded to Float32, as the shortest decimal that gives it back: 1e-6 and not 9.99999997e-7.
  private func shortest(_ value: Double) -> Double { Double(Float(value).description) ?? value }

  /// Pooling and length as sentence-transformers writes them; nothing where the file does not say.
  fileprivate func sentenceFiles(_ family: String, _ lengthKey: String) throws(Failure) -> [String: [UInt8]] {
    let context = try requiredInteger("\(family).context_length", in: GGUFKeys.size)
    let length = try integer(GGUFKeys.ownTokens.key, in: GGUFKeys.size) ?? context
    let lengthFile = lengthKey == "max_seq_length" ? "sentence_bert_config.json" : "tokenizer_config.json"
    var files = [lengthFile: JSONText.object([(lengthKey, .int(length))]).bytes()]
    guard let number = try integer("\(family).pooling_type", in: 0...100) else { return files }
    let modes = [1: "mean", 2: "cls", 3: "lasttoken"]
    guard let mode = modes[number] else {
      throw GGUFKeys.wrong("\(family).pooling_type", "\(number) is none of mean 1, cls 2, last 3", .unsupported)
    }
    let modules = ["Transformer", "Pooling", "Normalize"].enumerated().map { index, name in
      [
        "idx": .int(index), "name": .string(String(index)), "path": .string(index == 1 ? "1_Pooling" : ""),
        "type": .string("sentence_transformers.models.\(name)"),
      ] as JSONText
    }
    files["modules.json"] = JSONText.array(modules).bytes()
    files["1_Pooling/config.json"] = JSONText.object([("pooling_mode", .string(mode))]).bytes()
    return files
  }
}
