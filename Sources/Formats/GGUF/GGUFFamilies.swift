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
  /// The file of the checkpoint, and the key in it, that hold the length.
  let length: (file: String, key: String)
  let config: @Sendable (_ keys: GGUFKeys, _ tensors: [Tensor]) throws(Failure) -> [(String, JSONText)]

  private static let sentence = (file: "sentence_bert_config.json", key: "max_seq_length")
  private static let tokenizer = (file: "tokenizer_config.json", key: "model_max_length")

  static let all: [GGUFArchitecture] = [
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

extension NomicBert: GGUFFamily {
  var ggufNames: GGUFNames { .nomicBert }

  func ggufKeys(_ model: Model) throws(Failure) -> [GGUFKey] {
    guard activation == .silu, rotation.scaling == nil else {
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
    guard rotation.scaling == nil, traits.localTheta != nil || windows.allSatisfy({ $0 == nil }) else {
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
