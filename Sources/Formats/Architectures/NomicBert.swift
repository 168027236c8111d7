import Bytes
import Tensors

/// Nomic's BERT encoders (Nussbaum et al. 2024): post-norm, rotary positions, gated MLP, no biases. The second version
/// has biases, an MLP without gate, and experts in every second layer. The configuration has the authors' keys or
/// transformers'; tensors have the authors' names in both.
struct NomicBert: TextFamily {
  static let types = ["nomic_bert"]
  static let pooling = Op.Pooling.mean

  let hidden, layers, heads, intermediate, vocabulary, types, longest: Int
  let epsilon: Double
  let activation: Op.Activation
  let rotation: Op.Rotation
  let isGated: Bool
  /// In every second layer, of models that have them.
  let experts: ExpertWeights?
  let hasBiases: (attention: Bool, mlp: Bool)
  private let prefix: String

  var prefixes: (own: String, first: String) { (prefix, "") }

  init(_ config: JSON, _ shapes: Shapes, notes: inout [String]) throws(Failure) {
    hidden = try config.size("hidden_size", "n_embd")
    layers = try config.layers("num_hidden_layers", "n_layer")
    heads = try config.heads("num_attention_heads", "n_head", of: hidden)
    let width = hidden / heads
    guard width % 2 == 0, try config.size("head_dim", or: width) == width else {
      throw config.failure("heads of \(width) columns, an even number that is head_dim expected")
    }
    intermediate = try config.size("intermediate_size", "n_inner")
    vocabulary = try config.size("vocab_size")
    types = try config.size("type_vocab_size", or: 2)
    epsilon = try config.epsilon("layer_norm_eps", "layer_norm_epsilon", or: 1e-12)
    try NomicBert.refuseUnsupported(config)
    (activation, isGated) = try NomicBert.activation(config)
    let (rotation, limit) = try Op.Rotation.read(
      config, headWidth: width, theta: (config["rotary_emb_base"] == nil ? "rope_theta" : "rotary_emb_base", 1_000))
    self.rotation = rotation
    let positions = try config.size("max_position_embeddings", "n_positions", or: 2_048)
    // Beyond the trained length frequencies would change with the input's.
    let trained =
      config.optional("rotary_scaling_factor") == nil ? Int.max : try config.size("max_trained_positions", or: 2_048)
    longest = min(positions, trained, limit ?? .max)
    prefix = shapes.prefix(NomicBert.prefixes, of: "embeddings.word_embeddings.weight")
    let layer = prefix + "encoder.layers.0."
    hasBiases = (shapes.has(layer + "attn.Wqkv.bias"), shapes.has(layer + "mlp.fc2.bias"))
    experts = try ExpertWeights(config)
  }

  private static let prefixes = ["", "nomic_bert.", "bert.", "model."]

  /// What the configuration calls the activation, and whether it is a gate's.
  private static func activation(_ config: JSON) throws(Failure) -> (Op.Activation, isGated: Bool) {
    guard let value = config.optional("activation_function") else {
      return (try config.activation("hidden_act", or: .silu), true)
    }
    switch try value.string("activation_function") {
    case "swiglu": return (.silu, true)
    case "geglu": return (.gelu, true)
    default: return (try config.activation("activation_function", or: .gelu), false)
    }
  }

  private static func refuseUnsupported(_ config: JSON) throws(Failure) {
    if let value = config.optional("rotary_emb_fraction"), try value.double("rotary_emb_fraction") != 1 {
      throw value.failure("rotary_emb_fraction must be 1", .unsupported)
    }
    for key in ["prenorm", "rotary_emb_interleaved", "use_rms_norm"] { try config.require(key, false) }
  }

  static func apart(_ tensors: [Tensor], _ config: JSON) throws(Failure) -> [Tensor] {
    try ExpertWeights(config)?.apart(tensors) ?? tensors
  }

  func together(_ tensors: [Tensor], forGGUF: Bool) throws(Failure) -> [Tensor] {
    // Names for GGUF are those of the first layout.
    let head = (forGGUF ? "" : prefix) + "encoder.layers."
    let held = Architecture.layersHeld(head, tensors)
    return try experts?.together(tensors, head: head, layers: min(layers, held), forGGUF: forGGUF) ?? tensors
  }

