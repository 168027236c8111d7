import Bytes
import Glibc
import Tensors

extension Op.Rotation {
  /// What config.json says of rotary positions: `rope_parameters` as transformers 5 writes them, for all layers or for
  /// each kind of layer, or `rope_theta` and `rope_scaling` as it was before.
  ///
  /// - Parameters:
  ///   - kind: the kind of layer, a key of `rope_parameters`; nil for a model whose layers are all of one kind.
  ///   - theta: the key that holds the base where there are no `rope_parameters`, and the base of a file without it.
  ///   - isScaled: whether `rope_scaling` is for this kind of layer.
  /// - Returns: also how many tokens the model takes where more of them would change the frequencies.
  static func read(
    _ config: JSON, _ kind: String? = nil, headWidth: Int, theta: (key: String, missing: Double),
    isScaled: Bool = true
  ) throws(Failure) -> (rotation: Op.Rotation, limit: Int?) {
    var settings = config.optional("rope_parameters")
    if let kind { settings = settings.flatMap { $0.optional(kind) ?? ($0["rope_type"] == nil ? nil : $0) } }
    let scaling = settings ?? (isScaled ? config.optional("rope_scaling") : nil)
    let base = try (settings?.optional("rope_theta") ?? config.optional(theta.key)).map { (value) throws(Failure) in
      let number = try value.double("rope_theta")
      guard number > 1, number < 1e15 else { throw value.failure("rope_theta must be above 1") }
      return number
    }
    var rotation = Op.Rotation(theta: base ?? theta.missing, headWidth: headWidth)
    guard let scaling, let type = scaling.optional("rope_type") ?? scaling.optional("type") else {
      return (rotation, nil)
    }
    if let share = scaling.optional("partial_rotary_factor") ?? config.optional("partial_rotary_factor"),
      try share.double("partial_rotary_factor") != 1
    {
      throw share.failure("partial_rotary_factor must be 1", .unsupported)
    }
    let longest = try config.size("max_position_embeddings", or: 1 << 24)
    func number(_ key: String) throws(Failure) -> Double? {
      guard let value = scaling.optional(key) else { return nil }
      let number = try value.double(key)
      guard number > 0, number < 1e15 else { throw value.failure("\(key) must be above 0") }
      return number
    }
    func required(_ key: String) throws(Failure) -> Double {
      guard let value = try number(key) else { throw scaling.failure("the key \"\(key)\" is missing") }
      return value
    }
    let original = try scaling.size("original_max_position_embeddings", or: longest)
    switch try type.string("rope_type") {
    case "default": break
    case "linear": rotation.scaling = .linear(factor: try required("factor"))
    // Frequencies change with the longest input of a batch beyond the original length, up to which they are plain.
    case "dynamic": return (rotation, original)
    case "llama3":
      rotation.scaling = .llama3(
        factor: try required("factor"), low: try required("low_freq_factor"), high: try required("high_freq_factor"),
        original: original)
    case "yarn":
      let factor = try number("factor") ?? Double(longest) / Double(original)
      rotation.scaling = .yarn(
        factor: factor, slow: try number("beta_slow") ?? 1, fast: try number("beta_fast") ?? 32, original: original,
        magnitude: try magnitude(
          factor, own: number("attention_factor"), number("mscale"), number("mscale_all_dim")),
        isTruncated: try scaling.optional("truncate")?.bool("truncate") ?? true)
    case let other:
      throw type.failure(
        "rope_type \(Failure.quoted(other)) is not supported; default, linear, dynamic, llama3 and yarn are",
        .unsupported)
    }
    return (rotation, nil)
  }

  /// YaRN's factor of cosines and sines: the configuration's own, or what it follows from.
  private static func magnitude(_ factor: Double, own: Double?, _ scale: Double?, _ allScale: Double?) -> Double {
    func grown(_ by: Double) -> Double { factor <= 1 ? 1 : 0.1 * by * log(factor) + 1 }
    if let own { return own }
    if let scale, let allScale { return grown(scale) / grown(allScale) }
    return grown(1)
  }
}

extension JSON {
  /// `layer_types`: of each of so many layers whether it sees a window alone; nil where the key is missing.
  func layerTypes(_ count: Int) throws(Failure) -> [Bool]? {
    guard let value = optional("layer_types") else { return nil }
    var result: [Bool] = []
    for type in try value.elements("layer_types") {
      switch try type.string("layer_types") {
      case "full_attention": result.append(false)
      case "sliding_attention": result.append(true)
      case let other: throw type.failure("layers of type \(Failure.quoted(other)) are not supported", .unsupported)
      }
    }
    guard result.count >= count else { throw value.failure("\(result.count) layer_types for \(count) layers") }
    return Array(result.prefix(count))
  }
}
