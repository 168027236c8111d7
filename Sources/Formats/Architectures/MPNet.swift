import Bytes
import Tensors

/// MPNet encoders (Song et al. 2020): BERT with biases for the distance between two tokens, shared by all layers.
struct MPNet: TextFamily {
  static let types = ["mpnet"]
  static let pooling = Op.Pooling.mean

  let sizes: EncoderSizes
  let buckets: Int
  private let prefix: String
  /// Rows of the table of positions up to that of padding, which is 1 whatever the configuration says.
  private static let firstPosition = 2
  /// From where on all tokens share a bucket.
  private static let farthest = 128

  var hidden: Int { sizes.hidden }
  var vocabulary: Int { sizes.vocabulary }
  var longest: Int { sizes.positions - MPNet.firstPosition }
  var prefixes: (own: String, first: String) { (prefix, "") }

  init(_ config: JSON, _ shapes: Shapes, notes: inout [String]) throws(Failure) {
    sizes = try EncoderSizes(config)
    buckets = try config.size("relative_attention_num_buckets", or: 32)
    guard buckets == 32 else {
      // transformers' code computes with 32 whatever the table has.
      throw config.failure("relative_attention_num_buckets \(buckets) is not supported; 32 is", .unsupported)
    }
    guard sizes.positions > MPNet.firstPosition + 2 else {
      throw config.failure("max_position_embeddings \(sizes.positions) leaves no positions")
    }
    prefix = shapes.prefix(["", "mpnet."], of: MPNet.rules[0].pattern)
  }

  var architecture: Architecture {
    Architecture(
      name: "mpnet", rules: MPNet.rules,
      dimensions: sizes.dimensions.merging(["buckets": buckets, "num_attention_heads": sizes.heads]) { $1 },
      stacks: [.init(head: "encoder.layer.", layers: sizes.layers)], prefix: prefix)
  }

  private static let layer = "encoder.layer.{layer}."
  private static let rules: [Architecture.Rule] =
    [
      .init("embeddings.word_embeddings.weight", ["vocab_size", "hidden_size"]),
      .init("embeddings.position_embeddings.weight", ["max_position_embeddings", "hidden_size"]),
      .init("encoder.relative_attention_bias.weight", ["buckets", "num_attention_heads"]),
      .init("embeddings.position_ids", nil, .unused),
      .init("pooler.dense.weight", nil, .unused),
      .init("pooler.dense.bias", nil, .unused),
    ] + Architecture.Rule.norm("embeddings.LayerNorm", "hidden_size")
    + ["q", "k", "v", "o"].flatMap {
      Architecture.Rule.linear(layer + "attention.attn.\($0)", "hidden_size", "hidden_size")
    }
    + Architecture.Rule.norm(layer + "attention.LayerNorm", "hidden_size")
    + Architecture.Rule.linear(layer + "intermediate.dense", "intermediate_size", "hidden_size")
    + Architecture.Rule.linear(layer + "output.dense", "hidden_size", "intermediate_size")
    + Architecture.Rule.norm(layer + "output.LayerNorm", "hidden_size")

  func hiddenStates(_ body: inout BodyGraph) -> Graph.Source {
    var attention = sizes.attention
    attention.farthest = MPNet.farthest
    let words = body.append(.embedding(), body.tensor("embeddings.word_embeddings.weight"), .input(.tokens))
    let places = body.append(
      .embedding(offset: MPNet.firstPosition), body.tensor("embeddings.position_embeddings.weight"), .input(.positions))
    var x = body.norm(body.append(.add, words, places), "embeddings.LayerNorm", .layer, epsilon: sizes.epsilon)
    for layer in 0..<sizes.layers {
      let name = "encoder.layer.\(layer)."
      let (q, k, v) = (
        body.linear(x, name + "attention.attn.q"), body.linear(x, name + "attention.attn.k"),
        body.linear(x, name + "attention.attn.v")
      )
      let mixed = body.append(
        .attention(attention), q, k, v, .input(.starts), body.tensor("encoder.relative_attention_bias.weight"))
      x = sizes.rest(of: name, projection: "attention.attn.o", norm: "attention.LayerNorm", mixed, x, &body)
    }
    return x
  }
}
