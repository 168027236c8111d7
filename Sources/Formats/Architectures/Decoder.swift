import Bytes
import Tensors

/// Decoders as text embedders: pre-norm, rotary positions, grouped key and value heads, gated MLP. Sizes come from the
/// tensors, which are never wrong about themselves; what a family does its own way is its `Traits`.
struct Decoder {
  struct Traits {
    /// For messages.
    var name: String
    var norm = Op.Norm.rms
    /// Whether queries, keys and values have biases; in other families where the configuration says so.
    var hasQueryBiases = false
    /// Whether each head's queries and keys are normalised before they are turned.
    var hasHeadNorms = false
    /// Whether what attention and MLP give is normalised before it is added.
    var hasOuterNorms = false
    /// Whether rows of the token table are multiplied by the square root of their width.
    var scalesTokens = false
    /// Whether a token sees those before it alone, where the configuration does not say.
    var isCausal = true
    var theta = 10_000.0
    /// Layers that see a window see with another base: its key, and what it is where the key is missing.
    var localTheta: (key: String, missing: Double)?
  }

  let traits: Traits
  let hidden, layers, heads, keyValueHeads, headWidth, intermediate, vocabulary, longest: Int
  let epsilon, scale: Double
  let activation: Op.Activation
  let isCausal: Bool
  /// Which linear operations have biases besides.
  let hasAttentionBiases, hasMLPBiases: Bool
  /// Of each layer, how many places it sees; nil for all.
  let windows: [Int?]
  let rotation, localRotation: Op.Rotation
  let prefix: String
  let head: String

  /// - Parameters:
  ///   - config: the object that holds the language model's keys.
  ///   - prefix: what stands in front of `embed_tokens`, `layers` and `norm`.
  ///   - head: the name of the output projection, which no embedding reads.
  ///   - heads: where the configuration does not say.
  ///   - window: places that layers see which see a window, and which these are; nil for none.
  ///   - isVocabularyTrusted: whether `vocab_size` is this model's own and must fit the table.
  init(
    _ config: JSON, _ traits: Traits, prefix: String, head: String = "lm_head.weight", heads known: Int? = nil,
    _ shapes: Shapes, window: (size: Int, isLocal: (Int) -> Bool)? = nil, isVocabularyTrusted: Bool = true,
    notes: inout [String]
  ) throws(Failure) {
    (self.traits, self.prefix, self.head) = (traits, prefix, head)
    let table = try shapes.matrix(prefix + "embed_tokens.weight")
    (vocabulary, hidden) = (table.rows, table.columns)
    let held = Architecture.layersHeld(prefix + "layers.", shapes.tensors)
    layers = config.optional("num_hidden_layers") == nil ? held : try config.layers("num_hidden_layers")
    if let value = config.optional("hidden_size"), try value.integer("hidden_size", in: JSON.sizes) != hidden {
      throw value.failure("hidden_size is not the \(hidden) columns of the token table")
    }
    heads = try config.size("num_attention_heads", or: known)
    let attention = prefix + "layers.0.self_attn."
    (headWidth, keyValueHeads) = try Decoder.headSizes(config, heads, hidden, shapes, attention)
    intermediate = try shapes.matrix(prefix + "layers.0.mlp.gate_proj.weight").rows
    hasAttentionBiases = try config.optional("attention_bias")?.bool("attention_bias") ?? false
    hasMLPBiases = try config.optional("mlp_bias")?.bool("mlp_bias") ?? false
    epsilon = try config.epsilon("rms_norm_eps", or: 1e-6)
    activation = try config.activation("hidden_activation", "hidden_act", or: traits.scalesTokens ? .geluTanh : .silu)
    if let value = config.optional("is_causal") {
      isCausal = try value.bool("is_causal")
    } else {
      let key = "use_bidirectional_attention"
      isCausal = try !(config.optional(key)?.bool(key) ?? false) && traits.isCausal
    }
    let divisor = try config.optional("query_pre_attn_scalar")?.double("query_pre_attn_scalar") ?? Double(headWidth)
    scale = 1 / divisor.squareRoot()
    guard scale.isFinite, scale > 0 else { throw config.failure("query_pre_attn_scalar must be above 0") }
    let count = min(layers, held)
    if let window {
      let isLocal = try config.layerTypes(count) ?? (0..<count).map(window.isLocal)
      windows = isLocal.map { $0 ? window.size : nil }
    } else {
      windows = [Int?](repeating: nil, count: count)
    }
    let limit: Int?
    (rotation, limit) = try Op.Rotation.read(
      config, traits.localTheta == nil ? nil : "full_attention", headWidth: headWidth,
      theta: ("rope_theta", traits.theta))
    if let theta = traits.localTheta {
      localRotation = try Op.Rotation.read(
        config, "sliding_attention", headWidth: headWidth, theta: theta, isScaled: false
      ).rotation
    } else {
      localRotation = rotation
    }
    longest = min(try config.size("max_position_embeddings", or: 32_768), limit ?? .max)
    guard isVocabularyTrusted, let value = config.optional("vocab_size") else { return }
    let said = try value.integer("vocab_size", in: JSON.sizes)
    guard said <= vocabulary else {
      throw value.failure("vocab_size \(said), but the token table has \(vocabulary) rows")
    }
    if said < vocabulary { notes.append("the token table has \(vocabulary) rows for a vocabulary of \(said)") }
  }

