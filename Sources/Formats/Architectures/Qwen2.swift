import Bytes
import Tensors

/// Qwen2 and Qwen2.5 decoders: pre-norm, rotary positions, grouped key and value heads, gated MLP. Used as text
/// embedders and as the language model of the LLaVE family.
enum Qwen2 {
  /// `prefix` stands in front of `embed_tokens`, `layers` and `norm`; `head` is the name of the output projection.
  static func rules(_ prefix: String, head: String) -> [Architecture.Rule] {
    let layer = prefix + "layers.{layer}."
    return [
      .init(prefix + "embed_tokens.weight", ["vocab_size", "hidden_size"]),
      .init(prefix + "norm.weight", ["hidden_size"]),
      .init(head, nil, .dead),
      .init(
        layer + "input_layernorm.weight", ["hidden_size"], folded: .init(value: 1, into: layer + "self_attn.")),
      .init(
        layer + "post_attention_layernorm.weight", ["hidden_size"], folded: .init(value: 1, into: layer + "mlp.")),
      .init(layer + "self_attn.rotary_emb.inv_freq", nil, .dead),
    ]
      + Architecture.Rule.linear(layer + "self_attn.q_proj", "hidden_size", "hidden_size")
      + Architecture.Rule.linear(layer + "self_attn.k_proj", "key_value_size", "hidden_size")
      + Architecture.Rule.linear(layer + "self_attn.v_proj", "key_value_size", "hidden_size")
      + Architecture.Rule.linear(layer + "self_attn.o_proj", "hidden_size", "hidden_size", bias: false)
      + Architecture.Rule.linear(layer + "mlp.gate_proj", "intermediate_size", "hidden_size", bias: false)
      + Architecture.Rule.linear(layer + "mlp.up_proj", "intermediate_size", "hidden_size", bias: false)
      + Architecture.Rule.linear(layer + "mlp.down_proj", "hidden_size", "intermediate_size", bias: false)
  }

  /// Sizes from the tensors, which are never wrong about themselves; the rest from the configuration.
  struct Numbers {
    let hidden, layers, heads, keyValueHeads, intermediate, vocabulary, positions: Int
    let theta, epsilon: Double
    let isCausal: Bool

    /// - Parameters:
    ///   - config: the object that holds the language model's keys.
    ///   - isVocabularyTrusted: whether `vocab_size` is this model's own and must fit the table.
    init(
      _ config: JSON, _ prefix: String, _ shapes: Shapes, isVocabularyTrusted: Bool, notes: inout [String]
    ) throws(Failure) {
      let table = try shapes.matrix(prefix + "embed_tokens.weight")
      (vocabulary, hidden) = (table.rows, table.columns)
      let held = Architecture.layersHeld(prefix + "layers.", shapes.tensors)
      layers = try config.optional("num_hidden_layers")?.integer("num_hidden_layers", in: 1...Int(Int32.max)) ?? held
      let size = 1...(1 << 24)
      if let value = config.optional("hidden_size"), try value.integer("hidden_size", in: size) != hidden {
        throw value.failure("hidden_size is not the \(hidden) columns of the token table")
      }
      let known = Numbers.known(hidden, layers)
      if let value = config.optional("num_attention_heads") {
        heads = try value.integer("num_attention_heads", in: size)
        guard hidden % heads == 0, hidden / heads % 2 == 0 else {
          throw value.failure("num_attention_heads \(heads) must divide hidden_size \(hidden) into even widths")
        }
      } else if let known {
        heads = known
      } else {
        throw config.failure("the key \"num_attention_heads\" is missing")
      }
      let keys = try shapes.matrix(prefix + "layers.0.self_attn.k_proj.weight")
      let width = hidden / heads
      guard keys.rows % width == 0, keys.rows > 0, heads % (keys.rows / width) == 0 else {
        throw Failure(
          .malformed, "has \(keys.rows) rows; a number of heads of \(width) that divides \(heads) expected",
          thing: "tensor \(Failure.quoted(prefix + "layers.0.self_attn.k_proj.weight"))")
      }
      keyValueHeads = keys.rows / width
      if let value = config.optional("num_key_value_heads"),
        try value.integer("num_key_value_heads", in: size) != keyValueHeads
      {
        throw value.failure("num_key_value_heads is not the \(keyValueHeads) that k_proj holds")
      }
      intermediate = try shapes.matrix(prefix + "layers.0.mlp.gate_proj.weight").rows
      positions = try config.optional("max_position_embeddings")?.integer("max_position_embeddings", in: size) ?? 32_768
      theta = try Numbers.theta(config)
      epsilon = try config.optional("rms_norm_eps")?.double("rms_norm_eps") ?? 1e-6
      guard epsilon > 0, epsilon < 1 else { throw config.failure("rms_norm_eps must be above 0 and below 1") }
      isCausal = try config.optional("is_causal")?.bool("is_causal") ?? true
      try Numbers.refuseUnsupported(config)
      guard isVocabularyTrusted, let value = config.optional("vocab_size") else { return }
      let said = try value.integer("vocab_size", in: size)
      guard said <= vocabulary else {
        throw value.failure("vocab_size \(said), but the token table has \(vocabulary) rows")
      }
      if said < vocabulary { notes.append("the token table has \(vocabulary) rows for a vocabulary of \(said)") }
    }

