import Bytes
import Tensors

/// LLaVE and LLaVA-OneVision: SigLIP tower, projector of two layers, Qwen2; the last token's state is the embedding.
///
/// The layout is told from tensor names, never from `model_type`, which the authors' own checkpoints have wrong.
enum Llave {
  /// Where each part's tensors are.
  struct Layout {
    let text, vision: String
    /// Names of the projector's two linear operations.
    let projector: [String]
    let newline, head: String
    /// The authors' own, as against transformers' conversion of it.
    let isOriginal: Bool

    /// The authors' own layout.
    static let original = Layout(
      text: "model.", vision: "model.vision_tower.vision_tower.vision_model.",
      projector: ["model.mm_projector.0", "model.mm_projector.2"], newline: "model.image_newline",
      head: "lm_head.weight", isOriginal: true)

    /// What transformers writes since 4.52.
    static let transformers = Layout(
      text: "model.language_model.", vision: "model.vision_tower.vision_model.",
      projector: ["model.multi_modal_projector.linear_1", "model.multi_modal_projector.linear_2"],
      newline: "model.image_newline", head: "lm_head.weight", isOriginal: false)

    /// What it wrote before, and what most checkpoints on hubs have.
    static let firstTransformers = Layout(
      text: "language_model.model.", vision: "vision_tower.vision_model.",
      projector: ["multi_modal_projector.linear_1", "multi_modal_projector.linear_2"], newline: "image_newline",
      head: "language_model.lm_head.weight", isOriginal: false)

    private init(
      text: String, vision: String, projector: [String], newline: String, head: String, isOriginal: Bool
    ) {
      self.text = text
      self.vision = vision
      self.projector = projector
      self.newline = newline
      self.head = head
      self.isOriginal = isOriginal
    }

    /// Tensors of this layout under another one's names.
    func renamed(_ tensors: [Tensor], to other: Layout) -> [Tensor] {
      let stems =
        zip(projector, other.projector).map { ($0 + ".", $1 + ".") }
        + [(newline, other.newline), (vision, other.vision), (head, other.head), (text, other.text)]
      return tensors.map { tensor in
        for (old, new) in stems where tensor.name.bytes.starts(with: old.utf8) {
          return tensor.renamed(TensorName(Array(new.utf8) + tensor.name.bytes.dropFirst(old.utf8.count)))
        }
        return tensor
      }
    }

    /// nil when the checkpoint holds no model of this family.
    init?(_ shapes: Shapes) {
      isOriginal = shapes.has("model.mm_projector.0.weight")
      if isOriginal {
        (text, projector) = ("model.", ["model.mm_projector.0", "model.mm_projector.2"])
        (newline, head) = ("model.image_newline", "lm_head.weight")
      } else {
        // On disk since the first conversion, and in memory since transformers 4.52.
        guard let root = ["", "model."].first(where: { shapes.has($0 + "multi_modal_projector.linear_1.weight") })
        else {
          return nil
        }
        text = root.isEmpty ? "language_model.model." : "model.language_model."
        projector = [root + "multi_modal_projector.linear_1", root + "multi_modal_projector.linear_2"]
        newline = root + "image_newline"
        head = root.isEmpty ? "language_model.lm_head.weight" : "lm_head.weight"
      }
      let prefixes = [
        "model.vision_tower.vision_tower.vision_model.", "vision_tower.vision_model.",
        "model.vision_tower.vision_model.", "vision_tower.", "model.vision_tower.",
      ]
      guard let prefix = prefixes.first(where: { shapes.has($0 + "embeddings.patch_embedding.weight") }) else {
        return nil
      }
      vision = prefix
    }
  }

  /// The user's turn and an assistant that answers with a line feed, as the family is trained (`qwen_1_5`).
  private static let template = Configuration.Template(
    before: "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n",
    after: "<|im_end|>\n<|im_start|>assistant\n\n<|im_end|>\n")

  /// What a checkpoint's configuration and shapes say.
  struct Facts {
    let layout: Layout
    let text: Decoder
    let vision: Siglip.Numbers
    /// Layers of the tower that run.
    let depth: Int
    var pictures: Vision
    let maximumTokens: Int
    let scaling: Op.Rescale

