import Bytes
import Tensors

/// The manifest's parts as JSON, both ways. Keys are written in one order, so that equal models give equal bytes.
extension Container {
  // MARK: Configuration

  static func json(_ configuration: Configuration) -> JSONText {
    var members: [(String, JSONText)] = [
      ("architecture", .string(configuration.architecture)), ("width", .int(configuration.width)),
      ("vocabulary", .int(configuration.vocabulary)), ("maximum_tokens", .int(configuration.maximumTokens)),
      ("prompts", .array(configuration.prompts.map { ["name": .string($0.name), "text": .string($0.text)] })),
      ("default_prompt", configuration.defaultPrompt.map(JSONText.string) ?? .null),
    ]
    if let template = configuration.template {
      members.append(("template", ["before": .string(template.before), "after": .string(template.after)]))
    }
    if let vision = configuration.vision { members.append(("vision", json(vision))) }
    return .object(members)
  }

  private static func json(_ vision: Vision) -> JSONText {
    .object(members(vision) + (vision.pooling == 1 ? [] : [("pool_pictures", .int(vision.pooling))]))
  }

  private static func members(_ vision: Vision) -> [(String, JSONText)] {
    [
      ("tile", .int(vision.tile)), ("patch", .int(vision.patch)), ("width", .int(vision.width)),
      ("grid", .array(vision.grid.map { .array([.int($0.width), .int($0.height)]) })),
      ("maximum_views", vision.maximumViews.map(JSONText.int) ?? .null), ("newline", .string(vision.newline.rawValue)),
      ("maximum_frames", .int(vision.maximumFrames)), ("frames_per_second", .number(vision.framesPerSecond)),
    ]
  }

  private static func vision(_ json: JSON) throws(Failure) -> Vision {
    let size = 1...Limits.imageSide
    let tile = try json.required("tile").integer("tile", in: size)
    var vision = Vision(
      tile: tile, patch: try json.required("patch").integer("patch", in: 1...tile),
      width: try json.required("width").integer("width", in: 1...(1 << 24)))
    for pair in try json.required("grid").elements("grid") {
      let sides = try pair.elements("grid")
      guard sides.count == 2 else { throw pair.failure("a canvas must be a width and a height") }
      vision.grid.append(
        Vision.Size(try sides[0].integer("width", in: size), try sides[1].integer("height", in: size)))
    }
    vision.maximumViews = try json.optional("maximum_views")?.integer("maximum_views", in: 1...10_000)
    vision.pooling =
      try json.optional("pool_pictures")?.integer("pool_pictures", in: Vision.poolings) ?? vision.pooling
    vision.newline = try choice(json, "newline")
    vision.maximumFrames = try json.required("maximum_frames").integer("maximum_frames", in: 1...10_000)
    let rate = try json.required("frames_per_second")
    vision.framesPerSecond = try rate.double("frames_per_second")
    guard vision.framesPerSecond > 0, vision.framesPerSecond <= 1000 else {
      throw rate.failure("frames_per_second must be above 0 and at most 1000")
    }
    return vision
  }

  static func configuration(_ json: JSON) throws(Failure) -> Configuration {
    let size = 1...(1 << 31)
    var result = Configuration(
      architecture: try json.required("architecture").string("architecture"),
      width: try json.required("width").integer("width", in: size),
      vocabulary: try json.required("vocabulary").integer("vocabulary", in: size),
      maximumTokens: try json.required("maximum_tokens").integer("maximum_tokens", in: size))
    for prompt in try json.required("prompts").elements("prompts") {
      let name = try prompt.required("name").string("name")
      result.prompts.append(.init(name: name, text: try prompt.required("text").string("text")))
    }
    if let value = try json.required("default_prompt").kind == .null ? nil : json["default_prompt"] {
      let name = try value.string("default_prompt")
      guard result.prompts.contains(where: { $0.name == name }) else {
        throw value.failure("is not one of the prompts")
      }
      result.defaultPrompt = name
    }
    if let template = json.optional("template") {
      result.template = .init(
        before: try template.required("before").string("before"), after: try template.required("after").string("after"))
    }
    result.vision = try json.optional("vision").map { (value) throws(Failure) in try vision(value) }
    return result
  }

