import Bytes
import Tensors

/// Nomic's BERT encoders (Nussbaum et al. 2024): post-norm, rotary positions, gated MLP, no biases. Their own layout
/// joins the three projections of attention; transformers' has them apart.
struct NomicBert: TextFamily {
  static let types = ["nomic_bert"]
  static let pooling = Op.Pooling.mean

  let hidden, layers, heads, intermediate, vocabulary, types, longest: Int
  let epsilon: Double
  let activation: Op.Activation
  let rotation: Op.Rotation
  private let prefix: String
  private let names: Names

  var prefixes: (own: String, first: String) { (prefix, "") }

  /// What a layout calls the parts of a layer.
  private struct Names {
    let table, types, tableNorm, layers, output, up, gate, down, attentionNorm, mlpNorm: String
    /// One for all three where they are joined.
    let projections: [String]

    static let own = Names(
      table: "embeddings.word_embeddings", types: "embeddings.token_type_embeddings", tableNorm: "emb_ln",
      layers: "encoder.layers.", output: "attn.out_proj", up: "mlp.fc11", gate: "mlp.fc12", down: "mlp.fc2",
      attentionNorm: "norm1", mlpNorm: "norm2", projections: ["attn.Wqkv"])
    static let transformers = Names(
      table: "embeddings.word_embeddings", types: "embeddings.token_type_embeddings",
      tableNorm: "embeddings.LayerNorm", layers: "layers.", output: "self_attn.o_proj", up: "mlp.up_proj",
      gate: "mlp.gate_proj", down: "mlp.down_proj", attentionNorm: "post_attention_layernorm",
      mlpNorm: "post_mlp_layernorm",
      projections: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"])
  }

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
    activation =
      config.optional("activation_function") == nil
      ? try config.activation("hidden_act", or: .silu) : try NomicBert.gate(config)
    let (rotation, limit) = try Op.Rotation.read(
      config, headWidth: width, theta: (config["rotary_emb_base"] == nil ? "rope_theta" : "rotary_emb_base", 1_000))
    self.rotation = rotation
    let positions = try config.size("max_position_embeddings", "n_positions", or: 2_048)
    // Beyond the trained length frequencies would change with the input's.
    let trained =
      config.optional("rotary_scaling_factor") == nil ? Int.max : try config.size("max_trained_positions", or: 2_048)
    longest = min(positions, trained, limit ?? .max)
    prefix = shapes.prefix(["", "nomic_bert.", "bert.", "model."], of: Names.own.table + ".weight")
    names = shapes.has(prefix + Names.own.layers + "0." + Names.own.output + ".weight") ? .own : .transformers
  }

  /// What the original configuration calls the gate's activation.
  private static func gate(_ config: JSON) throws(Failure) -> Op.Activation {
    let value = try config.required("activation_function")
    switch try value.string("activation_function") {
    case "swiglu": return .silu
    case "geglu": return .gelu
    case let other:
      throw value.failure(
        "activation_function \(Failure.quoted(other)) is not supported; swiglu and geglu are", .unsupported)
    }
  }

  private static func refuseUnsupported(_ config: JSON) throws(Failure) {
    if let value = config.optional("num_experts"), try value.integer("num_experts", in: 0...(1 << 20)) > 0 {
      throw value.failure("a mixture of experts (num_experts) is not supported", .unsupported)
    }
    if let value = config.optional("rotary_emb_fraction"), try value.double("rotary_emb_fraction") != 1 {
      throw value.failure("rotary_emb_fraction must be 1", .unsupported)
    }
    try config.require("prenorm", false)
    try config.require("rotary_emb_interleaved", false)
    try config.require("use_rms_norm", false)
  }

  var architecture: Architecture {
    let layer = names.layers + "{layer}."
    func linear(_ name: String, _ out: String, _ input: String) -> [Architecture.Rule] {
      Architecture.Rule.linear(layer + name, out, input, bias: false)
    }
    let out = names.projections.count == 1 ? "3 · hidden_size" : "hidden_size"
    return Architecture(
      name: "nomic_bert",
      rules: [
        .init(names.table + ".weight", ["vocab_size", "hidden_size"]),
        .init(names.types + ".weight", ["type_vocab_size", "hidden_size"], folded: .init(value: 0)),
        .init("pooler.dense.weight", nil, .unused), .init("pooler.dense.bias", nil, .unused),
      ] + Architecture.Rule.norm(names.tableNorm, "hidden_size")
        + names.projections.flatMap { linear($0, out, "hidden_size") }
        + linear(names.output, "hidden_size", "hidden_size")
        + Architecture.Rule.norm(layer + names.attentionNorm, "hidden_size")
        + linear(names.up, "intermediate_size", "hidden_size") + linear(names.gate, "intermediate_size", "hidden_size")
        + linear(names.down, "hidden_size", "intermediate_size")
        + Architecture.Rule.norm(layer + names.mlpNorm, "hidden_size"),
      dimensions: [
        "hidden_size": hidden, "3 · hidden_size": 3 * hidden, "intermediate_size": intermediate,
        "vocab_size": vocabulary, "type_vocab_size": types,
      ], stacks: [.init(head: names.layers, layers: layers)], prefix: prefix)
  }

  func hiddenStates(_ body: inout BodyGraph) -> Graph.Source {
    let width = hidden / heads
    let attention = Op.Attention(
      heads: heads, keyValueHeads: heads, headWidth: width, scale: 1 / Double(width).squareRoot(), isCausal: false)
    let words = body.append(.embedding(), body.tensor(names.table + ".weight"), .input(.tokens))
    let type = body.append(.row(0), body.tensor(names.types + ".weight"))
    var x = body.norm(body.append(.add, words, type), names.tableNorm, .layer, epsilon: epsilon)
    for layer in 0..<layers {
      let name = "\(names.layers)\(layer)."
      let joined = names.projections.map { body.linear(x, name + $0) }
      let parts = joined.count == 1 ? body.split(joined[0], [hidden, hidden, hidden]) : joined
      let (q, k) = (
        body.append(.rope(rotation), parts[0], .input(.positions)),
        body.append(.rope(rotation), parts[1], .input(.positions))
      )
      let mixed = body.append(.attention(attention), q, k, parts[2], .input(.starts))
      x = body.append(.add, body.linear(mixed, name + names.output), x)
      x = body.norm(x, name + names.attentionNorm, .layer, epsilon: epsilon)
      let gate = body.append(.activation(activation), body.linear(x, name + names.gate))
      let wide = body.append(.multiply, gate, body.linear(x, name + names.up))
      x = body.append(.add, body.linear(wide, name + names.down), x)
      x = body.norm(x, name + names.mlpNorm, .layer, epsilon: epsilon)
    }
    return x
  }
}
