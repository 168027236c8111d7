import Bytes
import Tensors

/// SigLIP vision towers (Zhai et al. 2023): patches, learned positions, pre-norm encoder. Alone with its
/// attention-pooling head, or as the eye of the LLaVE family without it.
enum Siglip {
  static func rules(_ prefix: String, hasHead: Bool) -> [Architecture.Rule] {
    let layer = prefix + "encoder.layers.{layer}."
    return [
      .init(prefix + "embeddings.patch_embedding.weight", ["vision_size", "channels", "patch_size", "patch_size"]),
      .init(prefix + "embeddings.patch_embedding.bias", ["vision_size"]),
      .init(prefix + "embeddings.position_embedding.weight", ["patches", "vision_size"]),
      .init(prefix + "embeddings.position_ids", nil, .dead),
    ]
      + norm(layer + "layer_norm1", into: layer + "self_attn.") + norm(layer + "layer_norm2", into: layer + "mlp.")
      + ["q", "k", "v", "out"].flatMap {
        Architecture.Rule.linear(layer + "self_attn.\($0)_proj", "vision_size", "vision_size")
      }
      + Architecture.Rule.linear(layer + "mlp.fc1", "vision_intermediate", "vision_size")
      + Architecture.Rule.linear(layer + "mlp.fc2", "vision_size", "vision_intermediate")
      + norm(prefix + "post_layernorm", into: hasHead ? prefix + "head.attention." : nil)
      + head(prefix, isDead: !hasHead)
  }

  /// - Parameter into: what reads it; nil where nothing does.
  private static func norm(_ name: String, into: String?) -> [Architecture.Rule] {
    [("weight", Float(1)), ("bias", 0)].map { suffix, value in
      let folded = into.map { Architecture.Rule.Folded(value: value, into: $0) }
      return .init("\(name).\(suffix)", ["vision_size"], into == nil ? .dead : .required, folded: folded)
    }
  }

  private static func head(_ prefix: String, isDead: Bool) -> [Architecture.Rule] {
    let rules: [(String, [String])] = [
      ("probe", ["one", "one", "vision_size"]), ("attention.in_proj_weight", ["three_vision", "vision_size"]),
      ("attention.in_proj_bias", ["three_vision"]), ("attention.out_proj.weight", ["vision_size", "vision_size"]),
      ("attention.out_proj.bias", ["vision_size"]), ("mlp.fc1.weight", ["vision_intermediate", "vision_size"]),
      ("mlp.fc1.bias", ["vision_intermediate"]), ("mlp.fc2.weight", ["vision_size", "vision_intermediate"]),
      ("mlp.fc2.bias", ["vision_size"]),
    ]
    return norm(prefix + "head.layernorm", into: isDead ? nil : prefix + "head.mlp.")
      + rules.map { .init(prefix + "head." + $0.0, $0.1, isDead ? .dead : .required) }
  }

  struct Numbers {
    let width, layers, heads, intermediate, patch, patches, tile: Int
    let epsilon: Double
    let activation: Op.Activation

    /// - Parameters:
    ///   - config: `vision_config`; nil for the authors' checkpoints, which name the tower instead.
    ///   - tower: such a name, ending in the side of its pictures; with `heads` where the file says.
    init(_ config: JSON?, tower: String?, heads given: Int?, _ prefix: String, _ shapes: Shapes) throws(Failure) {
      let name = prefix + "embeddings.patch_embedding.weight"
      let kernel = try shapes.shape(name)
      guard kernel.count == 4, kernel[1] == 3, kernel[2] == kernel[3], kernel.allSatisfy({ $0 > 0 }) else {
        throw Failure(
          .malformed, "has shape \(kernel); [width, 3, patch, patch] expected", thing: "tensor \(Failure.quoted(name))")
      }
      (width, patch) = (kernel[0], kernel[2])
      patches = try shapes.matrix(prefix + "embeddings.position_embedding.weight").rows
      intermediate = try shapes.matrix(prefix + "encoder.layers.0.mlp.fc1.weight").rows
      let size = 1...(1 << 16)
      let held = Architecture.layersHeld(prefix + "encoder.layers.", shapes.tensors)
      layers = try config?.optional("num_hidden_layers")?.integer("num_hidden_layers", in: 1...Int(Int32.max)) ?? held
      heads =
        try config?.optional("num_attention_heads")?.integer("num_attention_heads", in: size) ?? given
        ?? Numbers.knownHeads(width)
      guard width % heads == 0 else {
        throw Failure(.malformed, "\(heads) heads do not divide the vision tower's width \(width)")
      }
      if let value = config?.optional("image_size") {
        tile = try value.integer("image_size", in: size)
      } else {
        tile = try Numbers.side(tower)
      }
      let side = tile / patch
      guard patch <= tile, side * side == patches else {
        throw Failure(
          .malformed, "\(patches) position embeddings do not fit pictures of \(tile) pixels in patches of \(patch)")
      }
      epsilon = try config?.optional("layer_norm_eps")?.double("layer_norm_eps") ?? 1e-6
      guard epsilon > 0, epsilon < 1 else { throw Failure(.malformed, "layer_norm_eps must be above 0 and below 1") }
      activation = if let config { try Numbers.activation(config) } else { .geluTanh }
    }

