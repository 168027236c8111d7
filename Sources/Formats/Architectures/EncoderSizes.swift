import Bytes
import Tensors

/// What BERT and those with its layers share: sizes as transformers calls them, and everything in a layer after
/// attention.
struct EncoderSizes: Sendable {
  let hidden, layers, heads, intermediate, vocabulary, positions: Int
  let epsilon: Double
  let activation: Op.Activation

  init(_ config: JSON) throws(Failure) {
    hidden = try config.size("hidden_size")
    layers = try config.layers("num_hidden_layers")
    heads = try config.heads("num_attention_heads", of: hidden)
    intermediate = try config.size("intermediate_size")
    vocabulary = try config.size("vocab_size")
    positions = try config.size("max_position_embeddings")
    epsilon = try config.epsilon("layer_norm_eps", or: 1e-12)
    activation = try config.activation("hidden_act", or: .gelu)
  }

  var dimensions: [String: Int] {
    [
      "hidden_size": hidden, "intermediate_size": intermediate, "vocab_size": vocabulary,
      "max_position_embeddings": positions,
    ]
  }

  var attention: Op.Attention {
    let width = hidden / heads
    return Op.Attention(
      heads: heads, keyValueHeads: heads, headWidth: width, scale: 1 / Double(width).squareRoot(), isCausal: false)
  }

  /// What attention gave is projected, added to what it saw and normalised; so is what the MLP makes of that.
  ///
  /// - Parameters:
  ///   - layer: in front of the layer's names, with a final dot.
  ///   - projection, norm: what the layer calls those of attention.
  func rest(
    of layer: String, projection: String, norm: String, _ mixed: Graph.Source, _ x: Graph.Source,
    _ body: inout BodyGraph
  ) -> Graph.Source {
    let added = body.append(.add, body.linear(mixed, layer + projection), x)
    let middle = body.norm(added, layer + norm, .layer, epsilon: epsilon)
    let wide = body.append(.activation(activation), body.linear(middle, layer + "intermediate.dense"))
    let sum = body.append(.add, body.linear(wide, layer + "output.dense"), middle)
    return body.norm(sum, layer + "output.LayerNorm", .layer, epsilon: epsilon)
  }
}