    init(_ checkpoint: Checkpoint, config: JSON, _ layout: Layout, _ shapes: Shapes, notes: inout [String])
      throws(Failure)
    {
      // In the authors' layout nested configurations are leftovers of another model.
      let textConfig = layout.isOriginal ? config : try config.required("text_config")
      let visionConfig = layout.isOriginal ? nil : try config.required("vision_config")
      self.layout = layout
      text = try Qwen2.decoder(
        textConfig, prefix: layout.text, head: layout.head, shapes, isVocabularyTrusted: !layout.isOriginal,
        notes: &notes)
      vision = try Siglip.Numbers(
        visionConfig, tower: try config.optional("mm_vision_tower")?.string("mm_vision_tower"),
        heads: try config.optional("mm_vision_attention_heads")?.integer("mm_vision_attention_heads", in: 1...4_096),
        layout.vision, shapes)
      depth = try visionDepth(config, vision, layout)
      pictures = try Pictures(config, layout, vision).vision
      maximumTokens =
        try config.optional("tokenizer_model_max_length")?.integer("tokenizer_model_max_length", in: 1...(1 << 24))
        ?? text.longest
      scaling = layout.isOriginal ? PictureScaling.siglip : try PictureScaling.read(checkpoint, notes: &notes)
      try checkProjector(config, layout)
    }
  }

  static func architecture(_ facts: Facts) -> Architecture {
    let layout = facts.layout
    let rules =
      facts.text.rules + Siglip.rules(layout.vision, hasHead: false)
      + Architecture.Rule.linear(layout.projector[0], "hidden_size", "vision_size")
      + Architecture.Rule.linear(layout.projector[1], "hidden_size", "hidden_size")
      + [.init(layout.newline, ["hidden_size"])]
    return Architecture(
      name: "llava_onevision", rules: rules,
      dimensions: facts.text.dimensions.merging(facts.vision.dimensions) { first, _ in first },
      stacks: [
        .init(head: layout.text + "layers.", layers: facts.text.layers),
        .init(head: layout.vision + "encoder.layers.", layers: facts.depth, mayHoldMore: true),
      ], prefix: "")
  }

  static func model(
    _ checkpoint: Checkpoint, config: JSON, _ layout: Layout, _ shapes: Shapes, notes: inout [String]
  ) throws(Failure) -> Model {
    let facts = try Facts(checkpoint, config: config, layout, shapes, notes: &notes)
    let (text, vision) = (facts.text, facts.vision)
    let match = try architecture(facts).match(checkpoint.tensors, notes: &notes)
    var model = Model(
      configuration: Configuration(
        architecture: "llava_onevision", width: text.hidden, vocabulary: text.vocabulary,
        maximumTokens: facts.maximumTokens))
    model.configuration.template = template
    model.configuration.vision = facts.pictures
    for tensor in checkpoint.tensors where !match.dead.contains(tensor.name) { model.set(tensor) }
    var body = BodyGraph(match)
    let states = text.hiddenStates(&body, hasFeatures: true)
    SentenceRecipe(pooling: .last).appendHead(states, &body)
    model.graphs = [
      ("vision", Siglip.graph(vision, layout.vision, depth: facts.depth, facts.scaling)),
      ("projector", projector(layout)),
      ("text", body.graph),
    ]
    return model
  }

  private static func projector(_ layout: Layout) -> Graph {
    var graph = Graph()
    func linear(_ x: Graph.Source, _ name: String) -> Graph.Source {
      graph.append(
        .linear(.float), x, .tensor(TensorName(name + ".weight")), .tensor(TensorName(name + ".bias")))
    }
    let wide = graph.append(.activation(.gelu), linear(.input(.hidden), layout.projector[0]))
    graph.append(
      .interpolate, linear(wide, layout.projector[1]), .tensor(TensorName(layout.newline)), .input(.taps),
      .input(.weights))
    return graph
  }

  private static func checkProjector(_ config: JSON, _ layout: Layout) throws(Failure) {
    if layout.isOriginal {
      try require(config, "mm_projector_type", "mlp2x_gelu")
    } else {
      try require(config, "projector_hidden_act", "gelu")
    }
  }

  /// How many of the tower's layers are used. The authors delete the last of so400m's 27; transformers says which
  /// state.
  private static func visionDepth(
    _ config: JSON, _ vision: Siglip.Numbers, _ layout: Layout
  ) throws(Failure) -> Int {
    guard !layout.isOriginal else { return vision.layers == 27 && vision.width == 1152 ? 26 : vision.layers }
    try require(config, "vision_feature_select_strategy", "full")
    guard let value = config.optional("vision_feature_layer") else { return vision.layers }
    let layer = try value.integer("vision_feature_layer", in: -vision.layers...vision.layers)
    return layer < 0 ? vision.layers + 1 + layer : layer
  }

