import Bytes
import Tensors

/// Gemma 3's text decoders, EmbeddingGemma among them: gains stored less one, norms around attention and MLP, windows
/// in five layers of six with a rotation of their own, tokens scaled.
struct Gemma3: DecoderFamily {
  static let types = ["gemma3_text"]

  let decoder: Decoder
  static var pooling: Op.Pooling { .mean }

  init(_ config: JSON, _ shapes: Shapes, notes: inout [String]) throws(Failure) {
    if let value = config.optional("attn_logit_softcapping") {
      throw value.failure("attn_logit_softcapping is not supported", .unsupported)
    }
    let isBidirectional =
      try config.optional("use_bidirectional_attention")?.bool("use_bidirectional_attention") ?? false
    let size = try config.size("sliding_window", or: 4_096)
    let every = try config.size("sliding_window_pattern", "_sliding_window_pattern", or: 6)
    // As GGUF files have them.
    let hasWholeGains = try config.optional("gains_are_whole")?.bool("gains_are_whole") ?? false
    decoder = try Decoder(
      config,
      .init(
        name: "gemma3", norm: hasWholeGains ? .rms : .rmsPlusOne, hasHeadNorms: true, hasOuterNorms: true,
        scalesTokens: true, theta: 1e6,
        localTheta: ("rope_local_base_freq", 10_000)),
      prefix: Decoder.prefix(shapes), shapes,
      // Both ways the window is shared out to both sides.
      window: (isBidirectional ? size / 2 + 1 : size, { ($0 + 1) % every != 0 }), notes: &notes)
  }
}
