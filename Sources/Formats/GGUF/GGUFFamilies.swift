import Bytes
import Tensors

// Text families that ggml has, both ways: names of tensors, and keys beside what config.json says.

/// A text family that can be written as GGUF.
protocol GGUFFamily: TextFamily {
  var ggufNames: GGUFNames { get }
  /// Everything but the tokenizer.
  /// - Throws: `unsupported` for what the architecture's keys cannot say.
  func ggufKeys(_ model: Model) throws(Failure) -> [GGUFKey]
  /// A tensor as ggml wants it.
  func ggufTensor(_ tensor: Tensor) throws(Failure) -> Tensor
}

extension GGUFFamily {
  func ggufTensor(_ tensor: Tensor) throws(Failure) -> Tensor { tensor }
}

/// What a GGUF file of some architecture is as a checkpoint.
struct GGUFArchitecture: Sendable {
  let name: String
  let names: GGUFNames
  /// A tensor that tells this from another of the same name; nil where any file will do.
  var marker: TensorName?
  /// Whether pairs of columns that are turned stand side by side in queries and keys, and not half a head apart.
  var hasPairsTogether = false
  /// The file of the checkpoint, and the key in it, that hold the length.
  let length: (file: String, key: String)
  let config: @Sendable (_ keys: GGUFKeys, _ tensors: [Tensor]) throws(Failure) -> [(String, JSONText)]

  private static let sentence = (file: "sentence_bert_config.json", key: "max_seq_length")
  private static let tokenizer = (file: "tokenizer_config.json", key: "model_max_length")

  static func named(_ name: String, _ tensors: [Tensor]) -> GGUFArchitecture? {
    all.first { known in
      known.name == name && known.marker.map { marker in tensors.contains { $0.name == marker } } ?? true
    }
  }

  static let all: [GGUFArchitecture] = [
    // Converters of other programs leave the gate in the second half, where llama.cpp does not look for it.
    .init(name: "jina-bert-v2", names: .laterJinaBert, marker: "blk.0.attn_q_norm.weight", length: sentence) {
      (keys, tensors) throws(Failure) in
      try keys.jina(tensors, isGateFirst: keys.bool(GGUFKeys.ownGate) ?? false)
    },
    .init(name: "jina-bert-v2", names: .jinaBert, length: sentence) { (keys, tensors) throws(Failure) in
      try keys.jina(tensors, isGateFirst: true)
    },
    .init(name: "nomic-bert-moe", names: .nomicBertMoE, length: sentence) { (keys, tensors) throws(Failure) in
      let name = "nomic-bert-moe"
      func size(_ key: String) throws(Failure) -> JSONText {
        .int(try keys.requiredInteger("\(name).\(key)", in: JSON.sizes))
      }
      return try keys.encoder(name, "nomic_bert", tensors) + [
        ("activation_function", "gelu"), ("type_vocab_size", GGUFKeys.rows("token_types.weight", tensors)),
        ("rotary_emb_base", .number(GGUFKeys.shortest(try keys.real("\(name).rope.freq_base") ?? 10_000))),
        ("num_experts", try size("expert_count")), ("moe_top_k", try size("expert_used_count")),
        ("moe_every_n_layers", try size("moe_every_n_layers")),
      ]
    },
    .init(name: "llama", names: .qwen2, hasPairsTogether: true, length: tokenizer) { (keys, tensors) throws(Failure) in
      try keys.llama("llama", tensors, isCausal: keys.bool("llama.attention.causal") ?? true)
    },
    .init(name: "llama-embed", names: .qwen2, hasPairsTogether: true, length: tokenizer) {
      (keys, tensors) throws(Failure) in try keys.llama("llama-embed", tensors, isCausal: false)
    },
    .init(name: "bert", names: .bert, length: sentence) { (keys, tensors) throws(Failure) in
      try keys.encoder("bert", "bert", tensors) + [
        ("hidden_act", "gelu"), ("type_vocab_size", GGUFKeys.rows("token_types.weight", tensors)),
      ]
    },
    .init(name: "nomic-bert", names: .nomicBert, length: sentence) { (keys, tensors) throws(Failure) in
      try keys.encoder("nomic-bert", "nomic_bert", tensors) + [
        ("hidden_act", "silu"), ("type_vocab_size", GGUFKeys.rows("token_types.weight", tensors)),
        ("rotary_emb_base", .number(GGUFKeys.shortest(try keys.real("nomic-bert.rope.freq_base") ?? 10_000))),
      ]
    },
    .init(name: "modern-bert", names: .modernBert, length: sentence) { (keys, tensors) throws(Failure) in
      let base = GGUFKeys.shortest(try keys.real("modern-bert.rope.freq_base") ?? 10_000)
      let local = try keys.real("modern-bert.rope.freq_base_swa").map(GGUFKeys.shortest)
      return try keys.encoder("modern-bert", "modernbert", tensors, epsilon: "norm_eps") + [
        ("hidden_activation", .string(try keys.text("modern-bert.hidden_activation") ?? "gelu")),
        ("global_rope_theta", .number(base)), ("local_rope_theta", .number(local ?? base)),
        ("local_attention", .int(try keys.requiredInteger("modern-bert.attention.sliding_window", in: JSON.sizes))),
        ("global_attn_every_n_layers", .int(try keys.windowPattern("modern-bert", or: 3))),
      ]
    },
    .init(name: "eurobert", names: .qwen2, length: tokenizer) { (keys, _) throws(Failure) in
      try keys.decoder("eurobert", "eurobert").filter { $0.0 != "is_causal" } + [("hidden_act", "silu")]
    },
    .init(name: "qwen2", names: .qwen2, length: tokenizer) { (keys, _) throws(Failure) in
      try keys.decoder("qwen2", "qwen2") + [("hidden_act", "silu")]
    },
    .init(name: "qwen3", names: .qwen3, length: tokenizer) { (keys, _) throws(Failure) in
      try keys.decoder("qwen3", "qwen3") + [("hidden_act", "silu")]
    },
    .init(name: "gemma-embedding", names: .gemmaEmbedding, length: tokenizer) { (keys, _) throws(Failure) in
      let name = "gemma-embedding"
      return try keys.decoder(name, "gemma3_text").filter { $0.0 != "is_causal" } + [
        ("hidden_activation", "gelu_pytorch_tanh"), ("use_bidirectional_attention", true), ("gains_are_whole", true),
        ("sliding_window", .int(try keys.requiredInteger("\(name).attention.sliding_window", in: JSON.sizes))),
        ("sliding_window_pattern", .int(try keys.windowPattern(name, or: 6))),
        (
          "query_pre_attn_scalar",
          .int(try keys.requiredInteger("\(name).attention.key_length", in: JSON.sizes))
        ),
        (
          "rope_local_base_freq", .number(GGUFKeys.shortest(try keys.real("\(name).rope.freq_base_swa") ?? 10_000))
        ),
      ]
    },
  ]
}