  // MARK: Encoding

  static func json(_ encoding: Encoding) -> JSONText {
    switch encoding {
    case .plain(let type): .object([("type", .string(type.rawValue))])
    case .grouped(let integers):
      .object(
        [
          ("type", "grouped"), ("bits", .int(integers.bits)), ("group", .int(integers.groupSize)),
          ("affine", .bool(integers.isAffine)), ("scale", .string(integers.scaleType.rawValue)),
        ] + (integers.form == .twoLevel ? [("levels", .int(2))] : []))
    }
  }

  static func encoding(_ json: JSON) throws(Failure) -> Encoding {
    let type = try json.required("type")
    let name = try type.string("type")
    if let plain = DType(rawValue: name) { return .plain(plain) }
    guard name == "grouped" else { throw type.failure("unknown encoding \(Failure.quoted(name))", .unsupported) }
    let bits = try json.required("bits").integer("bits", in: 1...64)
    let group = try json.required("group").integer("group", in: 1...(1 << 40))
    let isAffine = try json.required("affine").bool("affine")
    let scale = try json.required("scale").string("scale")
    var form: GroupedInteger.Form = isAffine ? .affine : .symmetric
    if let levels = json["levels"] {
      guard try levels.integer("levels", in: 1...64) == 2, isAffine else {
        throw levels.failure("unknown encoding: levels must be 2, and affine true", .unsupported)
      }
      form = .twoLevel
    }
    guard let scaleType = DType(rawValue: scale),
      let integers = GroupedInteger(bits: bits, groupSize: group, form: form, scaleType: scaleType)
    else {
      throw json.failure(
        "unknown encoding: \(bits) bits in groups of \(group) with scales \(Failure.quoted(scale))", .unsupported)
    }
    return .grouped(integers)
  }

  // MARK: Graph

  static func json(_ graph: Graph) -> JSONText {
    let nodes = graph.nodes.map { node -> JSONText in
      .object([("op", .string(node.op.name))] + parameters(node.op) + [("inputs", .array(node.inputs.map(json)))])
    }
    return ["output": .int(graph.output), "nodes": .array(nodes)]
  }

  static func graph(_ json: JSON) throws(Failure) -> Graph {
    var graph = Graph()
    for node in try json.required("nodes").elements("nodes") {
      var inputs: [Graph.Source] = []
      for input in try node.required("inputs").elements("inputs") { inputs.append(try source(input)) }
      graph.append(Graph.Node(try op(node), inputs))
    }
    graph.output = try json.required("output").integer("output", in: 0...max(0, graph.nodes.count - 1))
    return graph
  }

  private static func json(_ source: Graph.Source) -> JSONText {
    switch source {
    case .node(let index): .object([("node", .int(index))])
    case .tensor(let name): .object([("tensor", .string(name.text))])
    case .input(let input): .object([("input", .string(input.rawValue))])
    }
  }

  private static func source(_ json: JSON) throws(Failure) -> Graph.Source {
    if let index = json["node"] { return .node(try index.integer("node", in: 0...Int(Int32.max))) }
    if let name = json["tensor"] { return .tensor(TensorName(try name.bytes("tensor"))) }
    return .input(try choice(json, "input"))
  }

