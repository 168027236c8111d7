import Bytes
import Tensors

/// BERT encoders (Devlin et al. 2018) as transformers writes them: post-norm, learned positions, absolute.
enum Bert {
  private static let rules: [Architecture.Rule] =
    [
      .init("embeddings.word_embeddings.weight", ["vocab_size", "hidden_size"]),
      .init("embeddings.position_embeddings.weight", ["max_position_embeddings", "hidden_size"]),
      .init("embeddings.token_type_embeddings.weight", ["type_vocab_size", "hidden_size"], folded: .init(value: 0)),
      .init("embeddings.LayerNorm.weight", ["hidden_size"], alias: "embeddings.LayerNorm.gamma"),
      .init("embeddings.LayerNorm.bias", ["hidden_size"], alias: "embeddings.LayerNorm.beta"),
      .init("embeddings.position_ids", nil, .unused),
      .init("embeddings.token_type_ids", nil, .unused),
      .init("pooler.dense.weight", nil, .unused),
      .init("pooler.dense.bias", nil, .unused),
    ]
    + linear("attention.self.query", "hidden_size", "hidden_size")
    + linear("attention.self.key", "hidden_size", "hidden_size")
    + linear("attention.self.value", "hidden_size", "hidden_size")
    + linear("attention.output.dense", "hidden_size", "hidden_size")
    + norm("attention.output.LayerNorm")
    + linear("intermediate.dense", "intermediate_size", "hidden_size")
    + linear("output.dense", "hidden_size", "intermediate_size")
    + norm("output.LayerNorm")

  private static func linear(_ name: String, _ out: String, _ input: String) -> [Architecture.Rule] {
    Architecture.Rule.linear("encoder.layer.{layer}.\(name)", out, input)
  }

  private static func norm(_ name: String) -> [Architecture.Rule] {
    [("weight", "gamma"), ("bias", "beta")].map {
      .init("encoder.layer.{layer}.\(name).\($0)", ["hidden_size"], alias: "encoder.layer.{layer}.\(name).\($1)")
    }
  }

  struct Numbers {
    let hidden, layers, heads, intermediate, vocabulary, positions, types: Int
    let epsilon: Double
    let activation: Op.Activation

    init(_ config: JSON) throws(Failure) {
      let size = 1...(1 << 24)
      hidden = try config.required("hidden_size").integer("hidden_size", in: size)
      layers = try config.required("num_hidden_layers").integer("num_hidden_layers", in: 1...Int(Int32.max))
      let headsValue = try config.required("num_attention_heads")
      heads = try headsValue.integer("num_attention_heads", in: size)
      guard hidden % heads == 0 else {
        throw headsValue.failure("num_attention_heads \(heads) must divide hidden_size \(hidden)")
      }
      intermediate = try config.required("intermediate_size").integer("intermediate_size", in: size)
      vocabulary = try config.required("vocab_size").integer("vocab_size", in: size)
      positions = try config.required("max_position_embeddings").integer("max_position_embeddings", in: size)
      types = try config.optional("type_vocab_size")?.integer("type_vocab_size", in: size) ?? 2
      if let value = config["layer_norm_eps"] {
        epsilon = try value.double("layer_norm_eps")
        guard epsilon > 0, epsilon < 1 else { throw value.failure("layer_norm_eps must be above 0 and below 1") }
      } else {
        epsilon = 1e-12
      }
      activation = try Bert.activation(config)
      if let kind = config.optional("position_embedding_type"), try kind.string() != "absolute" {
        throw kind.failure(
          "position_embedding_type \(Failure.quoted(try kind.string())) is not read; only absolute", .unsupported)
      }
      if let isDecoder = config.optional("is_decoder"), try isDecoder.bool("is_decoder") {
        throw isDecoder.failure("a BERT decoder is not read; only encoders", .unsupported)
      }
    }
  }

  private static func activation(_ config: JSON) throws(Failure) -> Op.Activation {
    guard let value = config.optional("hidden_act") else { return .gelu }
    let name = try value.string("hidden_act")
    let known: [String: Op.Activation] = [
      "gelu": .gelu, "gelu_new": .geluTanh, "gelu_pytorch_tanh": .geluTanh, "relu": .relu, "silu": .silu,
      "swish": .silu,
    ]
    guard let activation = known[name] else {
      throw value.failure(
        "hidden_act \(Failure.quoted(name)) is not one of \(known.keys.sorted().joined(separator: ", "))", .unsupported)
    }
    return activation
  }