// MARK: Reading

extension GGUFKeys {
  /// Rows of a table, one where there is none.
  fileprivate static func rows(_ name: TensorName, _ tensors: [Tensor]) -> JSONText {
    .int(tensors.first { $0.name == name }?.rows ?? 1)
  }

  /// A number that was rounded to Float32, as the shortest decimal that gives it back: 1e-6 and not 9.99999997e-7.
  static func shortest(_ value: Double) -> Double { Double(Float(value).description) ?? value }

  fileprivate func encoder(
    _ name: String, _ type: String, _ tensors: [Tensor], epsilon: String = "layer_norm_eps"
  ) throws(Failure) -> [(String, JSONText)] {
    func size(_ key: String) throws(Failure) -> JSONText { .int(try requiredInteger("\(name).\(key)", in: JSON.sizes)) }
    return [
      ("model_type", .string(type)), ("hidden_size", try size("embedding_length")),
      ("num_hidden_layers", .int(try requiredInteger("\(name).block_count", in: 1...Int(Int32.max)))),
      ("num_attention_heads", try size("attention.head_count")), ("intermediate_size", try size("feed_forward_length")),
      ("max_position_embeddings", try size("context_length")),
      (epsilon, .number(GGUFKeys.shortest(try real("\(name).attention.layer_norm_epsilon") ?? 1e-12))),
      ("vocab_size", GGUFKeys.rows("token_embd.weight", tensors)),
    ]
  }