  /// A setting that may be absent, but of which only one value is read.
  private static func require(_ config: JSON, _ key: String, _ wanted: String) throws(Failure) {
    guard let value = config.optional(key) else { return }
    let found = try value.string(key)
    guard found == wanted else {
      throw value.failure("\(key) \(Failure.quoted(found)) is not supported; \(wanted) is", .unsupported)
    }
  }

  /// What the configuration says of views, grids and newlines.
  private struct Pictures {
    var vision: Vision

    init(_ config: JSON, _ layout: Layout, _ tower: Siglip.Numbers) throws(Failure) {
      vision = Vision(tile: tower.tile, patch: tower.patch, width: tower.width)
      let ratioKey = layout.isOriginal ? "image_aspect_ratio" : "vision_aspect_ratio"
      let ratio = try config.required(ratioKey)
      let name = try ratio.string(ratioKey)
      guard name.hasPrefix("anyres_max_"), let views = Int(name.dropFirst(11)), (1...10_000).contains(views) else {
        throw ratio.failure("\(ratioKey) \(Failure.quoted(name)) is not supported; anyres_max_N is", .unsupported)
      }
      vision.maximumViews = views
      vision.grid = try Pictures.grid(
        try config.required("image_grid_pinpoints"), tower.tile, isWidthFirst: layout.isOriginal)
      guard layout.isOriginal else { return }
      try Pictures.refuseUnsupported(config)
      if let value = config.optional("mm_newline_position") {
        let name = try value.string("mm_newline_position")
        guard let newline = Vision.Newline(rawValue: name) else {
          throw value.failure(
            "mm_newline_position \(Failure.quoted(name)) is not one of grid, frame, one_token, no_token", .unsupported)
        }
        vision.newline = newline
      }
    }

    private static func refuseUnsupported(_ config: JSON) throws(Failure) {
      // The authors' code falls back to a flat merge; no checkpoint of this family is trained that way.
      let merge = try config.required("mm_patch_merge_type")
      guard try merge.string("mm_patch_merge_type") == "spatial_unpad" else {
        throw merge.failure("mm_patch_merge_type must be spatial_unpad", .unsupported)
      }
      try Llave.require(config, "mm_vision_select_feature", "patch")
      try Llave.require(config, "mm_spatial_pool_mode", "bilinear")
      if let value = config.optional("mm_resampler_type") {
        throw value.failure("mm_resampler_type must be null", .unsupported)
      }
      if let value = config.optional("mm_spatial_pool_stride"),
        try value.integer("mm_spatial_pool_stride", in: 1...64) != 2
      {
        throw value.failure("mm_spatial_pool_stride must be 2", .unsupported)
      }
      for key in ["mm_use_im_start_end", "mm_use_im_patch_token", "add_faster_video", "add_time_instruction"] {
        if let value = config.optional(key), try value.bool(key) {
          throw value.failure("\(key) must be false", .unsupported)
        }
      }
    }

    /// Pairs of sides, or the recipe's form `(1x1),...,(2x2)` in tiles.
    private static func grid(_ value: JSON, _ tile: Int, isWidthFirst: Bool) throws(Failure) -> [Vision.Size] {
      var grid: [Vision.Size] = []
      if value.kind == .string {
        let numbers = try value.string().split { $0 < "0" || $0 > "9" }.compactMap { Int($0) }
        guard numbers.count == 4, numbers[..<2] == [1, 1], (1...64).contains(numbers[2]), (1...64).contains(numbers[3])
        else {
          throw value.failure("image_grid_pinpoints must be pairs, or a text like (1x1),...,(2x2)")
        }
        for width in 1...numbers[2] {
          for height in 1...numbers[3] { grid.append(Vision.Size(width * tile, height * tile)) }
        }
        return grid
      }
      for pair in try value.elements("image_grid_pinpoints") {
        let sides = try pair.elements("image_grid_pinpoints")
        guard sides.count == 2 else { throw pair.failure("a pinpoint must be two sides") }
        let (a, b) = (
          try sides[0].integer("side", in: 1...Limits.imageSide), try sides[1].integer("side", in: 1...Limits.imageSide)
        )
        guard a % tile == 0, b % tile == 0 else {
          throw pair.failure("sides must be multiples of the view's \(tile) pixels")
        }
        grid.append(isWidthFirst ? Vision.Size(a, b) : Vision.Size(b, a))
      }
      guard !grid.isEmpty, grid.count <= 10_000 else { throw value.failure("image_grid_pinpoints must not be empty") }
      return grid
    }
  }
}