    /// Heads of the published sizes (0.5B, 1.5B, 7B), for configurations that lost the key.
    private static func known(_ hidden: Int, _ layers: Int) -> Int? {
      [[896, 24, 14], [1536, 28, 12], [3584, 28, 28]].first { $0[0] == hidden && $0[1] == layers }?[2]
    }

    private static func theta(_ config: JSON) throws(Failure) -> Double {
      // transformers 5 moved it.
      let holder = config.optional("rope_parameters") ?? config
      guard let value = holder.optional("rope_theta") else { return 1e6 }
      let theta = try value.double("rope_theta")
      guard theta > 0, theta < 1e15 else { throw value.failure("rope_theta must be above 0") }
      return theta
    }

    private static func refuseUnsupported(_ config: JSON) throws(Failure) {
      for key in ["rope_scaling", "rope_parameters"] {
        guard let value = config.optional(key), let type = value.optional("rope_type") ?? value.optional("type"),
          try type.string("rope_type") != "default"
        else { continue }
        throw type.failure("\(key) of type \(Failure.quoted(try type.bytes())) is not supported", .unsupported)
      }
      if let value = config.optional("use_sliding_window"), try value.bool("use_sliding_window") {
        throw value.failure("use_sliding_window is not supported", .unsupported)
      }
      if let value = config.optional("hidden_act"), try value.string("hidden_act") != "silu" {
        throw value.failure("hidden_act \(Failure.quoted(try value.bytes())) is not supported; silu is", .unsupported)
      }
    }

    var dimensions: [String: Int] {
      [
        "hidden_size": hidden, "vocab_size": vocabulary, "key_value_size": hidden / heads * keyValueHeads,
        "intermediate_size": intermediate,
      ]
    }
  }