  fileprivate func decoder(_ name: String, _ type: String) throws(Failure) -> [(String, JSONText)] {
    func size(_ key: String) throws(Failure) -> JSONText { .int(try requiredInteger("\(name).\(key)", in: JSON.sizes)) }
    if let scaling = try text("\(name).rope.scaling.type"), scaling != "none" {
      throw GGUFKeys.wrong("\(name).rope.scaling.type", "\(Failure.quoted(scaling)) is not supported", .unsupported)
    }
    let heads = try requiredInteger("\(name).attention.head_count", in: JSON.sizes)
    let epsilon = "\(name).attention.layer_norm_rms_epsilon"
    return [
      ("model_type", .string(type)), ("hidden_size", try size("embedding_length")),
      ("num_hidden_layers", .int(try requiredInteger("\(name).block_count", in: 1...Int(Int32.max)))),
      ("num_attention_heads", .int(heads)),
      ("num_key_value_heads", .int(try integer("\(name).attention.head_count_kv", in: JSON.sizes) ?? heads)),
      ("intermediate_size", try size("feed_forward_length")), ("max_position_embeddings", try size("context_length")),
      ("rms_norm_eps", .number(GGUFKeys.shortest(try required(epsilon, try real(epsilon))))),
      ("rope_theta", .number(GGUFKeys.shortest(try real("\(name).rope.freq_base") ?? 10_000))),
      ("is_causal", .bool(try bool("\(name).attention.causal") ?? true)),
    ]
  }

  fileprivate func jina(_ tensors: [Tensor], isGateFirst: Bool) throws(Failure) -> [(String, JSONText)] {
    try encoder("jina-bert-v2", "bert", tensors) + [
      ("architectures", .array(["JinaBertModel"])), ("position_embedding_type", "alibi"),
      ("feed_forward_type", "geglu"),
      ("type_vocab_size", GGUFKeys.rows("token_types.weight", tensors)), ("gate_is_first", .bool(isGateFirst)),
    ]
  }

  fileprivate func llama(_ name: String, _ tensors: [Tensor], isCausal: Bool) throws(Failure) -> [(String, JSONText)] {
    if let tensor = tensors.first(where: { $0.name.text.hasSuffix("rope_freqs.weight") }) {
      throw Failure(
        .unsupported, "scales rotations, which is not read from GGUF", thing: "tensor \(tensor.name.quoted)")
    }
    if let experts = try integer("\(name).expert_count", in: 0...(1 << 20)), experts > 0 {
      throw GGUFKeys.wrong("\(name).expert_count", "experts of this architecture are not supported", .unsupported)
    }
    func hasBias(_ part: String) -> Bool { tensors.contains { $0.name.text == "blk.0.\(part).bias" } }
    return try decoder(name, "llama").filter { $0.0 != "is_causal" } + [
      ("is_causal", .bool(isCausal)), ("hidden_act", "silu"), ("attention_bias", .bool(hasBias("attn_q"))),
      ("mlp_bias", .bool(hasBias("ffn_up"))),
    ]
  }

  /// Every how many layers one sees all.
  fileprivate func windowPattern(_ name: String, or usual: Int) throws(Failure) -> Int {
    let key = "\(name).attention.sliding_window_pattern"
    guard let value = self[key] else { return usual }
    if case .array = value {
      throw GGUFKeys.wrong(key, "a list of layers is not read; a number is", .unsupported)
    }
    return try requiredInteger(key, in: JSON.sizes)
  }
}

// MARK: Writing

extension GGUFExport {
  /// - Throws: `unsupported` for a family that ggml has no architecture for, or not yet here.
  static func family(_ text: any TextFamily) throws(Failure) -> any GGUFFamily {
    if let family = text as? any GGUFFamily { return family }
    throw Failure(.unsupported, "\(type(of: text).types[0]) models are not written as GGUF")
  }
}

extension Model {
  /// ggml's number for the pooling of the text graph: none 0, mean 1, first 2, last 3.
  ///
  /// - Throws: `unsupported` for pooling, and steps after it, that GGUF has no words for.
  fileprivate func poolingKey(dense: Int = 0) throws(Failure) -> Int {
    var poolings: [Op.Pooling] = []
    var denses = 0
    for node in graph("text")?.nodes ?? [] {
      switch node.op {
      case .pool(let pooling): poolings.append(pooling)
      case .linear where !poolings.isEmpty: denses += 1
      case .norm where !poolings.isEmpty, .activation where !poolings.isEmpty:
        throw Failure(.unsupported, "GGUF has no words for a \(node.op.name) after pooling")
      default: break
      }
    }
    guard denses == 0 || denses == dense else {
      throw Failure(.unsupported, "GGUF has no words for \(denses) dense layers after pooling")
    }
    switch poolings {
    case []: return 0
    case [.mean]: return 1
    case [.first]: return 2
    case [.last]: return 3
    default:
      let names = poolings.map(\.rawValue).joined(separator: " and ")
      throw Failure(.unsupported, "GGUF has no word for \(names) pooling; mean, first and last it has")
    }
  }

