import Bytes
import Tensors

/// ModernBERT encoders (Warner et al. 2024): pre-norm, rotary positions with two bases, gated MLP, and attention that
/// sees a window in two layers of three.
struct ModernBert: TextFamily {
  static let types = ["modernbert"]
  static let pooling = Op.Pooling.first

  let hidden, layers, heads, intermediate, vocabulary, positions, window: Int
  let epsilon: Double
  let activation: Op.Activation
  /// Which operations have biases.
  let biases: (attention: Bool, mlp: Bool, norms: Bool)
  /// Of each layer, whether it sees a window alone.
  let isLocal: [Bool]
  let rotations: (local: Op.Rotation, global: Op.Rotation)
  private let prefix: String

  var longest: Int { positions }
  var prefixes: (own: String, first: String) { (prefix, "") }

  init(_ config: JSON, _ shapes: Shapes, notes: inout [String]) throws(Failure) {
    hidden = try config.size("hidden_size")
    layers = try config.layers("num_hidden_layers")
    heads = try config.heads("num_attention_heads", of: hidden)
    guard hidden / heads % 2 == 0 else { throw config.failure("heads of an odd width cannot be turned") }
    intermediate = try config.size("intermediate_size")
    vocabulary = try config.size("vocab_size")
    epsilon = try config.epsilon("norm_eps", or: 1e-5)
    activation = try config.activation("hidden_activation", or: .gelu)
    func flag(_ key: String) throws(Failure) -> Bool { try config.optional(key)?.bool(key) ?? false }
    biases = (try flag("attention_bias"), try flag("mlp_bias"), try flag("norm_bias"))
    // Half of it to each side, and the token itself.
    window = try config.size("local_attention", or: 128) / 2 + 1
    let every = try config.size("global_attn_every_n_layers", or: 3)
    prefix = shapes.prefix(["", "model."], of: "embeddings.tok_embeddings.weight")
    let held = min(layers, Architecture.layersHeld(prefix + "layers.", shapes.tensors))
    isLocal = try config.layerTypes(held) ?? (0..<held).map { $0 % every != 0 }
    let width = hidden / heads
    let (global, limit) = try Op.Rotation.read(
      config, "full_attention", headWidth: width, theta: ("global_rope_theta", 160_000))
    let (local, _) = try Op.Rotation.read(
      config, "sliding_attention", headWidth: width, theta: ("local_rope_theta", 10_000))
    rotations = (local, global)
    positions = min(try config.size("max_position_embeddings", or: 8_192), limit ?? .max)
  }

  var architecture: Architecture {
    let layer = "layers.{layer}."
    func norm(_ name: String, into: String? = nil, firstLayer: Int = 0) -> [Architecture.Rule] {
      [
        .init(
          name + ".weight", ["hidden_size"], folded: into.map { .init(value: 1, into: $0) }, firstLayer: firstLayer)
      ] + (biases.norms ? [.init(name + ".bias", ["hidden_size"], firstLayer: firstLayer)] : [])
    }
    func linear(_ name: String, _ out: String, _ input: String) -> [Architecture.Rule] {
      Architecture.Rule.linear(layer + name, out, input, bias: name.hasPrefix("mlp.") ? biases.mlp : biases.attention)
    }
    return Architecture(
      name: "modernbert",
      rules: [.init("embeddings.tok_embeddings.weight", ["vocab_size", "hidden_size"])] + norm("embeddings.norm")
        // What the first layer would normalise is normalised already.
        + norm(layer + "attn_norm", into: layer + "attn.", firstLayer: 1)
        + linear("attn.Wqkv", "3 · hidden_size", "hidden_size")
        + linear("attn.Wo", "hidden_size", "hidden_size") + norm(layer + "mlp_norm", into: layer + "mlp.")
        + linear("mlp.Wi", "2 · intermediate_size", "hidden_size")
        + linear("mlp.Wo", "hidden_size", "intermediate_size") + norm("final_norm"),
      dimensions: [
        "hidden_size": hidden, "3 · hidden_size": 3 * hidden, "intermediate_size": intermediate,
        "2 · intermediate_size": 2 * intermediate, "vocab_size": vocabulary,
      ], stacks: [.init(head: "layers.", layers: layers)], prefix: prefix)
  }

  func hiddenStates(_ body: inout BodyGraph) -> Graph.Source {
    let width = hidden / heads
    let tokens = body.append(.embedding(), body.tensor("embeddings.tok_embeddings.weight"), .input(.tokens))
    var x = body.norm(tokens, "embeddings.norm", .layer, epsilon: epsilon)
    for (layer, isLocal) in isLocal.enumerated() {
      let name = "layers.\(layer)."
      let before = layer > 0 ? body.norm(x, name + "attn_norm", .layer, epsilon: epsilon) : x
      var attention = Op.Attention(
        heads: heads, keyValueHeads: heads, headWidth: width, scale: 1 / Double(width).squareRoot(), isCausal: false)
      if isLocal { attention.window = window }
      let rotation = isLocal ? rotations.local : rotations.global
      let mixed = body.rotated(before, [name + "attn.Wqkv"], rotation, attention)
      x = body.append(.add, x, body.linear(mixed, name + "attn.Wo"))
      let middle = body.norm(x, name + "mlp_norm", .layer, epsilon: epsilon)
      let narrow = body.gated(
        middle, wide: name + "mlp.Wi", narrow: name + "mlp.Wo", activation, isGateFirst: true, width: intermediate)
      x = body.append(.add, x, narrow)
    }
    return body.norm(x, "final_norm", .layer, epsilon: epsilon)
  }
}
