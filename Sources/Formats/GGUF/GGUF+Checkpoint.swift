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
      guard let known = GGUFArchitecture.named(architecture, text.tensors) else {
        throw GGUF.unread(architecture)
      }
      config = try known.config(text.keys, text.tensors)
      let ordered = known.hasPairsTogether ? try pairsApart(text.tensors, text.keys, architecture) : text.tensors
      checkpoint.tensors = try renamed(ordered, known.names)
      if projector == nil { checkpoint.made = try text.keys.sentenceFiles(known, checkpoint.tensors) }
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

  private static func unread(_ architecture: String) -> Failure {
    guard architecture != "clip" else {
      return Failure(
        .unsupported, "holds a vision tower alone; import the text model's file and give this one with --mmproj")
    }
    let known = Set(GGUFArchitecture.all.map(\.name)).sorted().joined(separator: ", ")
    return Failure(
      .unsupported, "architecture \(Failure.quoted(architecture)) is not read; \(known) and clip are",
      thing: "key \"general.architecture\"")
  }

  /// Queries and keys with the columns that are turned as a pair half a head apart.
  private static func pairsApart(_ tensors: [Tensor], _ keys: GGUFKeys, _ name: String) throws(Failure) -> [Tensor] {
    let heads = try keys.requiredInteger("\(name).attention.head_count", in: JSON.sizes)
    let shared = try keys.integer("\(name).attention.head_count_kv", in: JSON.sizes) ?? heads
    return try tensors.map { (tensor) throws(Failure) in
      let isQuery = tensor.name.text.contains(".attn_q.")
      guard isQuery || tensor.name.text.contains(".attn_k.") else { return tensor }
      let (rows, count) = (tensor.shape.first ?? 0, isQuery ? heads : shared)
      guard tensor.shape.count <= 2, rows > 0, rows % (2 * count) == 0 else {
        throw Failure(
          .malformed, "has shape \(tensor.shape), an even number of rows for each of \(count) heads expected",
          thing: "tensor \(tensor.name.quoted)")
      }
      return tensor.reordered(rows: GGUFPairs.apart(heads: count, rows: rows))
    }
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
  /// Whether the gate is in the first half of what widens, as llama.cpp has it.
  static let ownGate = "llvconv.gate_is_first"
  static let ownTokens = (key: "llvconv.maximum_tokens", name: "tokenizer_model_max_length")

  /// The same keys as the authors' checkpoints have them.
  fileprivate func languageModel(_ config: [(String, JSONText)]) throws(Failure) -> [(String, JSONText)] {
    if let pooling = try integer("qwen2.pooling_type", in: 0...100), pooling != 3 {
      throw GGUFKeys.wrong("qwen2.pooling_type", "\(pooling) is not that of the last token, 3", .unsupported)
    }
    return config.filter { $0.0 != "is_causal" }
  }

  /// Pooling and length as sentence-transformers writes them; nothing where the file does not say.
  fileprivate func sentenceFiles(_ architecture: GGUFArchitecture, _ tensors: [Tensor]) throws(Failure) -> [String:
    [UInt8]]
  {
    let name = architecture.name
    let context = try requiredInteger("\(name).context_length", in: JSON.sizes)
    let length = try integer(GGUFKeys.ownTokens.key, in: JSON.sizes) ?? context
    var files = [architecture.length.file: JSONText.object([(architecture.length.key, .int(length))]).bytes()]
    guard let number = try integer("\(name).pooling_type", in: 0...100) else { return files }
    let modes = [1: "mean", 2: "cls", 3: "lasttoken"]
    guard let mode = modes[number] else {
      throw GGUFKeys.wrong("\(name).pooling_type", "\(number) is none of mean 1, cls 2, last 3", .unsupported)
    }
    let dense = ["2_Dense", "3_Dense"].filter { folder in tensors.contains { $0.name.isIn(folder) } }
    let modules = [("Transformer", ""), ("Pooling", "1_Pooling")] + dense.map { ("Dense", $0) } + [("Normalize", "")]
    files["modules.json"] = JSONText.array(
      modules.enumerated().map { index, module in
        [
          "idx": .int(index), "name": .string(String(index)), "path": .string(module.1),
          "type": .string("sentence_transformers.models.\(module.0)"),
        ]
      }
    ).bytes()
    files["1_Pooling/config.json"] = JSONText.object([("pooling_mode", .string(mode))]).bytes()
    for folder in dense {
      files["\(folder)/config.json"] =
        JSONText.object([("bias", false), ("activation_function", "torch.nn.modules.linear.Identity")]).bytes()
    }
    return files
  }
}
