import Bytes
import Tensors

/// A model as a checkpoint directory: in the layout it was imported from, as transformers writes the family, or with
/// quantized weights as other programs store them.
public struct CheckpointExport: Sendable {
  /// Which names and configuration.
  public enum Layout: Sendable, Equatable {
    /// The checkpoint's own: an untouched model gives back every tensor's bytes.
    case own
    /// transformers', as it writes them on disk; `inMemory` has the names that its modules have since 4.52.
    case transformers(inMemory: Bool)
    /// The text tower alone, with weights as they are.
    case textTower
    /// Grouped integers stay integers. MLX has classes for text towers alone, so that is what it gets.
    case quantized(QuantizedLayout)
  }

  private let tensors: [Tensor]
  /// Tensors of sentence-transformers' modules, by folder.
  private let modules: [(folder: String, tensors: [Tensor])]
  private let files: [(name: String, bytes: [UInt8])]
  private let isMLX: Bool
  /// Things that a reader of the files should know.
  public private(set) var notes: [String] = []

  /// - Parameter type: for all weights; nil keeps plain tensors as they are and writes grouped integers as Float32.
  public init(_ model: Model, _ layout: Layout, type: DType? = nil) throws(Failure) {
    // MLX gets no pictures.
    let isText = layout == .quantized(.mlx) || layout == .textTower
    let family = isText ? try Family(model) : try Family(exporting: model)
    let folders = try Checkpoint.moduleFolders(try family.checkpoint.json("modules.json"))
    modules = try folders.map { (folder) throws(Failure) in
      let own = family.checkpoint.tensors.filter { $0.name.isIn(folder) }
      return (
        folder,
        try own.map { (tensor) throws(Failure) in
          // No program has them quantized.
          try tensor.renamed(TensorName(Array(tensor.name.bytes.dropFirst(folder.utf8.count + 1)))).plain(type)
        }
      )
    }.filter { !$0.tensors.isEmpty }
    func isBody(_ tensor: Tensor) -> Bool { !folders.contains { tensor.name.isIn($0) } }
    var tensors = family.checkpoint.tensors.filter(isBody)
    var files = family.checkpoint.made
    var renamed = tensors
    if isText, case .llave(let facts) = family.kind {
      renamed = family.tensors.filter(isBody)
      tensors = renamed.filter { facts.isText($0.name) }
      files["config.json"] = facts.textConfiguration(rows: facts.text.vocabulary).bytes(pretty: true)
      notes.append("MLX has no class for this family: the text tower alone is written")
    } else if layout != .own, case .llave(let facts) = family.kind {
      let names: Llave.Layout = layout == .transformers(inMemory: false) ? .firstTransformers : .transformers
      renamed = facts.layout.renamed(tensors, to: names)
      var conversion = HuggingFaceLlave(facts, renamed, names, files)
      try conversion.convert()
      (tensors, files, notes) = (conversion.tensors, conversion.files, conversion.notes)
    }
    if case .text(let text) = family.kind {
      let whole = try text.together(tensors, forGGUF: false)
      if case .quantized(let kind) = layout, whole.count < tensors.count {
        throw Failure(.unsupported, "no program reads experts as \(kind.rawValue); --to hf writes them as they were")
      }
      tensors = whole
    }
    if case .quantized(let kind) = layout {
      let names = Dictionary(zip(renamed, model.tensors.filter(isBody)).map { ($0.name, $1.name) }) { first, _ in first
      }
      (tensors, files["config.json"]) = try CheckpointExport.quantized(
        tensors, names, model, kind, files["config.json"] ?? [], kept: family.unusedModules)
    }
    isMLX = layout == .quantized(.mlx)
    self.tensors = try tensors.map { (tensor) throws(Failure) in try tensor.plain(type) }
    self.files = files.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }

