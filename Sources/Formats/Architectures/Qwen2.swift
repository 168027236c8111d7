import Bytes
import Tensors

/// Qwen2 and Qwen2.5 decoders, with biases of queries, keys and values. Used as text embedders and as the language
/// model of the LLaVE family.
struct Qwen2: DecoderFamily {
  static let types = ["qwen2"]
  static let traits = Decoder.Traits(name: "qwen2", hasQueryBiases: true, theta: 1e6)

  let decoder: Decoder

  init(_ config: JSON, _ shapes: Shapes, notes: inout [String]) throws(Failure) {
    decoder = try Qwen2.decoder(config, prefix: Decoder.prefix(shapes), shapes, notes: &notes)
  }

  static func decoder(
    _ config: JSON, prefix: String, head: String = "lm_head.weight", _ shapes: Shapes,
    isVocabularyTrusted: Bool = true, notes: inout [String]
  ) throws(Failure) -> Decoder {
    let hidden = try shapes.matrix(prefix + "embed_tokens.weight").columns
    return try Decoder(
      config, traits, prefix: prefix, head: head, heads: knownHeads(hidden), shapes, window: try config.qwenWindow(),
      isVocabularyTrusted: isVocabularyTrusted, notes: &notes)
  }

  /// Heads of the published sizes (0.5B, 1.5B, 7B), for configurations that lost the key.
  private static func knownHeads(_ hidden: Int) -> Int? { [896: 14, 1_536: 12, 3_584: 28][hidden] }
}

/// Qwen3 decoders: no biases, heads normalised, and as wide as they please.
struct Qwen3: DecoderFamily {
  static let types = ["qwen3"]

  let decoder: Decoder

  init(_ config: JSON, _ shapes: Shapes, notes: inout [String]) throws(Failure) {
    decoder = try Decoder(
      config, .init(name: "qwen3", hasHeadNorms: true, theta: 1e6), prefix: Decoder.prefix(shapes), shapes,
      window: try config.qwenWindow(), notes: &notes)
  }
}

extension JSON {
  /// Windows of the layers from `max_window_layers` on, where they are switched on.
  fileprivate func qwenWindow() throws(Failure) -> (size: Int, isLocal: (Int) -> Bool)? {
    guard let value = optional("use_sliding_window"), try value.bool("use_sliding_window"),
      self["sliding_window"] == nil || optional("sliding_window") != nil
    else { return nil }
    let first = try size("max_window_layers", or: 28)
    return (try size("sliding_window", or: 4_096), { $0 >= first })
  }
}