  var architecture: Architecture {
    let head = "encoder.layers.{layer}."
    func linear(_ name: String, _ out: String, _ input: String, bias: Bool) -> [Architecture.Rule] {
      Architecture.Rule.linear(head + name, out, input, bias: bias)
    }
    func norm(_ name: String) -> [Architecture.Rule] { Architecture.Rule.norm(name, "hidden_size") }
    // More layers than a checkpoint holds are an error before they are counted.
    let routed = Set((0..<min(layers, 1 << 12)).filter { experts?.has($0) ?? false })
    let plain = experts.map { _ in Set(0..<min(layers, 1 << 12)).subtracting(routed) }
    let wide = (isGated ? ["mlp.fc11", "mlp.fc12"] : ["mlp.fc1"]).flatMap {
      linear($0, "intermediate_size", "hidden_size", bias: hasBiases.mlp)
    }
    let mlp = wide + linear("mlp.fc2", "hidden_size", "intermediate_size", bias: hasBiases.mlp)
    return Architecture(
      name: "nomic_bert",
      rules: [
        .init("embeddings.word_embeddings.weight", ["vocab_size", "hidden_size"]),
        .init(
          "embeddings.token_type_embeddings.weight", ["type_vocab_size", "hidden_size"], folded: .init(value: 0)),
        .init("pooler.dense.weight", nil, .unused), .init("pooler.dense.bias", nil, .unused),
      ] + norm("emb_ln") + linear("attn.Wqkv", "3 · hidden_size", "hidden_size", bias: hasBiases.attention)
        + linear("attn.out_proj", "hidden_size", "hidden_size", bias: hasBiases.attention) + norm(head + "norm1")
        + mlp.map { $0.only(in: plain) } + norm(head + "norm2")
        + (experts?.rules(head, layers: routed, width: "hidden_size", intermediate: "intermediate_size") ?? []),
      dimensions: [
        "hidden_size": hidden, "3 · hidden_size": 3 * hidden, "intermediate_size": intermediate,
        "vocab_size": vocabulary, "type_vocab_size": types, "experts": experts?.count ?? 0,
      ], stacks: [.init(head: "encoder.layers.", layers: layers)], prefix: prefix)
  }

  func hiddenStates(_ body: inout BodyGraph) -> Graph.Source {
    let width = hidden / heads
    let attention = Op.Attention(
      heads: heads, keyValueHeads: heads, headWidth: width, scale: 1 / Double(width).squareRoot(), isCausal: false)
    let words = body.append(.embedding(), body.tensor("embeddings.word_embeddings.weight"), .input(.tokens))
    let type = body.append(.row(0), body.tensor("embeddings.token_type_embeddings.weight"))
    var x = body.norm(body.append(.add, words, type), "emb_ln", .layer, epsilon: epsilon)
    for layer in 0..<layers {
      let name = "encoder.layers.\(layer)."
      let mixed = body.rotated(x, [name + "attn.Wqkv"], rotation, attention)
      x = body.append(.add, body.linear(mixed, name + "attn.out_proj"), x)
      x = body.norm(x, name + "norm1", .layer, epsilon: epsilon)
      x = body.append(.add, middle(x, layer, &body), x)
      x = body.norm(x, name + "norm2", .layer, epsilon: epsilon)
    }
    return x
  }

  /// What a layer's MLP or its experts make of x.
  private func middle(_ x: Graph.Source, _ layer: Int, _ body: inout BodyGraph) -> Graph.Source {
    let name = "encoder.layers.\(layer).mlp."
    if let experts, experts.has(layer) {
      return experts.append(x, "encoder.layers.\(layer).", activation, &body)
    }
    guard isGated else {
      return body.linear(body.append(.activation(activation), body.linear(x, name + "fc1")), name + "fc2")
    }
    let gate = body.append(.activation(activation), body.linear(x, name + "fc12"))
    return body.linear(body.append(.multiply, gate, body.linear(x, name + "fc11")), name + "fc2")
  }
}