  /// Tokens (and features, where there are pictures) to one vector a sequence.
  static func graph(
    _ numbers: Numbers, _ prefix: String, hasFeatures: Bool, pooling: Op.Pooling, isNormalized: Bool
  ) -> Graph {
    var graph = Graph()
    let width = numbers.hidden / numbers.heads
    let attention = Op.Attention(
      heads: numbers.heads, keyValueHeads: numbers.keyValueHeads, headWidth: width,
      scale: 1 / Double(width).squareRoot(), isCausal: numbers.isCausal)
    func tensor(_ name: String) -> Graph.Source { .tensor(TensorName(prefix + name)) }
    func norm(_ x: Graph.Source, _ name: String) -> Graph.Source {
      graph.append(.norm(.rms, epsilon: numbers.epsilon), x, tensor(name + ".weight"))
    }
    func linear(_ x: Graph.Source, _ name: String, bias: Bool = false) -> Graph.Source {
      graph.append(
        Graph.Node(.linear(.float), [x, tensor(name + ".weight")] + (bias ? [tensor(name + ".bias")] : [])))
    }
    func turned(_ x: Graph.Source) -> Graph.Source {
      graph.append(.rope(.init(theta: numbers.theta, headWidth: width)), x, .input(.positions))
    }
    var x = graph.append(
      Graph.Node(
        .embedding(), [tensor("embed_tokens.weight"), .input(.tokens)] + (hasFeatures ? [.input(.features)] : [])))
    for layer in 0..<numbers.layers {
      let name = "layers.\(layer)."
      let before = norm(x, name + "input_layernorm")
      let q = turned(linear(before, name + "self_attn.q_proj", bias: true))
      let k = turned(linear(before, name + "self_attn.k_proj", bias: true))
      let v = linear(before, name + "self_attn.v_proj", bias: true)
      let mixed = graph.append(.attention(attention), q, k, v, .input(.starts))
      x = graph.append(.add, x, linear(mixed, name + "self_attn.o_proj"))
      let middle = norm(x, name + "post_attention_layernorm")
      let gate = graph.append(.activation(.silu), linear(middle, name + "mlp.gate_proj"))
      let wide = graph.append(.multiply, gate, linear(middle, name + "mlp.up_proj"))
      x = graph.append(.add, x, linear(wide, name + "mlp.down_proj"))
    }
    let pooled = graph.append(.pool(pooling), norm(x, "norm"), .input(.starts))
    if isNormalized { graph.append(.normalize, pooled) }
    return graph
  }

  static func architecture(_ numbers: Numbers, prefix: String) -> Architecture {
    Architecture(
      name: "qwen2", rules: rules(prefix, head: "lm_head.weight"), dimensions: numbers.dimensions,
      stacks: [.init(head: prefix + "layers.", layers: numbers.layers)], prefix: "")
  }

  /// What stands in front of every name.
  static func prefix(_ shapes: Shapes) -> String { shapes.has("model.embed_tokens.weight") ? "model." : "" }

  /// A plain text embedder, with sentence-transformers' pooling; last token where the checkpoint does not say.
  static func model(
    _ checkpoint: Checkpoint, config: JSON, recipe: SentenceRecipe, notes: inout [String]
  ) throws(Failure) -> Model {
    let shapes = Shapes(checkpoint.tensors)
    let prefix = prefix(shapes)
    let numbers = try Numbers(config, prefix, shapes, isVocabularyTrusted: true, notes: &notes)
    let match = try architecture(numbers, prefix: prefix).match(checkpoint.tensors, notes: &notes)
    var model = Model(
      configuration: Configuration(
        architecture: "qwen2", width: numbers.hidden, vocabulary: numbers.vocabulary,
        maximumTokens: min(recipe.maximumTokens ?? numbers.positions, numbers.positions)))
    model.configuration.prompts = recipe.prompts
    model.configuration.defaultPrompt = recipe.defaultPrompt
    for tensor in checkpoint.tensors where !match.dead.contains(tensor.name) { model.set(tensor) }
    model.graphs = [
      (
        "text",
        graph(
          numbers, prefix, hasFeatures: false, pooling: recipe.pooling, isNormalized: recipe.isNormalized)
      )
    ]
    return model
  }
}

/// Shapes of a checkpoint's tensors by name.
struct Shapes {
  let tensors: [Tensor]
  private let shapes: [TensorName: [Int]]

  init(_ tensors: [Tensor]) {
    self.tensors = tensors
    shapes = Dictionary(tensors.map { ($0.name, $0.shape) }) { first, _ in first }
  }

  func has(_ name: String) -> Bool { shapes[TensorName(name)] != nil }

  func shape(_ name: String) throws(Failure) -> [Int] {
    guard let shape = shapes[TensorName(name)] else {
      throw Failure(.malformed, "is missing", thing: "tensor \(Failure.quoted(name))")
    }
    return shape
  }

  func matrix(_ name: String) throws(Failure) -> (rows: Int, columns: Int) {
    let shape = try shape(name)
    guard shape.count == 2, shape.allSatisfy({ $0 > 0 }) else {
      throw Failure(.malformed, "has shape \(shape), a matrix expected", thing: "tensor \(Failure.quoted(name))")
    }
    return (shape[0], shape[1])
  }
}
