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
  /// Experts of a layer, how many of them a token goes through, and the layers that have them.
  let experts: (count: Int, top: Int, every: Int, layers: [Int])?
  let hasBiases: (attention: Bool, mlp: Bool)
  private let prefix: String

  var prefixes: (own: String, first: String) { (prefix, "") }

  init(_ config: JSON, _ shapes: Shapes, notes: inout [String]) throws(Failure) {
    hidden = try config.size("hidden_size", "n_embd")
    let said = try config.layers("num_hidden_layers", "n_layer")
    layers = said
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
    let held = min(said, Architecture.layersHeld(prefix + "encoder.layers.", shapes.tensors))
    experts = try NomicBert.expertCount(config).map { (count) throws(Failure) in
      let every = try config.size("moe_every_n_layers", or: 2)
      let top = try config.size("moe_top_k", or: 1)
      guard top <= count else { throw config.failure("moe_top_k \(top) of \(count) experts") }
      return (count, top, every, (0..<held).filter { $0 % every == 1 })
    }
  }

  private static let prefixes = ["", "nomic_bert.", "bert.", "model."]

  /// nil for a model without experts.
  private static func expertCount(_ config: JSON) throws(Failure) -> Int? {
    guard let value = config.optional("num_experts"), config.optional("moe_every_n_layers") != nil else { return nil }
    let count = try value.integer("num_experts", in: 0...256)
    return count == 0 ? nil : count
  }

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
    for key in [
      "prenorm", "rotary_emb_interleaved", "use_rms_norm", "moe_normalize_expert_weights", "expert_choice_router",
    ] { try config.require(key, false) }
    if let value = config.optional("num_shared_experts"), try value.integer("num_shared_experts", in: 0...256) > 0 {
      throw value.failure("experts that all tokens share are not supported", .unsupported)
    }
  }

  // MARK: Experts

  static func apart(_ tensors: [Tensor], _ config: JSON) throws(Failure) -> [Tensor] {
    guard let count = try expertCount(config) else { return tensors }
    let prefix = Shapes(tensors).prefix(prefixes, of: "embeddings.word_embeddings.weight")
    return try ExpertWeights(count: count, head: prefix + "encoder.layers.").apart(tensors)
  }

  func together(_ tensors: [Tensor], forGGUF: Bool) throws(Failure) -> [Tensor] {
    guard let experts else { return tensors }
    // Names for GGUF are those of the first layout.
    return try ExpertWeights(count: experts.count, head: (forGGUF ? "" : prefix) + "encoder.layers.").together(
      tensors, layers: experts.layers, forGGUF: forGGUF)
  }

  // MARK: Names and graph

  var architecture: Architecture {
    let (routed, head) = (Set(experts?.layers ?? []), "encoder.layers.{layer}.")
    func linear(_ name: String, _ out: String, _ input: String, bias: Bool, in layers: Set<Int>? = nil) -> [Architecture
      .Rule]
    {
      Architecture.Rule.linear(head + name, out, input, bias: bias).map { $0.only(in: layers) }
    }
    func norm(_ name: String) -> [Architecture.Rule] { Architecture.Rule.norm(name, "hidden_size") }
    let plain = experts == nil ? nil : Set(0..<layers).subtracting(routed)
    let wide = isGated ? ["mlp.fc11", "mlp.fc12"] : ["mlp.fc1"]
    let own = (0..<(experts?.count ?? 0)).flatMap { expert in
      linear(
        ExpertWeights.name(ExpertWeights.widening, expert), "intermediate_size", "hidden_size", bias: false, in: routed)
        + linear(
          ExpertWeights.name(ExpertWeights.narrowing, expert), "hidden_size", "intermediate_size", bias: false,
          in: routed)
    }
    let shared = Architecture.Rule(
      head + "mlp.experts.bias", ["hidden_size"], .optional, folded: .init(value: 0)
    ).only(in: routed)
    return Architecture(
      name: "nomic_bert",
      rules: [
        .init("embeddings.word_embeddings.weight", ["vocab_size", "hidden_size"]),
        .init(
          "embeddings.token_type_embeddings.weight", ["type_vocab_size", "hidden_size"], folded: .init(value: 0)),
        .init("pooler.dense.weight", nil, .unused), .init("pooler.dense.bias", nil, .unused),
      ] + norm("emb_ln") + linear("attn.Wqkv", "3 · hidden_size", "hidden_size", bias: hasBiases.attention)
        + linear("attn.out_proj", "hidden_size", "hidden_size", bias: hasBiases.attention) + norm(head + "norm1")
        + wide.flatMap { linear($0, "intermediate_size", "hidden_size", bias: hasBiases.mlp, in: plain) }
        + linear("mlp.fc2", "hidden_size", "intermediate_size", bias: hasBiases.mlp, in: plain)
        + (experts == nil
          ? [] : linear("mlp.router.layer", "experts", "hidden_size", bias: false, in: routed) + [shared])
        + own + norm(head + "norm2"),
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
    guard let experts, experts.layers.contains(layer) else {
      guard isGated else {
        return body.linear(body.append(.activation(activation), body.linear(x, name + "fc1")), name + "fc2")
      }
      let gate = body.append(.activation(activation), body.linear(x, name + "fc12"))
      return body.linear(body.append(.multiply, gate, body.linear(x, name + "fc11")), name + "fc2")
    }
    let shares = body.append(.route(top: experts.top), body.linear(x, name + "router.layer"))
    let stem = "encoder.layers.\(layer)."
    let made = (0..<experts.count).map { expert in
      let rows = body.append(.routed(expert: expert), x, shares)
      let wide = body.linear(rows, stem + ExpertWeights.name(ExpertWeights.widening, expert))
      return body.linear(
        body.append(.activation(activation), wide), stem + ExpertWeights.name(ExpertWeights.narrowing, expert))
    }
    let mixed = body.append(.mix, [shares] + made)
    return body.has(name + "experts.bias") ? body.append(.add, mixed, body.tensor(name + "experts.bias")) : mixed
  }
}