  /// Grouped tensors as `kind` has them, and the configuration that says so. `names` are the model's for those of
  /// `tensors`.
  private static func quantized(
    _ tensors: [Tensor], _ names: [TensorName: TensorName], _ model: Model, _ kind: QuantizedLayout, _ config: [UInt8],
    kept unused: [String]
  ) throws(Failure) -> ([Tensor], [UInt8]) {
    var inputs: [TensorName: Op.LinearInput] = [:]
    for node in model.graphs.flatMap(\.graph.nodes) {
      guard case .linear(let input) = node.op, case .tensor(let name) = node.inputs[1] else { continue }
      inputs[name] = input
    }
    var result: [Tensor] = []
    var weights: [(module: String, stored: QuantizedLayout.Stored)] = []
    var kept = unused
    for tensor in tensors {
      let input = names[tensor.name].flatMap { inputs[$0] }
      let module = String(tensor.name.text.dropLast(".weight".count))
      guard case .grouped(let integers) = tensor.encoding else {
        // Matrices that nothing of ours reads are linear operations of the other program all the same.
        if tensor.shape.count == 2, tensor.name.text.hasSuffix(".weight"), !kept.contains(module) {
          kept.append(module)
        }
        result.append(tensor)
        continue
      }
      let stored = try kind.stored(tensor, integers, isInput8: input == .int8)
      result += stored.tensors
      weights.append((module, stored))
    }
    guard !weights.isEmpty else {
      throw Failure(
        .usage,
        "no weight of the model is quantized; say how with --weights, or quantize --for \(kind.rawValue) first")
    }
    let entry = kind.configuration(weights, kept: kept)
    var members: [(String, JSONText)] = []
    for (key, value) in try JSON.parse(config, what: "config.json").members() where !key.elementsEqual(entry.key.utf8) {
      members.append((String(decoding: key, as: UTF8.self), try JSONText(value)))
    }
    members.append(entry)
    return (result, JSONText.object(members).bytes(pretty: true))
  }

  /// About what a model's files come to with its weights as they are, an upper bound: every matrix counts with the
  /// header of three tensors.
  public static func expectedBytes(_ model: Model, isMLX: Bool) throws(Failure) -> Int {
    let export = try CheckpointExport(model, isMLX ? .textTower : .transformers(inMemory: false))
    let files = export.files.reduce(0) { $0 + $1.bytes.count }
    return export.tensors.reduce(files) { sum, tensor in
      sum + tensor.byteCount + (tensor.shape.count == 2 ? 3 : 1) * (tensor.name.bytes.count + 90)
    }
  }

  public var byteCount: Int { (tensors + modules.flatMap(\.tensors)).reduce(0) { $0 + $1.byteCount } }

  /// - Parameter shard: bytes of a file at most, 5 GB when nil.
  public func write(_ path: String, shard: Int?, threads: Int, progress: (_ bytes: Int) -> Void) throws(Failure) {
    let directory = try OutputDirectory(path)
    for file in files { try directory.write(file.name, file.bytes) }
    let writer = SafetensorsWriter(format: isMLX ? "mlx" : "pt", shard: shard ?? SafetensorsWriter.defaultShard)
    var done = 0
    for (folder, tensors) in [("", tensors)] + modules.map({ ($0.folder + "/", $0.tensors) }) {
      try writer.write(tensors, to: directory, folder: folder, threads: threads) {
        done += $0
        progress(done)
      }
    }
    try directory.commit()
  }
}

extension Tensor {
  /// As a plain tensor of `type`; what it is when nil, Float32 for grouped integers.
  fileprivate func plain(_ type: DType?) throws(Failure) -> Tensor {
    if case .plain(let own) = encoding, type == nil || own == type || !own.isWeight { return self }
    guard let type = BlockType.named((type ?? .F32).rawValue) else {
      throw Failure(.usage, "type \(type?.rawValue ?? "") is not written; F32, F16 and BF16 are")
    }
    let encoder = BlockEncoder(tensor: self, type: type)
    let computation = Tensor.Computation { (threads) throws(Failure) in (try encoder.run(threads: threads).bytes, nil) }
    return Tensor(name, shape: shape, encoding: type.encoding ?? encoding, content: .computed(computation))
  }
}

