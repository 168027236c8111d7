import Bytes
import Tensors

/// Jina's second BERT encoders (Günther et al. 2023): BERT with slopes in the place of positions and a gated MLP. They
/// call themselves `bert`. The later layout (code, de, es) has norms of queries and keys, one more norm after
/// attention, and the gate in the second half of what the MLP widens.
struct JinaBert: TextFamily {
  static let types = ["jina_bert"]
  static let pooling = Op.Pooling.mean

  let sizes: EncoderSizes
  let types: Int
  let activation: Op.Activation
  /// Whether it has the later layout's names.
  let isLater: Bool
  /// Whether queries and keys are normalised, and what comes after attention once more.
  let hasHeadNorms, hasSecondNorm: Bool
  /// Whether what widens in the MLP has the gate in its first half.
  let isGateFirst: Bool
  private let prefix: String

  var hidden: Int { sizes.hidden }
  var vocabulary: Int { sizes.vocabulary }
  var longest: Int { sizes.positions }
  var prefixes: (own: String, first: String) { (prefix, "") }

  static func isNamed(_ type: String, _ config: JSON) throws(Failure) -> Bool {
    guard type == "bert" || types.contains(type) else { return false }
    return try config.optional("position_embedding_type")?.string("position_embedding_type") == "alibi"
  }

  init(_ config: JSON, _ shapes: Shapes, notes: inout [String]) throws(Failure) {
    sizes = try EncoderSizes(config)
    types = try config.size("type_vocab_size", or: 2)
    activation = try JinaBert.activation(config) ?? sizes.activation
    prefix = shapes.prefix(["", "bert.", "model."], of: "embeddings.word_embeddings.weight")
    let layer = prefix + "encoder.layer.0."
    isLater = shapes.has(layer + "mlp.up_gated_layer.weight")
    hasHeadNorms = shapes.has(layer + "attention.self.layer_norm_q.weight")
    hasSecondNorm = shapes.has(layer + "layer_norm_1.weight")
    // Files of GGUF say it.
    isGateFirst = try config.optional("gate_is_first")?.bool("gate_is_first") ?? !isLater
  }

  private static func activation(_ config: JSON) throws(Failure) -> Op.Activation? {
    guard let value = config.optional("feed_forward_type") else { return nil }
    switch try value.string("feed_forward_type") {
    case "geglu": return .gelu
    case "reglu": return .relu
    case let other:
      throw value.failure(
        "feed_forward_type \(Failure.quoted(other)) is not supported; geglu and reglu are", .unsupported)
    }
  }

  /// Where a layer keeps what widens, what narrows, and the last norm.
  private var names: (wide: String, narrow: String, norm: String) {
    isLater ? ("mlp.up_gated_layer", "mlp.down_layer", "layer_norm_2") : ("mlp.gated_layers", "mlp.wo", "mlp.layernorm")
  }

  var architecture: Architecture {
    let layer = "encoder.layer.{layer}."
    func norm(_ name: String, where isThere: Bool = true) -> [Architecture.Rule] {
      isThere ? Architecture.Rule.norm(name, "hidden_size") : []
    }
    let projections = ["self.query", "self.key", "self.value", "output.dense"].flatMap {
      Architecture.Rule.linear(layer + "attention." + $0, "hidden_size", "hidden_size")
    }
    return Architecture(
      name: "jina_bert",
      rules: [
        .init("embeddings.word_embeddings.weight", ["vocab_size", "hidden_size"]),
        .init(
          "embeddings.token_type_embeddings.weight", ["type_vocab_size", "hidden_size"], folded: .init(value: 0)),
        .init("pooler.dense.weight", nil, .unused), .init("pooler.dense.bias", nil, .unused),
      ] + norm("embeddings.LayerNorm") + projections
        + norm(layer + "attention.self.layer_norm_q", where: hasHeadNorms)
        + norm(layer + "attention.self.layer_norm_k", where: hasHeadNorms)
        + norm(layer + "attention.output.LayerNorm") + norm(layer + "layer_norm_1", where: hasSecondNorm)
        + Architecture.Rule.linear(layer + names.wide, "2 · intermediate_size", "hidden_size", bias: false)
        + Architecture.Rule.linear(layer + names.narrow, "hidden_size", "intermediate_size") + norm(layer + names.norm),
      dimensions: sizes.dimensions.merging(
        ["type_vocab_size": types, "2 · intermediate_size": 2 * sizes.intermediate]) { $1 },
      stacks: [.init(head: "encoder.layer.", layers: sizes.layers)], prefix: prefix)
  }

  func hiddenStates(_ body: inout BodyGraph) -> Graph.Source {
    let epsilon = sizes.epsilon
    var attention = sizes.attention
    attention.hasSlopes = true
    let words = body.append(.embedding(), body.tensor("embeddings.word_embeddings.weight"), .input(.tokens))
    let type = body.append(.row(0), body.tensor("embeddings.token_type_embeddings.weight"))
    var x = body.norm(body.append(.add, words, type), "embeddings.LayerNorm", .layer, epsilon: epsilon)
    for layer in 0..<sizes.layers {
      let name = "encoder.layer.\(layer)."
      let own = name + "attention.self."
      var (q, k) = (body.linear(x, own + "query"), body.linear(x, own + "key"))
      if hasHeadNorms {
        q = body.norm(q, own + "layer_norm_q", .layer, epsilon: epsilon)
        k = body.norm(k, own + "layer_norm_k", .layer, epsilon: epsilon)
      }
      let mixed = body.append(.attention(attention), q, k, body.linear(x, own + "value"), .input(.starts))
      let added = body.append(.add, body.linear(mixed, name + "attention.output.dense"), x)
      var middle = body.norm(added, name + "attention.output.LayerNorm", .layer, epsilon: epsilon)
      if hasSecondNorm {
        middle = body.norm(body.append(.add, middle, x), name + "layer_norm_1", .layer, epsilon: epsilon)
      }
      let narrow = body.gated(
        middle, wide: name + names.wide, narrow: name + names.narrow, activation, isGateFirst: isGateFirst,
        width: sizes.intermediate)
      x = body.norm(body.append(.add, narrow, middle), name + names.norm, .layer, epsilon: epsilon)
    }
    return x
  }
}