  static func parameters(_ op: Op) -> [(String, JSONText)] {
    switch op {
    case .add, .multiply, .interpolate, .concatenate, .mix, .normalize: []
    case .route(let top): [("top", .int(top))]
    case .routed(let expert): [("expert", .int(expert))]
    case .embedding(let offset): offset == 0 ? [] : [("offset", .int(offset))]
    case .row(let index): [("row", .int(index))]
    case .linear(let input): [("input", .string(input.rawValue))]
    case .norm(let kind, let epsilon, let heads):
      [("kind", .string(kind.rawValue)), ("epsilon", .number(epsilon))] + (heads == 1 ? [] : [("heads", .int(heads))])
    case .activation(let kind): [("kind", .string(kind.rawValue))]
    case .rescale(let rescale):
      [
        ("factor", .number(rescale.factor)), ("mean", .array(rescale.mean.map(JSONText.number))),
        ("deviation", .array(rescale.deviation.map(JSONText.number))),
      ]
    case .rope(let rotation): parameters(rotation)
    case .slice(let offset, let count): [("offset", .int(offset)), ("count", .int(count))]
    case .attention(let attention):
      [
        ("heads", .int(attention.heads)), ("key_value_heads", .int(attention.keyValueHeads)),
        ("head_width", .int(attention.headWidth)), ("scale", .number(attention.scale)),
        ("causal", .bool(attention.isCausal)),
      ] + (attention.input == .float ? [] : [("input", .string(attention.input.rawValue))])
        + (attention.window.map { [("window", .int($0))] } ?? [])
        + (attention.farthest.map { [("farthest", .int($0))] } ?? [])
        + (attention.hasSlopes ? [("slopes", true)] : [])
    case .pool(let kind): [("kind", .string(kind.rawValue))]
    }
  }

  private static func op(_ json: JSON) throws(Failure) -> Op {
    let index = 0...(1 << 31)
    func number(_ key: String) throws(Failure) -> Int { try json.required(key).integer(key, in: index) }
    let name = try json.required("op")
    switch try name.string("op") {
    case "embedding": return .embedding(offset: json["offset"] == nil ? 0 : try number("offset"))
    case "concatenate": return .concatenate
    case "route": return .route(top: try number("top"))
    case "routed": return .routed(expert: try number("expert"))
    case "mix": return .mix
    case "row": return .row(try number("row"))
    case "linear": return .linear(try choice(json, "input"))
    case "add": return .add
    case "norm":
      let value = try json.required("epsilon")
      let epsilon = try value.double("epsilon")
      guard epsilon > 0, epsilon < 1 else { throw value.failure("epsilon must be above 0 and below 1") }
      return .norm(
        try choice(json, "kind"), epsilon: epsilon, heads: json["heads"] == nil ? 1 : try number("heads"))
    case "activation": return .activation(try choice(json, "kind"))
    case "multiply": return .multiply
    case "interpolate": return .interpolate
    case "rescale":
      func numbers(_ key: String) throws(Failure) -> [Double] {
        var result: [Double] = []
        for value in try json.required(key).elements(key) { result.append(try value.double(key)) }
        return result
      }
      let rescale = Op.Rescale(
        factor: try json.required("factor").double("factor"), mean: try numbers("mean"),
        deviation: try numbers("deviation"))
      guard rescale.factor > 0, rescale.deviation.allSatisfy({ $0 > 0 }) else {
        throw json.failure("factor and deviations must be above 0")
      }
      return .rescale(rescale)
    case "rope": return .rope(try rotation(json))
    case "slice": return .slice(offset: try number("offset"), count: try number("count"))
    case "attention":
      var attention = Op.Attention(
        heads: try number("heads"), keyValueHeads: try number("key_value_heads"), headWidth: try number("head_width"),
        scale: try json.required("scale").double("scale"), isCausal: try json.required("causal").bool("causal"))
      if json["input"] != nil { attention.input = try choice(json, "input") }
      if json["window"] != nil { attention.window = try number("window") }
      if json["farthest"] != nil { attention.farthest = try number("farthest") }
      if let slopes = json["slopes"] { attention.hasSlopes = try slopes.bool("slopes") }
      return .attention(attention)
    case "pool": return .pool(try choice(json, "kind"))
    case "normalize": return .normalize
    case let other: throw name.failure("unknown operation \(Failure.quoted(other))", .unsupported)
    }
  }

  /// One of the cases of `T` by its name under `key`.
  private static func choice<T: RawRepresentable<String>>(_ json: JSON, _ key: String) throws(Failure) -> T {
    let value = try json.required(key)
    let name = try value.string(key)
    guard let choice = T(rawValue: name) else {
      throw value.failure("unknown \(key) \(Failure.quoted(name))", .unsupported)
    }
    return choice
  }
}