/// The LLaVE family as transformers' `LlavaOnevisionForConditionalGeneration`.
private struct HuggingFaceLlave {
  let facts: Llave.Facts
  private(set) var tensors: [Tensor]
  let names: Llave.Layout
  private(set) var files: [String: [UInt8]]
  private(set) var notes: [String] = []

  init(_ facts: Llave.Facts, _ tensors: [Tensor], _ names: Llave.Layout, _ files: [String: [UInt8]]) {
    self.facts = facts
    self.tensors = tensors
    self.names = names
    self.files = files
  }

  mutating func convert() throws(Failure) {
    try addIdentityNorm()
    // A checkpoint that came in transformers' layout has its own configuration and tokens.
    guard facts.layout.isOriginal else { return }
    guard let bytes = files["tokenizer.json"] else {
      throw Failure(.unsupported, "the container holds no tokenizer.json, which must learn the token <image>")
    }
    let (image, video, tokenizer) = try withPictureTokens(try JSON.parse(bytes, what: "tokenizer.json"))
    files["tokenizer.json"] = tokenizer.bytes(pretty: true)
    let rows = max(facts.text.vocabulary, max(image, video) + 1)
    if rows > facts.text.vocabulary { growTable(to: rows) }
    files["config.json"] = configuration(image: image, video: video, rows: rows).bytes(pretty: true)
    files["preprocessor_config.json"] = processor.bytes(pretty: true)
    if files["tokenizer_config.json"] == nil {
      files["tokenizer_config.json"] = JSONText.object([("tokenizer_class", "PreTrainedTokenizerFast")]).bytes()
    }
  }

  /// transformers' tower ends in a norm that these models do not use, and misses its weights when they are not there.
  private mutating func addIdentityNorm() throws(Failure) {
    guard !tensors.contains(where: { $0.name == TensorName(names.vision + "post_layernorm.weight") }) else { return }
    for (name, value) in [("weight", Float(1)), ("bias", Float(0))] {
      let floats = [Float](repeating: value, count: facts.vision.width)
      let name = TensorName(names.vision + "post_layernorm." + name)
      tensors.append(try Tensor(name, floats: floats, shape: [floats.count]))
    }
    notes.append("post_layernorm, which no embedding reads and import left out, is written as the identity")
    notes.append("lm_head, which no embedding reads and import left out, is declared tied to the token table")
  }

  /// `<image>` and `<video>` as tokens, which the authors' code has as negative numbers.
  private func withPictureTokens(_ json: JSON) throws(Failure) -> (image: Int, video: Int, tokenizer: JSONText) {
    var ids: [String: Int] = [:]
    var next = 0
    for (_, value) in try json.required("model").required("vocab").members("vocab") {
      next = max(next, try value.integer("id", in: 0...Limits.arrayElements) + 1)
    }
    var added: [JSONText] = []
    for token in try json.optional("added_tokens")?.elements("added_tokens") ?? [] {
      let id = try token.required("id").integer("id", in: 0...Limits.arrayElements)
      ids[try token.required("content").string("content")] = id
      next = max(next, id + 1)
      added.append(try JSONText(token))
    }
    for text in ["<image>", "<video>"] where ids[text] == nil {
      ids[text] = next
      added.append([
        "id": .int(next), "content": .string(text), "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true,
      ])
      next += 1
    }
    var members: [(String, JSONText)] = []
    for (key, value) in try json.members() where !key.elementsEqual("added_tokens".utf8) {
      members.append((String(decoding: key, as: UTF8.self), try JSONText(value)))
    }
    members.append(("added_tokens", .array(added)))
    return (ids["<image>"] ?? 0, ids["<video>"] ?? 0, .object(members))
  }