  /// What stands in front of every name.
  static func prefix(_ tensors: [Tensor]) -> String {
    ["", "bert.", "model."].first { prefix in tensors.contains { $0.name == TensorName(prefix + rules[0].pattern) } }
      ?? ""
  }

  static func architecture(_ numbers: Numbers, prefix: String) -> Architecture {
    Architecture(
      name: "bert", rules: rules,
      dimensions: [
        "hidden_size": numbers.hidden, "intermediate_size": numbers.intermediate, "vocab_size": numbers.vocabulary,
        "max_position_embeddings": numbers.positions, "type_vocab_size": numbers.types,
      ], stacks: [.init(head: "encoder.layer.", layers: numbers.layers)], prefix: prefix)
  }

  /// The model: the checkpoint's tensors as they are, and the graph over them.
  static func model(_ checkpoint: Checkpoint, config: JSON, recipe: SentenceRecipe, notes: inout [String])
    throws(Failure) -> Model
  {
    let numbers = try Numbers(config)
    let architecture = architecture(numbers, prefix: prefix(checkpoint.tensors))
    let tensors = try architecture.match(checkpoint.tensors, notes: &notes).tensors
    var model = Model(
      configuration: Configuration(
        architecture: "bert", width: numbers.hidden, vocabulary: numbers.vocabulary,
        maximumTokens: min(recipe.maximumTokens ?? numbers.positions, numbers.positions)))
    model.configuration.prompts = recipe.prompts
    model.configuration.defaultPrompt = recipe.defaultPrompt
    for tensor in checkpoint.tensors { model.set(tensor) }
    model.graphs = [("text", graph(numbers, recipe) { .tensor(tensors[$0]?.name ?? TensorName($0)) })]
    return model
  }

  private static func graph(_ numbers: Numbers, _ recipe: SentenceRecipe, _ tensor: (String) -> Graph.Source) -> Graph {
    var graph = Graph()
    let width = numbers.hidden / numbers.heads
    let attention = Op.Attention(
      heads: numbers.heads, keyValueHeads: numbers.heads, headWidth: width, scale: 1 / Double(width).squareRoot(),
      isCausal: false)
    func norm(_ x: Graph.Source, _ name: String) -> Graph.Source {
      graph.append(.norm(.layer, epsilon: numbers.epsilon), x, tensor(name + ".weight"), tensor(name + ".bias"))
    }
    func linear(_ x: Graph.Source, _ name: String) -> Graph.Source {
      graph.append(.linear(.float), x, tensor(name + ".weight"), tensor(name + ".bias"))
    }
    let words = graph.append(.embedding(), tensor("embeddings.word_embeddings.weight"), .input(.tokens))
    let places = graph.append(.embedding(), tensor("embeddings.position_embeddings.weight"), .input(.positions))
    // One text is all of type 0.
    let type = graph.append(.row(0), tensor("embeddings.token_type_embeddings.weight"))
    var x = norm(graph.append(.add, graph.append(.add, words, places), type), "embeddings.LayerNorm")
    for layer in 0..<numbers.layers {
      let name = "encoder.layer.\(layer)."
      let (q, k, v) = (
        linear(x, name + "attention.self.query"), linear(x, name + "attention.self.key"),
        linear(x, name + "attention.self.value")
      )
      let mixed = linear(graph.append(.attention(attention), q, k, v, .input(.starts)), name + "attention.output.dense")
      x = norm(graph.append(.add, mixed, x), name + "attention.output.LayerNorm")
      let wide = graph.append(.activation(numbers.activation), linear(x, name + "intermediate.dense"))
      x = norm(graph.append(.add, linear(wide, name + "output.dense"), x), name + "output.LayerNorm")
    }
    let pooled = graph.append(.pool(recipe.pooling), x, .input(.starts))
    if recipe.isNormalized { graph.append(.normalize, pooled) }
    return graph
  }
}