  /// Columns of a head, and heads of keys and values.
  private static func headSizes(
    _ config: JSON, _ heads: Int, _ hidden: Int, _ shapes: Shapes, _ attention: String
  ) throws(Failure) -> (width: Int, keyValueHeads: Int) {
    let queries = try shapes.matrix(attention + "q_proj.weight").rows
    let value = config.optional("num_attention_heads") ?? config
    guard queries % heads == 0, queries / heads % 2 == 0 else {
      throw value.failure("num_attention_heads \(heads) must divide \(queries) rows of q_proj into even widths")
    }
    let width = queries / heads
    if let value = config.optional("head_dim"), try value.integer("head_dim", in: JSON.sizes) != width {
      throw value.failure("head_dim is not the \(width) that q_proj of \(heads) heads has")
    }
    let keys = try shapes.matrix(attention + "k_proj.weight").rows
    guard keys % width == 0, keys > 0, heads % (keys / width) == 0 else {
      throw Failure(
        .malformed, "has \(keys) rows; a number of heads of \(width) that divides \(heads) expected",
        thing: "tensor \(Failure.quoted(attention + "k_proj.weight"))")
    }
    if let value = config.optional("num_key_value_heads"),
      try value.integer("num_key_value_heads", in: JSON.sizes) != keys / width
    {
      throw value.failure("num_key_value_heads is not the \(keys / width) that k_proj holds")
    }
    return (width, keys / width)
  }

  /// What stands in front of every name.
  static func prefix(_ shapes: Shapes) -> String { shapes.has("model.embed_tokens.weight") ? "model." : "" }

  var dimensions: [String: Int] {
    [
      "hidden_size": hidden, "vocab_size": vocabulary, "query_size": headWidth * heads,
      "key_value_size": headWidth * keyValueHeads, "head_dim": headWidth, "intermediate_size": intermediate,
    ]
  }

  var rules: [Architecture.Rule] {
    let layer = prefix + "layers.{layer}."
    let one = 1 - traits.norm.gainOffset
    func norm(_ name: String, into: String? = nil) -> Architecture.Rule {
      .init(layer + name + ".weight", ["hidden_size"], folded: into.map { .init(value: one, into: layer + $0) })
    }
    func linear(_ name: String, _ out: String, _ input: String, bias: Bool) -> [Architecture.Rule] {
      Architecture.Rule.linear(layer + name, out, input, bias: bias)
    }
    let queryBias = traits.hasQueryBiases || hasAttentionBiases
    var rules: [Architecture.Rule] = [
      .init(prefix + "embed_tokens.weight", ["vocab_size", "hidden_size"]),
      .init(prefix + "norm.weight", ["hidden_size"]), .init(head, nil, .dead),
      norm("input_layernorm", into: "self_attn."),
      .init(layer + "self_attn.rotary_emb.inv_freq", nil, .dead),
    ]
    if traits.hasOuterNorms {
      rules += [
        norm("post_attention_layernorm"), norm("pre_feedforward_layernorm", into: "mlp."),
        norm("post_feedforward_layernorm"),
      ]
    } else {
      rules.append(norm("post_attention_layernorm", into: "mlp."))
    }
    if traits.hasHeadNorms {
      rules += ["q_norm", "k_norm"].map { .init(layer + "self_attn.\($0).weight", ["head_dim"]) }
    }
    return rules + linear("self_attn.q_proj", "query_size", "hidden_size", bias: queryBias)
      + linear("self_attn.k_proj", "key_value_size", "hidden_size", bias: queryBias)
      + linear("self_attn.v_proj", "key_value_size", "hidden_size", bias: queryBias)
      + linear("self_attn.o_proj", "hidden_size", "query_size", bias: hasAttentionBiases)
      + linear("mlp.gate_proj", "intermediate_size", "hidden_size", bias: hasMLPBiases)
      + linear("mlp.up_proj", "intermediate_size", "hidden_size", bias: hasMLPBiases)
      + linear("mlp.down_proj", "hidden_size", "intermediate_size", bias: hasMLPBiases)
  }