  fileprivate func commonKeys(_ name: String, dense: Int = 0) throws(Failure) -> [GGUFKey] {
    [
      .init("general.architecture", .string(name)), .init("general.type", .string("model")),
      .init("general.quantization_version", .uint32(2)),
      .init("\(name).pooling_type", .uint32(try poolingKey(dense: dense))),
      .init(GGUFKeys.ownTokens.key, .uint32(configuration.maximumTokens)),
    ]
  }
}

/// Sizes that every encoder has.
private func encoderKeys(
  _ name: String, layers: Int, positions: Int, hidden: Int, intermediate: Int, heads: Int, epsilon: Double
) -> [GGUFKey] {
  [
    .init("\(name).block_count", .uint32(layers)), .init("\(name).context_length", .uint32(positions)),
    .init("\(name).embedding_length", .uint32(hidden)), .init("\(name).feed_forward_length", .uint32(intermediate)),
    .init("\(name).attention.head_count", .uint32(heads)),
    .init("\(name).attention.layer_norm_epsilon", .float32(epsilon)), .init("\(name).attention.causal", .bool(false)),
  ]
}

extension Bert: GGUFFamily {
  var ggufNames: GGUFNames { .bert }

  func ggufKeys(_ model: Model) throws(Failure) -> [GGUFKey] {
    guard sizes.activation == .gelu else { throw Failure(.unsupported, "ggml's bert has GELU alone") }
    return try model.commonKeys("bert")
      + encoderKeys(
        "bert", layers: sizes.layers, positions: longest, hidden: hidden, intermediate: sizes.intermediate,
        heads: sizes.heads,
        epsilon: sizes.epsilon) + [.init("tokenizer.ggml.token_type_count", .uint32(types))]
  }

  /// Positions start at the first row.
  func ggufTensor(_ tensor: Tensor) throws(Failure) -> Tensor {
    guard firstPosition > 0, tensor.name == "embeddings.position_embeddings.weight" else { return tensor }
    return try tensor.gathered(rows: Array(firstPosition..<sizes.positions))
  }
}

extension JinaBert: GGUFFamily {
  var ggufNames: GGUFNames { isLater ? .laterJinaBert : .jinaBert }

  func ggufKeys(_ model: Model) throws(Failure) -> [GGUFKey] {
    guard activation == .gelu else { throw Failure(.unsupported, "ggml's jina-bert-v2 has GEGLU alone") }
    return try model.commonKeys("jina-bert-v2")
      + encoderKeys(
        "jina-bert-v2", layers: sizes.layers, positions: longest, hidden: hidden, intermediate: sizes.intermediate,
        heads: sizes.heads, epsilon: sizes.epsilon) + [
        .init("tokenizer.ggml.token_type_count", .uint32(types)), .init(GGUFKeys.ownGate, .bool(true)),
      ]
  }

  /// The gate in the first half, where llama.cpp takes it from.
  func ggufTensor(_ tensor: Tensor) throws(Failure) -> Tensor {
    guard !isGateFirst, tensor.name.text.hasSuffix("mlp.up_gated_layer.weight") else { return tensor }
    let width = sizes.intermediate
    return tensor.reordered(rows: Array(width..<2 * width) + Array(0..<width))
  }
}

extension NomicBert: GGUFFamily {
  var ggufNames: GGUFNames { experts == nil ? .nomicBert : .nomicBertMoE }

  func ggufKeys(_ model: Model) throws(Failure) -> [GGUFKey] {
    if let experts { return try expertKeys(model, count: experts.count, top: experts.top, every: experts.every) }
    guard isGated, activation == .silu, rotation.scaling == nil else {
      throw Failure(.unsupported, "ggml's nomic-bert has SwiGLU and plain rotations alone")
    }
    return try model.commonKeys("nomic-bert")
      + encoderKeys(
        "nomic-bert", layers: layers, positions: longest, hidden: hidden, intermediate: intermediate, heads: heads,
        epsilon: epsilon) + [
        .init("nomic-bert.rope.freq_base", .float32(rotation.theta)),
        .init("tokenizer.ggml.token_type_count", .uint32(types)),
      ]
  }
}

