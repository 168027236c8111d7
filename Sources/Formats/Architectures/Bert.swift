import Bytes
import Tensors

/// BERT encoders (Devlin et al. 2018) as transformers writes them: post-norm, learned positions, absolute. RoBERTa and
/// XLM-RoBERTa differ in where positions start.
struct Bert: TextFamily {
  static let types = ["bert", "roberta", "xlm-roberta", "camembert"]
  static let pooling = Op.Pooling.mean

  let sizes: EncoderSizes
  let types: Int
  /// The first token's row of the table of positions.
  let firstPosition: Int
  private let prefix: String

  var hidden: Int { sizes.hidden }
  var vocabulary: Int { sizes.vocabulary }
  var longest: Int { sizes.positions - firstPosition }
  var prefixes: (own: String, first: String) { (prefix, "") }

  init(_ config: JSON, _ shapes: Shapes, notes: inout [String]) throws(Failure) {
    sizes = try EncoderSizes(config)
    types = try config.size("type_vocab_size", or: 2)
    if try config.required("model_type").string("model_type") == "bert" {
      firstPosition = 0
    } else {
      // Rows up to that of padding are of no token.
      firstPosition = 1 + (try config.optional("pad_token_id")?.integer("pad_token_id", in: 0...(1 << 24)) ?? 1)
    }
    guard sizes.positions > firstPosition + 2 else {
      throw config.failure("max_position_embeddings \(sizes.positions) leaves no positions after row \(firstPosition)")
    }
    if let kind = config.optional("position_embedding_type"), try kind.string() != "absolute" {
      throw kind.failure(
        "position_embedding_type \(Failure.quoted(try kind.string())) is not read; only absolute", .unsupported)
    }
    if let isDecoder = config.optional("is_decoder"), try isDecoder.bool("is_decoder") {
      throw isDecoder.failure("a BERT decoder is not read; only encoders", .unsupported)
    }
    prefix = shapes.prefix(["", "bert.", "roberta.", "model."], of: Bert.rules[0].pattern)
  }

  var architecture: Architecture {
    Architecture(
      name: "bert", rules: Bert.rules,
      dimensions: sizes.dimensions.merging(["type_vocab_size": types]) { $1 },
      stacks: [.init(head: "encoder.layer.", layers: sizes.layers)], prefix: prefix)
  }

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

  func hiddenStates(_ body: inout BodyGraph) -> Graph.Source {
    let words = body.append(.embedding(), body.tensor("embeddings.word_embeddings.weight"), .input(.tokens))
    let places = body.append(
      .embedding(offset: firstPosition), body.tensor("embeddings.position_embeddings.weight"), .input(.positions))
    // One text is all of type 0.
    let type = body.append(.row(0), body.tensor("embeddings.token_type_embeddings.weight"))
    var x = body.append(.add, body.append(.add, words, places), type)
    x = body.norm(x, "embeddings.LayerNorm", .layer, epsilon: sizes.epsilon)
    for layer in 0..<sizes.layers {
      let name = "encoder.layer.\(layer)."
      let (q, k, v) = (
        body.linear(x, name + "attention.self.query"), body.linear(x, name + "attention.self.key"),
        body.linear(x, name + "attention.self.value")
      )
      let mixed = body.append(.attention(sizes.attention), q, k, v, .input(.starts))
      x = sizes.rest(
        of: name, projection: "attention.output.dense", norm: "attention.output.LayerNorm", mixed, x, &body)
    }
    return x
  }
}