  var architecture: Architecture {
    Architecture(
      name: traits.name, rules: rules, dimensions: dimensions,
      stacks: [.init(head: prefix + "layers.", layers: layers)], prefix: "")
  }

  /// Tokens, and features where there are pictures, to the states that are pooled.
  func hiddenStates(_ body: inout BodyGraph, hasFeatures: Bool = false) -> Graph.Source {
    var x = body.append(
      .embedding(),
      [body.tensor(prefix + "embed_tokens.weight"), .input(.tokens)] + (hasFeatures ? [.input(.features)] : []))
    if traits.scalesTokens {
      let factor = Double(Float(Double(hidden).squareRoot()))
      x = body.append(.rescale(.init(factor: factor, mean: [0], deviation: [1])), x)
    }
    for (layer, window) in windows.enumerated() {
      let name = "\(prefix)layers.\(layer)."
      func norm(_ x: Graph.Source, _ which: String) -> Graph.Source {
        body.norm(x, name + which, traits.norm, epsilon: epsilon)
      }
      let before = norm(x, "input_layernorm")
      let rotation = window == nil ? rotation : localRotation
      func turned(_ projection: String, _ headNorm: String, _ heads: Int) -> Graph.Source {
        var y = body.linear(before, name + "self_attn." + projection)
        if traits.hasHeadNorms {
          y = body.norm(y, name + "self_attn." + headNorm, traits.norm, epsilon: epsilon, heads: heads)
        }
        return body.append(.rope(rotation), y, .input(.positions))
      }
      let (q, k) = (turned("q_proj", "q_norm", heads), turned("k_proj", "k_norm", keyValueHeads))
      let v = body.linear(before, name + "self_attn.v_proj")
      var attention = Op.Attention(
        heads: heads, keyValueHeads: keyValueHeads, headWidth: headWidth, scale: scale, isCausal: isCausal)
      attention.window = window
      var mixed = body.linear(body.append(.attention(attention), q, k, v, .input(.starts)), name + "self_attn.o_proj")
      if traits.hasOuterNorms { mixed = norm(mixed, "post_attention_layernorm") }
      x = body.append(.add, x, mixed)
      let middle = norm(x, traits.hasOuterNorms ? "pre_feedforward_layernorm" : "post_attention_layernorm")
      let gate = body.append(.activation(activation), body.linear(middle, name + "mlp.gate_proj"))
      let wide = body.append(.multiply, gate, body.linear(middle, name + "mlp.up_proj"))
      var more = body.linear(wide, name + "mlp.down_proj")
      if traits.hasOuterNorms { more = norm(more, "post_feedforward_layernorm") }
      x = body.append(.add, x, more)
    }
    return body.norm(x, prefix + "norm", traits.norm, epsilon: epsilon)
  }
}

/// A family that is a decoder and nothing else.
protocol DecoderFamily: TextFamily {
  var decoder: Decoder { get }
}

extension DecoderFamily {
  static var pooling: Op.Pooling { .last }
  var architecture: Architecture { decoder.architecture }
  var hidden: Int { decoder.hidden }
  var vocabulary: Int { decoder.vocabulary }
  var longest: Int { decoder.longest }
  var prefixes: (own: String, first: String) { (decoder.prefix, "model.") }
  func hiddenStates(_ body: inout BodyGraph) -> Graph.Source { decoder.hiddenStates(&body) }
}