  /// The table with rows of zeros for tokens that it has none for. They are replaced by features before anything reads
  /// them.
  private mutating func growTable(to rows: Int) {
    let name = TensorName(names.text + "embed_tokens.weight")
    guard let index = tensors.firstIndex(where: { $0.name == name }), tensors[index].encoding.isPlain else { return }
    let table = tensors[index]
    let extra = (rows - table.rows) * (table.byteCount / max(1, table.rows))
    let computation = Tensor.Computation { (threads) throws(Failure) in
      let zeros = try Buffer(count: extra)
      zeros.clear()
      guard let all = ByteView(joining: [ByteView(try table.load(threads: threads)), ByteView(zeros)]) else {
        throw Failure(.limit, "tensor is too large")
      }
      return (try all.load(), nil)
    }
    tensors[index] = Tensor(
      name, shape: [rows, table.columns], encoding: table.encoding, content: .computed(computation))
  }

  private func configuration(image: Int, video: Int, rows: Int) -> JSONText {
    let vision = facts.vision
    return [
      "architectures": ["LlavaOnevisionForConditionalGeneration"], "model_type": "llava_onevision",
      "image_token_index": .int(image), "video_token_index": .int(video), "projector_hidden_act": "gelu",
      "vision_feature_select_strategy": "full", "vision_feature_layer": -1,
      "vision_aspect_ratio": .string("anyres_max_\(facts.pictures.maximumViews ?? 9)"),
      "image_grid_pinpoints": .array(facts.pictures.grid.map { .array([.int($0.height), .int($0.width)]) }),
      "multimodal_projector_bias": true, "tie_word_embeddings": true,
      "text_config": facts.textConfiguration(rows: rows),
      "vision_config": [
        "model_type": "siglip_vision_model", "hidden_size": .int(vision.width),
        "intermediate_size": .int(vision.intermediate), "num_hidden_layers": .int(facts.depth),
        "num_attention_heads": .int(vision.heads), "image_size": .int(vision.tile), "patch_size": .int(vision.patch),
        "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": .number(vision.epsilon), "vision_use_head": false,
      ],
    ]
  }

  private var processor: JSONText {
    [
      "image_processor_type": "LlavaOnevisionImageProcessor", "processor_class": "LlavaOnevisionProcessor",
      "do_resize": true, "do_rescale": true, "do_normalize": true, "do_pad": true, "do_convert_rgb": true,
      "rescale_factor": .number(1 / 255.0), "resample": 3, "image_mean": .array([0.5, 0.5, 0.5].map(JSONText.number)),
      "image_std": .array([0.5, 0.5, 0.5].map(JSONText.number)),
      "size": ["height": .int(facts.vision.tile), "width": .int(facts.vision.tile)],
      "image_grid_pinpoints": .array(facts.pictures.grid.map { .array([.int($0.height), .int($0.width)]) }),
    ]
  }
}

extension Llave.Facts {
  /// The language model alone, as transformers describes it.
  fileprivate func textConfiguration(rows: Int) -> JSONText {
    [
      "model_type": "qwen2", "hidden_size": .int(text.hidden), "intermediate_size": .int(text.intermediate),
      "num_hidden_layers": .int(text.layers), "num_attention_heads": .int(text.heads),
      "num_key_value_heads": .int(text.keyValueHeads), "vocab_size": .int(rows),
      "max_position_embeddings": .int(text.longest), "rms_norm_eps": .number(text.epsilon),
      "rope_theta": .number(text.rotation.theta), "hidden_act": "silu", "tie_word_embeddings": true,
    ]
  }

  /// Whether a tensor, by its name in the authors' layout, is of the language model.
  fileprivate func isText(_ name: TensorName) -> Bool {
    ["model.layers.", "model.embed_tokens.", "model.norm."].contains { name.bytes.starts(with: $0.utf8) }
  }
}