extension NomicBert {
  private func expertKeys(_ model: Model, count: Int, top: Int, every: Int) throws(Failure) -> [GGUFKey] {
    guard activation == .gelu, !isGated, rotation.scaling == nil else {
      throw Failure(.unsupported, "ggml's nomic-bert-moe has GELU without a gate and plain rotations alone")
    }
    for tensor in model.tensors where tensor.name.text.hasSuffix("mlp.experts.bias") {
      // Published models have zeros there.
      guard try tensor.floats().array(of: Float.self).allSatisfy({ $0 == 0 }) else {
        throw Failure(
          .unsupported, "is added to what experts give, which GGUF has no place for",
          thing: "tensor \(tensor.name.quoted)")
      }
    }
    let name = "nomic-bert-moe"
    return try model.commonKeys(name)
      + encoderKeys(
        name, layers: layers, positions: longest, hidden: hidden, intermediate: intermediate, heads: heads,
        epsilon: epsilon) + [
        .init("\(name).rope.freq_base", .float32(rotation.theta)), .init("\(name).expert_count", .uint32(count)),
        .init("\(name).expert_used_count", .uint32(top)), .init("\(name).moe_every_n_layers", .uint32(every)),
        .init("tokenizer.ggml.token_type_count", .uint32(types)),
      ]
  }
}

extension Llama: GGUFFamily {
  var ggufNames: GGUFNames { .qwen2 }

  /// llama.cpp has an architecture of its own for those that see both ways.
  func ggufKeys(_ model: Model) throws(Failure) -> [GGUFKey] {
    let name = decoder.isCausal ? "llama" : "llama-embed"
    return try decoder.ggufKeys(name, model) + [
      .init("\(name).rope.dimension_count", .uint32(decoder.headWidth)),
      .init("\(name).vocab_size", .uint32(vocabulary)),
    ]
  }

  func ggufTensor(_ tensor: Tensor) throws(Failure) -> Tensor {
    let name = tensor.name.text
    let heads =
      name.contains(".q_proj.") ? decoder.heads : name.contains(".k_proj.") ? decoder.keyValueHeads : 0
    return heads == 0 ? tensor : tensor.reordered(rows: GGUFPairs.together(heads: heads, rows: tensor.shape[0]))
  }
}

/// The order of rows of queries and keys: llama.cpp turns neighbours in Llama's, columns half a head apart in others'.
enum GGUFPairs {
  /// For each row of a GGUF file the checkpoint's.
  static func together(heads: Int, rows: Int) -> [Int] {
    let width = rows / heads
    return (0..<rows).map { row in
      let place = row % width
      return row - place + place / 2 + place % 2 * (width / 2)
    }
  }

  /// The other way.
  static func apart(heads: Int, rows: Int) -> [Int] {
    var result = [Int](repeating: 0, count: rows)
    for (row, from) in together(heads: heads, rows: rows).enumerated() { result[from] = row }
    return result
  }
}

extension ModernBert: GGUFFamily {
  var ggufNames: GGUFNames { .modernBert }

  func ggufKeys(_ model: Model) throws(Failure) -> [GGUFKey] {
    let every = isLocal.dropFirst().firstIndex(of: false) ?? isLocal.count
    guard isLocal.enumerated().allSatisfy({ $1 == ($0 % every != 0) }), rotations.global.scaling == nil,
      rotations.local.scaling == nil, activation == .gelu || activation == .silu
    else {
      throw Failure(
        .unsupported,
        "ggml's modern-bert sees all in every Nth layer from the first on, has plain rotations, GELU or SiLU")
    }
    return try model.commonKeys("modern-bert")
      + encoderKeys(
        "modern-bert", layers: layers, positions: longest, hidden: hidden, intermediate: intermediate, heads: heads,
        epsilon: epsilon) + [
        .init("modern-bert.rope.freq_base", .float32(rotations.global.theta)),
        .init("modern-bert.rope.freq_base_swa", .float32(rotations.local.theta)),
        .init("modern-bert.rope.scaling.type", .string("none")),
        .init("modern-bert.attention.sliding_window", .uint32((window - 1) * 2)),
        .init("modern-bert.attention.sliding_window_pattern", .uint32(every)),
        .init("modern-bert.hidden_activation", .string(activation.rawValue)),
        .init("modern-bert.vocab_size", .uint32(vocabulary)),
      ]
  }
}

