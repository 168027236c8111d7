import Bytes
import Tensors

/// A family of text models: what its checkpoints hold, and the graph over them. One file for each in this folder; a new
/// one goes into `all`.
protocol TextFamily: Sendable {
  /// What `model_type` in config.json says of them; the first is the container's name for the architecture.
  static var types: [String] { get }
  /// Pooling of a checkpoint that does not say.
  static var pooling: Op.Pooling { get }

  /// Whether a checkpoint is of this family. `type` is its `model_type`, or the container's name for it.
  static func isNamed(_ type: String, _ config: JSON) throws(Failure) -> Bool
  /// A checkpoint's tensors as the graph reads them, where one holds the weights of several operations.
  static func apart(_ tensors: [Tensor], _ config: JSON) throws(Failure) -> [Tensor]

  init(_ config: JSON, _ shapes: Shapes, notes: inout [String]) throws(Failure)

  /// The other way than `apart`: as checkpoints have them, or GGUF files.
  func together(_ tensors: [Tensor], forGGUF: Bool) throws(Failure) -> [Tensor]

  var architecture: Architecture { get }
  /// Columns of a hidden state.
  var hidden: Int { get }
  /// Rows of the token table.
  var vocabulary: Int { get }
  /// Tokens of one input at most.
  var longest: Int { get }
  /// What stands in front of every name here, and in the family's first layout.
  var prefixes: (own: String, first: String) { get }
  /// Appends everything from tokens to the hidden states that are pooled.
  func hiddenStates(_ body: inout BodyGraph) -> Graph.Source
}

enum TextFamilies {
  static let all: [any TextFamily.Type] = [
    JinaBert.self, Bert.self, MPNet.self, NomicBert.self, ModernBert.self, GTE.self, Qwen2.self, Qwen3.self,
    Llama.self, Gemma3.self, EuroBert.self,
  ]

  static func family(_ type: String, _ config: JSON) throws(Failure) -> (any TextFamily.Type)? {
    for family in all where try family.isNamed(type, config) { return family }
    return nil
  }

  /// Every `model_type` that is read.
  static var types: [String] { all.flatMap { $0.types } }
}

extension TextFamily {
  static func isNamed(_ type: String, _ config: JSON) throws(Failure) -> Bool { types.contains(type) }
  static func apart(_ tensors: [Tensor], _ config: JSON) throws(Failure) -> [Tensor] { tensors }
  func together(_ tensors: [Tensor], forGGUF: Bool) throws(Failure) -> [Tensor] { tensors }

  /// The model: the checkpoint's tensors as they are, and the graph over them.
  func model(_ checkpoint: Checkpoint, _ recipe: SentenceRecipe, notes: inout [String]) throws(Failure) -> Model {
    let match = try architecture.match(checkpoint.tensors, notes: &notes)
    var model = Model(
      configuration: Configuration(
        architecture: Self.types[0], width: try recipe.width(hidden), vocabulary: vocabulary,
        maximumTokens: min(recipe.maximumTokens ?? longest, longest)))
    model.configuration.prompts = recipe.prompts
    model.configuration.defaultPrompt = recipe.defaultPrompt
    for tensor in checkpoint.tensors where !match.dead.contains(tensor.name) { model.set(tensor) }
    for tensor in recipe.tensors { model.set(tensor) }
    var body = BodyGraph(match)
    let states = hiddenStates(&body)
    recipe.appendHead(states, &body)
    model.graphs = [("text", body.graph)]
    return model
  }
}

extension JSON {
  static let sizes = 1...(1 << 24)

  /// A positive whole number under the first of the keys that is there.
  func size(_ keys: String..., or missing: Int? = nil) throws(Failure) -> Int {
    for key in keys { if let value = optional(key) { return try value.integer(key, in: JSON.sizes) } }
    if let missing { return missing }
    return try required(keys[0]).integer(keys[0], in: JSON.sizes)
  }

  /// What is added to a variance, above 0 and below 1.
  func epsilon(_ keys: String..., or missing: Double) throws(Failure) -> Double {
    for key in keys {
      guard let value = self[key] else { continue }
      let epsilon = try value.double(key)
      guard epsilon > 0, epsilon < 1 else { throw value.failure("\(key) must be above 0 and below 1") }
      return epsilon
    }
    return missing
  }

  /// Layers as a configuration counts them; how many the checkpoint has decides what is made of it.
  func layers(_ keys: String...) throws(Failure) -> Int {
    for key in keys { if let value = optional(key) { return try value.integer(key, in: 1...Int(Int32.max)) } }
    return try required(keys[0]).integer(keys[0], in: 1...Int(Int32.max))
  }

  /// An activation by the name that transformers has for it.
  func activation(_ keys: String..., or missing: Op.Activation) throws(Failure) -> Op.Activation {
    let known: [String: Op.Activation] = [
      "gelu": .gelu, "gelu_new": .geluTanh, "gelu_pytorch_tanh": .geluTanh, "gelu_fast": .geluTanh, "relu": .relu,
      "silu": .silu, "swish": .silu, "tanh": .tanh,
    ]
    for key in keys {
      guard let value = optional(key) else { continue }
      let name = try value.string(key)
      guard let activation = known[name] else {
        throw value.failure(
          "\(key) \(Failure.quoted(name)) is not one of \(known.keys.sorted().joined(separator: ", "))", .unsupported)
      }
      return activation
    }
    return missing
  }

  /// Heads that divide the width.
  func heads(_ keys: String..., of hidden: Int) throws(Failure) -> Int {
    for key in keys {
      guard let value = optional(key) else { continue }
      let heads = try value.integer(key, in: JSON.sizes)
      guard hidden % heads == 0 else { throw value.failure("\(key) \(heads) must divide hidden_size \(hidden)") }
      return heads
    }
    throw failure("the key \"\(keys[0])\" is missing")
  }

  /// Refuses a setting that is there with another value.
  func require(_ key: String, _ wanted: Bool) throws(Failure) {
    guard let value = optional(key), try value.bool(key) != wanted else { return }
    throw value.failure("\(key) must be \(wanted)", .unsupported)
  }
}
