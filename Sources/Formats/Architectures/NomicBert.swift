import Bytes
import Tensors

/// Nomic's BERT encoders (Nussbaum et al. 2024): post-norm, rotary positions, gated MLP, no biases. The configuration
/// has the authors' keys or transformers'; tensors have the authors' names in both.
struct NomicBert: TextFamily {
  static let types = ["nomic_bert"]
  static let pooling = Op.Pooling.mean

  let hidden, layers, heads, intermediate, vocabulary, types, longest: Int
  let epsilon: Double
  let activation: Op.Activation
  let rotation: Op.Rotation
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
    prefix = shapes.prefix(["", "nomic_bert.", "bert.", "model."], of: "embeddings.word_embeddings.weight")
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
    func linear(_ name: String, _ out: String, _ input: String) -> [Architecture.Rule] {
      Architecture.Rule.linear("encoder.layers.{layer}." + name, out, input, bias: false)
    }
    func norm(_ name: String) -> [Architecture.Rule] {
      Architecture.Rule.norm("encoder.layers.{layer}." + name, "hidden_size")
    }
    return Architecture(
      name: "nomic_bert",
      rules: [
        .init("embeddings.word_embeddings.weight", ["vocab_size", "hidden_size"]),
        .init(
          "embeddings.token_type_embeddings.weight", ["type_vocab_size", "hidden_size"], folded: .init(value: 0)),
        .init("pooler.dense.weight", nil, .unused), .init("pooler.dense.bias", nil, .unused),
      ] + Architecture.Rule.norm("emb_ln", "hidden_size")
        + linear("attn.Wqkv", "3 · hidden_size", "hidden_size") + linear("attn.out_proj", "hidden_size", "hidden_size")
        + norm("norm1") + linear("mlp.fc11", "intermediate_size", "hidden_size")
        + linear("mlp.fc12", "intermediate_size", "hidden_size") + linear("mlp.fc2", "hidden_size", "intermediate_size")
        + norm("norm2"),
      dimensions: [
        "hidden_size": hidden, "3 · hidden_size": 3 * hidden, "intermediate_size": intermediate,
        "vocab_size": vocabulary, "type_vocab_size": types,
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
      let parts = body.split(body.linear(x, name + "attn.Wqkv"), [hidden, hidden, hidden])
      let (q, k) = (
        body.append(.rope(rotation), parts[0], .input(.positions)),
        body.append(.rope(rotation), parts[1], .input(.positions))
      )
      let mixed = body.append(.attention(attention), q, k, parts[2], .input(.starts))
      x = body.append(.add, body.linear(mixed, name + "attn.out_proj"), x)
      x = body.norm(x, name + "norm1", .layer, epsilon: epsilon)
      let gate = body.append(.activation(activation), body.linear(x, name + "mlp.fc12"))
      let wide = body.append(.multiply, gate, body.linear(x, name + "mlp.fc11"))
      x = body.append(.add, body.linear(wide, name + "mlp.fc2"), x)
      x = body.norm(x, name + "norm2", .layer, epsilon: epsilon)
    }
    return x
  }
}