    /// so400m has heads of 72, base and large of 64.
    private static func knownHeads(_ width: Int) -> Int { width % 72 == 0 ? width / 72 : max(1, width / 64) }

    /// `google/siglip-so400m-patch14-384` takes pictures of 384 pixels.
    private static func side(_ tower: String?) throws(Failure) -> Int {
      guard let text = tower?.split(separator: "-").last, let side = Int(text), side > 0, side <= Limits.imageSide
      else {
        throw Failure(
          .unsupported,
          "mm_vision_tower must be a name that ends in the side of its pictures, like google/siglip-so400m-patch14-384")
      }
      return side
    }

    private static func activation(_ config: JSON) throws(Failure) -> Op.Activation {
      guard let value = config.optional("hidden_act") else { return .geluTanh }
      switch try value.string("hidden_act") {
      case "gelu_pytorch_tanh", "gelu_new": return .geluTanh
      case "gelu": return .gelu
      case let other:
        throw value.failure(
          "hidden_act \(Failure.quoted(other)) is not one of gelu_pytorch_tanh, gelu_new, gelu", .unsupported)
      }
    }

    var dimensions: [String: Int] {
      [
        "vision_size": width, "channels": 3, "patch_size": patch, "patches": patches,
        "vision_intermediate": intermediate, "one": 1, "three_vision": 3 * width,
      ]
    }
  }

  /// Pixels to what the `depth` first layers make of each patch.
  static func graph(_ numbers: Numbers, _ prefix: String, depth: Int, _ rescale: Op.Rescale) -> Graph {
    var graph = Graph()
    let builder = Builder(numbers: numbers, prefix: prefix)
    let pixels = graph.append(.rescale(rescale), .input(.pixels))
    var x = graph.append(
      .add, builder.linear(&graph, pixels, "embeddings.patch_embedding"),
      graph.append(.embedding(), builder.tensor("embeddings.position_embedding.weight"), .input(.positions)))
    let width = numbers.width / numbers.heads
    let attention = Op.Attention(
      heads: numbers.heads, keyValueHeads: numbers.heads, headWidth: width, scale: 1 / Double(width).squareRoot(),
      isCausal: false)
    for layer in 0..<depth {
      let name = "encoder.layers.\(layer)."
      let before = builder.norm(&graph, x, name + "layer_norm1")
      let (q, k, v) = (
        builder.linear(&graph, before, name + "self_attn.q_proj"),
        builder.linear(&graph, before, name + "self_attn.k_proj"),
        builder.linear(&graph, before, name + "self_attn.v_proj")
      )
      let mixed = graph.append(.attention(attention), q, k, v, .input(.starts))
      x = graph.append(.add, x, builder.linear(&graph, mixed, name + "self_attn.out_proj"))
      x = graph.append(.add, x, builder.mlp(&graph, builder.norm(&graph, x, name + "layer_norm2"), name + "mlp."))
    }
    return graph
  }

  /// Appends the pooling head: one learned query that attends to all patches, an MLP, and the unit length that
  /// retrieval uses.
  static func appendHead(_ graph: inout Graph, _ numbers: Numbers, _ prefix: String) {
    let builder = Builder(numbers: numbers, prefix: prefix)
    let width = numbers.width / numbers.heads
    let attention = Op.Attention(
      heads: numbers.heads, keyValueHeads: numbers.heads, headWidth: width, scale: 1 / Double(width).squareRoot(),
      isCausal: false)
    let x = builder.norm(&graph, .node(graph.output), "post_layernorm")
    // The three projections are stored as one; a product with all of them is cut apart.
    func projected(_ value: Graph.Source, _ part: Int, _ graph: inout Graph) -> Graph.Source {
      let all = graph.append(
        .linear(.float), value, builder.tensor("head.attention.in_proj_weight"),
        builder.tensor("head.attention.in_proj_bias"))
      return graph.append(.slice(offset: part * numbers.width, count: numbers.width), all)
    }
    let query = projected(graph.append(.row(0), builder.tensor("head.probe")), 0, &graph)
    let all = graph.append(
      .linear(.float), x, builder.tensor("head.attention.in_proj_weight"), builder.tensor("head.attention.in_proj_bias")
    )
    let keys = graph.append(.slice(offset: numbers.width, count: numbers.width), all)
    let values = graph.append(.slice(offset: 2 * numbers.width, count: numbers.width), all)
    let mixed = graph.append(.attention(attention), query, keys, values, .input(.starts))
    let pooled = builder.linear(&graph, mixed, "head.attention.out_proj")
    let wide = builder.mlp(&graph, builder.norm(&graph, pooled, "head.layernorm"), "head.mlp.")
    graph.append(.normalize, graph.append(.add, pooled, wide))
  }

