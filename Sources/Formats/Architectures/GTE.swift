import Bytes
import Glibc
import Tensors

/// The encoders of gte-multilingual and gte-en v1.5 (`new`, Zhang et al. 2024) and of arctic-embed-m v2 (`gte`):
/// post-norm, rotary positions, gated MLP. transformers has no class for them; they come with code of their own.
struct GTE: TextFamily {
  static let types = ["new", "gte"]
  static let pooling = Op.Pooling.first

  let sizes: EncoderSizes
  let types: Int
  let rotation: Op.Rotation
  let norm: Op.Norm
  /// Whether queries, keys and values have one weight.
  let isPacked: Bool
  private let prefix: String

  var hidden: Int { sizes.hidden }
  var vocabulary: Int { sizes.vocabulary }
  var longest: Int { sizes.positions }
  var prefixes: (own: String, first: String) { (prefix, "") }

  init(_ config: JSON, _ shapes: Shapes, notes: inout [String]) throws(Failure) {
    sizes = try EncoderSizes(config)
    types = try config.optional("type_vocab_size")?.integer("type_vocab_size", in: 0...(1 << 24)) ?? 0
    if let value = config.optional("position_embedding_type"), try value.string() != "rope" {
      throw value.failure(
        "position_embedding_type \(Failure.quoted(try value.string())) is not read; rope is", .unsupported)
    }
    try config.require("logn_attention_scale", false)
    switch try config.optional("layer_norm_type")?.string("layer_norm_type") ?? "layer_norm" {
    case "layer_norm": norm = .layer
    case "rms_norm": norm = .rms
    case let other:
      throw config.failure("layer_norm_type \(Failure.quoted(other)) is not supported", .unsupported)
    }
    rotation = try GTE.rotation(config, sizes)
    prefix = shapes.prefix(["", "new.", "model."], of: "embeddings.word_embeddings.weight")
    isPacked = !shapes.has(prefix + "encoder.layer.0.attention.q_proj.weight")
  }

  /// Scaling `ntk` is a larger base with frequencies a little slower, whatever the length of a text.
  private static func rotation(_ config: JSON, _ sizes: EncoderSizes) throws(Failure) -> Op.Rotation {
    let width = sizes.hidden / sizes.heads
    guard width % 2 == 0 else { throw config.failure("heads of an odd width cannot be turned") }
    guard let scaling = config.optional("rope_scaling") else {
      return try Op.Rotation.read(config, headWidth: width, theta: ("rope_theta", 10_000)).rotation
    }
    let type = try scaling.required("type")
    guard try type.string("type") == "ntk", scaling.optional("mixed_b") == nil else {
      throw type.failure("rotations scaled other than by ntk are not supported", .unsupported)
    }
    let factor = try scaling.required("factor").double("factor")
    let theta = try config.required("rope_theta").double("rope_theta")
    guard factor >= 1, factor < 1e6, theta > 1, theta < 1e9 else { throw scaling.failure("factor must be 1 or above") }
    return Op.Rotation(
      theta: theta * factor, headWidth: width, scaling: .linear(factor: pow(factor, 2 / Double(width))))
  }

  private var projections: [String] { isPacked ? ["qkv_proj"] : ["q_proj", "k_proj", "v_proj"] }

  var architecture: Architecture {
    let layer = "encoder.layer.{layer}."
    func norm(_ name: String) -> [Architecture.Rule] {
      self.norm == .layer ? Architecture.Rule.norm(name, "hidden_size") : [.init(name + ".weight", ["hidden_size"])]
    }
    let table = Architecture.Rule(
      "embeddings.token_type_embeddings.weight", ["type_vocab_size", "hidden_size"], folded: .init(value: 0))
    return Architecture(
      name: "gte",
      rules: [.init("embeddings.word_embeddings.weight", ["vocab_size", "hidden_size"])] + (types > 0 ? [table] : [])
        + norm("embeddings.LayerNorm")
        + ["pooler.dense.weight", "pooler.dense.bias", "classifier.weight", "classifier.bias"].map {
          .init($0, nil, .unused)
        }
        + projections.flatMap {
          Architecture.Rule.linear(
            layer + "attention." + $0, isPacked ? "3 · hidden_size" : "hidden_size", "hidden_size")
        } + Architecture.Rule.linear(layer + "attention.o_proj", "hidden_size", "hidden_size") + norm(layer + "attn_ln")
        + Architecture.Rule.linear(layer + "mlp.up_gate_proj", "2 · intermediate_size", "hidden_size", bias: false)
        + Architecture.Rule.linear(layer + "mlp.down_proj", "hidden_size", "intermediate_size")
        + norm(layer + "mlp_ln"),
      dimensions: sizes.dimensions.merging([
        "type_vocab_size": types, "3 · hidden_size": 3 * hidden, "2 · intermediate_size": 2 * sizes.intermediate,
      ]) { $1 },
      stacks: [.init(head: "encoder.layer.", layers: sizes.layers)], prefix: prefix)
  }

  func hiddenStates(_ body: inout BodyGraph) -> Graph.Source {
    var x = body.append(.embedding(), body.tensor("embeddings.word_embeddings.weight"), .input(.tokens))
    if types > 0 {
      x = body.append(.add, x, body.append(.row(0), body.tensor("embeddings.token_type_embeddings.weight")))
    }
    x = body.norm(x, "embeddings.LayerNorm", norm, epsilon: sizes.epsilon)
    for layer in 0..<sizes.layers {
      let name = "encoder.layer.\(layer)."
      let mixed = body.rotated(x, projections.map { name + "attention." + $0 }, rotation, sizes.attention)
      let added = body.append(.add, body.linear(mixed, name + "attention.o_proj"), x)
      let middle = body.norm(added, name + "attn_ln", norm, epsilon: sizes.epsilon)
      let narrow = body.gated(
        middle, wide: name + "mlp.up_gate_proj", narrow: name + "mlp.down_proj", sizes.activation, isGateFirst: false,
        width: sizes.intermediate)
      x = body.norm(body.append(.add, narrow, middle), name + "mlp_ln", norm, epsilon: sizes.epsilon)
    }
    return x
  }
}