extension Qwen2: GGUFFamily {
  var ggufNames: GGUFNames { .qwen2 }
  func ggufKeys(_ model: Model) throws(Failure) -> [GGUFKey] { try decoder.ggufKeys("qwen2", model) }
}

extension EuroBert: GGUFFamily {
  var ggufNames: GGUFNames { .qwen2 }
  func ggufKeys(_ model: Model) throws(Failure) -> [GGUFKey] { try decoder.ggufKeys("eurobert", model) }
}

extension Qwen3: GGUFFamily {
  var ggufNames: GGUFNames { .qwen3 }
  func ggufKeys(_ model: Model) throws(Failure) -> [GGUFKey] { try decoder.ggufKeys("qwen3", model) }
}

extension Gemma3: GGUFFamily {
  var ggufNames: GGUFNames { .gemmaEmbedding }

  func ggufKeys(_ model: Model) throws(Failure) -> [GGUFKey] {
    let name = "gemma-embedding"
    let every = (decoder.windows.firstIndex { $0 == nil } ?? decoder.windows.count) + 1
    guard !decoder.isCausal, decoder.activation == .geluTanh,
      decoder.scale == 1 / Double(decoder.headWidth).squareRoot(),
      let window = decoder.windows.compactMap({ $0 }).first,
      decoder.windows.enumerated().allSatisfy({ ($1 != nil) == (($0 + 1) % every != 0) })
    else {
      throw Failure(
        .unsupported,
        "ggml's gemma-embedding sees both ways, all in every Nth layer, and divides by the root of a head's width")
    }
    let dense: [GGUFKey] = [2, 3].flatMap { place -> [GGUFKey] in
      guard let shape = model[TensorName("\(place)_Dense.linear.weight")]?.shape, shape.count == 2 else { return [] }
      return [
        .init("\(name).dense_\(place)_feat_in", .uint32(shape[1])),
        .init("\(name).dense_\(place)_feat_out", .uint32(shape[0])),
      ]
    }
    return try decoder.ggufKeys(name, model, dense: dense.count / 2) + dense + [
      .init("\(name).attention.sliding_window", .uint32((window - 1) * 2)),
      .init("\(name).attention.sliding_window_pattern", .uint32(every)),
      .init("\(name).rope.freq_base_swa", .float32(decoder.localRotation.theta)),
    ]
  }

  /// Gains as they are multiplied.
  func ggufTensor(_ tensor: Tensor) throws(Failure) -> Tensor {
    guard decoder.traits.norm == .rmsPlusOne, tensor.name.text.hasSuffix("norm.weight") else { return tensor }
    let shape = tensor.shape
    let content = Tensor.Computation { (_) throws(Failure) in
      let gains = try tensor.floats()
      gains.with(Float.self) { for index in $0.indices { $0[index] += 1 } }
      return (gains, nil)
    }
    return Tensor(tensor.name, shape: shape, encoding: .plain(.F32), content: .computed(content))
  }
}

extension Decoder {
  func ggufKeys(_ name: String, _ model: Model, dense: Int = 0) throws(Failure) -> [GGUFKey] {
    // A window that no input exceeds is none.
    let seesAll = windows.allSatisfy { $0 ?? .max >= model.configuration.maximumTokens }
    guard rotation.scaling == nil, traits.localTheta != nil || seesAll else {
      throw Failure(.unsupported, "scaled rotations and windows of \(traits.name) models are not written as GGUF")
    }
    guard traits.scalesTokens || activation == .silu else {
      throw Failure(.unsupported, "ggml's \(name) has SiLU alone")
    }
    return try model.commonKeys(name, dense: dense) + [
      .init("\(name).block_count", .uint32(layers)), .init("\(name).context_length", .uint32(longest)),
      .init("\(name).embedding_length", .uint32(hidden)), .init("\(name).feed_forward_length", .uint32(intermediate)),
      .init("\(name).attention.head_count", .uint32(heads)),
      .init("\(name).attention.head_count_kv", .uint32(keyValueHeads)),
      .init("\(name).attention.key_length", .uint32(headWidth)),
      .init("\(name).attention.value_length", .uint32(headWidth)),
      .init("\(name).attention.layer_norm_rms_epsilon", .float32(epsilon)),
      .init("\(name).rope.freq_base", .float32(rotation.theta)), .init("\(name).attention.causal", .bool(isCausal)),
    ]
  }
}