  private struct Builder {
    let numbers: Numbers
    let prefix: String

    func tensor(_ name: String) -> Graph.Source { .tensor(TensorName(prefix + name)) }

    func linear(_ graph: inout Graph, _ x: Graph.Source, _ name: String) -> Graph.Source {
      graph.append(.linear(.float), x, tensor(name + ".weight"), tensor(name + ".bias"))
    }

    func norm(_ graph: inout Graph, _ x: Graph.Source, _ name: String) -> Graph.Source {
      graph.append(.norm(.layer, epsilon: numbers.epsilon), x, tensor(name + ".weight"), tensor(name + ".bias"))
    }

    func mlp(_ graph: inout Graph, _ x: Graph.Source, _ name: String) -> Graph.Source {
      linear(&graph, graph.append(.activation(numbers.activation), linear(&graph, x, name + "fc1")), name + "fc2")
    }
  }

  /// Where a plain tower's tensors are; nil when the checkpoint is none.
  static func prefix(_ shapes: Shapes) -> String? {
    ["vision_model.", ""].first { shapes.has($0 + "embeddings.patch_embedding.weight") }
  }

  static func architecture(_ numbers: Numbers, prefix: String) -> Architecture {
    let rules = rules(prefix, hasHead: true) + [.init("logit_scale", nil, .dead), .init("logit_bias", nil, .dead)]
    return Architecture(
      name: "siglip", rules: rules, dimensions: numbers.dimensions,
      stacks: [.init(head: prefix + "encoder.layers.", layers: numbers.layers)], prefix: "")
  }

  /// A plain tower's, which names nothing but its configuration.
  static func numbers(_ config: JSON, prefix: String, _ shapes: Shapes) throws(Failure) -> Numbers {
    try Numbers(config.optional("vision_config") ?? config, tower: nil, heads: nil, prefix, shapes)
  }

  /// A plain tower: one picture, one vector.
  static func model(_ checkpoint: Checkpoint, config: JSON, notes: inout [String]) throws(Failure) -> Model {
    let shapes = Shapes(checkpoint.tensors)
    let prefix = prefix(shapes) ?? ""
    let numbers = try numbers(config, prefix: prefix, shapes)
    // The text tower of a whole SigLIP has a tokenizer of another kind; only its pictures are read.
    let tensors = checkpoint.tensors.filter { !$0.name.bytes.starts(with: "text_model.".utf8) }
    if tensors.count < checkpoint.tensors.count {
      notes.append("the text tower (\(checkpoint.tensors.count - tensors.count) tensors) is left out: pictures only")
    }
    let match = try architecture(numbers, prefix: prefix).match(tensors, notes: &notes)
    var model = Model(
      configuration: Configuration(architecture: "siglip", width: numbers.width, vocabulary: 1, maximumTokens: 1))
    model.configuration.vision = Vision(tile: numbers.tile, patch: numbers.patch, width: numbers.width)
    for tensor in tensors where !match.dead.contains(tensor.name) { model.set(tensor) }
    var graph = graph(
      numbers, prefix, depth: numbers.layers, try PictureScaling.read(checkpoint, notes: &notes))
    appendHead(&graph, numbers, prefix)
    model.graphs = [("vision", graph)]
    return model
  }
}

/// How a checkpoint's processor scales pixels.
enum PictureScaling {
  /// SigLIP's: bytes to -1…1.
  static let siglip = Op.Rescale(factor: 1 / 255.0, mean: [0.5, 0.5, 0.5], deviation: [0.5, 0.5, 0.5])

  /// From `preprocessor_config.json`, SigLIP's where there is none.
  static func read(_ checkpoint: Checkpoint, notes: inout [String]) throws(Failure) -> Op.Rescale {
    let name = "preprocessor_config.json"
    guard let json = try checkpoint.json(name) else {
      notes.append("no preprocessor_config.json: pixels are scaled to -1…1, as SigLIP's are")
      return siglip
    }
    do throws(Failure) {
      let holder = json.optional("image_processor") ?? json
      func numbers(_ key: String) throws(Failure) -> [Double] {
        guard let value = holder.optional(key) else { return [0.5, 0.5, 0.5] }
        var result: [Double] = []
        for number in try value.elements(key) { result.append(try number.double(key)) }
        guard result.count == 3 else { throw value.failure("\(key) must be three numbers") }
        return result
      }
      if let value = holder.optional("resample"), try value.integer("resample", in: 0...10) != 3 {
        throw value.failure("resample must be 3 (bicubic)", .unsupported)
      }
      let factor = try holder.optional("rescale_factor")?.double("rescale_factor") ?? 1 / 255.0
      let rescale = Op.Rescale(factor: factor, mean: try numbers("image_mean"), deviation: try numbers("image_std"))
      guard factor > 0, rescale.deviation.allSatisfy({ $0 > 0 }) else {
        throw holder.failure("rescale_factor and image_std must be above 0")
      }
      return rescale
    } catch { throw error.inFile(checkpoint.directory + name) }
  }
}
