import Bytes
import Tensors

/// How sentence-transformers turns token vectors into one vector: `modules.json` and the files it names.
struct SentenceRecipe {
  /// Several are put side by side.
  var pooling: [Op.Pooling] = [.mean]
  /// What is done to the pooled vector, in this order.
  var steps: [Step] = [.normalize]
  var maximumTokens: Int?
  var prompts: [Configuration.Prompt] = []
  var defaultPrompt: String?
  /// Files read, to be kept with the model.
  var files: [String] = []
  /// Weights of the steps.
  private(set) var tensors: [Tensor] = []

  enum Step {
    case dense(weight: TensorName, bias: TensorName?, Op.Activation?)
    case norm(gain: TensorName, bias: TensorName)
    case normalize
  }

  /// One pooled row, of length one.
  init(pooling: Op.Pooling = .mean) { self.pooling = [pooling] }

  /// - Parameter assumed: the pooling of a checkpoint that does not say.
  init(_ checkpoint: Checkpoint, assumed: Op.Pooling, notes: inout [String]) throws(Failure) {
    if let modules = try checkpoint.json("modules.json") {
      files.append("modules.json")
      do throws(Failure) { try read(modules, checkpoint) } catch {
        throw error.file == nil ? error.inFile(checkpoint.directory + "modules.json") : error
      }
    } else {
      pooling = [assumed]
      notes.append(
        "no modules.json: \(assumed.rawValue) pooling and normalisation are assumed, as is usual for its kind")
      try readLimits(checkpoint, "")
    }
    try readPrompts(checkpoint, &notes)
  }

  private mutating func read(_ modules: JSON, _ checkpoint: Checkpoint) throws(Failure) {
    var hasPooling = false
    steps = []
    for (index, module) in try modules.elements("modules.json").enumerated() {
      let type = try module.required("type")
      let kind = try type.string("type").split(separator: ".").last.map(String.init) ?? ""
      let path = try module.optional("path")?.bytes("path") ?? []
      let folder = path.isEmpty ? "" : try RelativeName.checked(path) + "/"
      switch (index, kind) {
      case (0, "Transformer"): try readLimits(checkpoint, folder)
      case (1, "Pooling"):
        hasPooling = true
        try readPooling(checkpoint, folder + "config.json")
      case (2..., "Normalize"): steps.append(.normalize)
      case (2..., "Dense"): try readDense(checkpoint, folder)
      case (2..., "LayerNorm"):
        steps.append(
          .norm(
            gain: try weight(checkpoint, folder, "norm.weight"), bias: try weight(checkpoint, folder, "norm.bias")))
      case (2..., "Dropout"): break
      case (_, "Router"), (_, "Asym"):
        throw type.failure(
          "a \(kind) sends queries and documents through different modules, which one graph cannot", .unsupported)
      default:
        throw type.failure(
          "module \(index) of type \(Failure.quoted(kind)) is not supported; Transformer, Pooling, Dense, LayerNorm "
            + "and "
            + "Normalize are, in this order", .unsupported)
      }
    }
    guard hasPooling else { throw Failure(.unsupported, "a model without a Pooling module gives no single vector") }
  }

  private mutating func readLimits(_ checkpoint: Checkpoint, _ folder: String) throws(Failure) {
    for (name, key) in [("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")]
    {
      guard let json = try checkpoint.json(folder + name) else { continue }
      files.append(folder + name)
      guard maximumTokens == nil, let value = json.optional(key) else { continue }
      // Tokenizers write 1e30 for "no limit".
      do throws(Failure) {
        let number = try value.double(key)
        guard number >= 3 else { throw value.failure("\(key) must be at least 3") }
        if number < 1e9 { maximumTokens = try value.integer(key, in: 3...1_000_000_000) }
      } catch { throw error.inFile(checkpoint.directory + folder + name) }
    }
  }

  private mutating func readPooling(_ checkpoint: Checkpoint, _ name: String) throws(Failure) {
    let json = try settings(checkpoint, name)
    do throws(Failure) {
      var modes: [String] = []
      // Newer files say {"pooling_mode": "mean"} or have a list, older ones a flag for each mode.
      if let mode = json.optional("pooling_mode") {
        for mode in mode.kind == .array ? try mode.elements("pooling_mode") : [mode] {
          modes.append(try mode.string("pooling_mode"))
        }
      } else {
        // In the order in which they are joined.
        for mode in ["cls", "max", "mean", "mean_sqrt_len", "weightedmean", "lasttoken"] {
          let flag =
            mode == "lasttoken" ? "pooling_mode_lasttoken" : "pooling_mode_\(mode)_token\(mode == "cls" ? "" : "s")"
          if let value = json.optional(flag), try value.bool(flag) { modes.append(mode) }
        }
      }
      let known: [String: Op.Pooling] = [
        "mean": .mean, "cls": .first, "lasttoken": .last, "max": .max, "weightedmean": .weightedMean,
        "mean_sqrt_len_tokens": .rootMean, "mean_sqrt_len": .rootMean,
      ]
      pooling = modes.compactMap { known[$0] }
      guard pooling.count == modes.count, !modes.isEmpty else {
        throw json.failure(
          "pooling \(modes.joined(separator: " and ")) is not supported; cls, max, mean, mean_sqrt_len_tokens, "
            + "weightedmean and lasttoken are", .unsupported)
      }
      if let value = json.optional("include_prompt"), try !value.bool("include_prompt") {
        throw value.failure("pooling that leaves prompts out (include_prompt false) is not supported", .unsupported)
      }
    } catch { throw error.inFile(checkpoint.directory + name) }
  }

  private mutating func readDense(_ checkpoint: Checkpoint, _ folder: String) throws(Failure) {
    let name = folder + "config.json"
    let json = try settings(checkpoint, name)
    let hasBias: Bool
    let activation: Op.Activation?
    do throws(Failure) {
      hasBias = try json.optional("bias")?.bool("bias") ?? true
      for key in ["module_input_name", "module_output_name"] {
        if let value = json.optional(key), try value.string(key) != "sentence_embedding" {
          throw value.failure("\(key) must be sentence_embedding", .unsupported)
        }
      }
      try json.require("use_residual", false)
      activation = try SentenceRecipe.activation(json)
    } catch { throw error.inFile(checkpoint.directory + name) }
    steps.append(
      .dense(
        weight: try weight(checkpoint, folder, "linear.weight"),
        bias: hasBias ? try weight(checkpoint, folder, "linear.bias") : nil, activation))
  }

  private static func activation(_ json: JSON) throws(Failure) -> Op.Activation? {
    guard let value = json.optional("activation_function") else { return .tanh }
    let name = try value.string("activation_function").split(separator: ".").last.map(String.init) ?? ""
    if name == "Identity" { return nil }
    let known: [String: Op.Activation] = ["Tanh": .tanh, "GELU": .gelu, "ReLU": .relu, "SiLU": .silu]
    guard let activation = known[name] else {
      throw value.failure(
        "activation_function \(Failure.quoted(name)) is not one of Identity, "
          + "\(known.keys.sorted().joined(separator: ", "))",
        .unsupported)
    }
    return activation
  }

  /// A file that a module must have.
  private mutating func settings(_ checkpoint: Checkpoint, _ name: String) throws(Failure) -> JSON {
    guard let json = try checkpoint.json(name) else {
      throw Failure(.missing, "no such file; modules.json names it", file: checkpoint.directory + name)
    }
    files.append(name)
    return json
  }

  /// A tensor of a module; the checkpoint has it under the folder's name.
  private mutating func weight(_ checkpoint: Checkpoint, _ folder: String, _ name: String) throws(Failure) -> TensorName
  {
    let full = TensorName(folder.dropLast() + "." + name)
    guard let tensor = checkpoint.tensors.first(where: { $0.name == full }) else {
      throw Failure(
        .missing, "holds no tensor \(Failure.quoted(name)); modules.json names it",
        file: checkpoint.directory + folder + "model.safetensors")
    }
    tensors.append(tensor)
    return full
  }

  /// Columns of the embedding, from those of a hidden state.
  ///
  /// - Throws: `malformed` for a step that does not take what the one before it gives.
  func width(_ hidden: Int) throws(Failure) -> Int {
    var width = hidden * pooling.count
    func shape(_ name: TensorName) -> [Int] { tensors.first { $0.name == name }?.shape ?? [] }
    func need(_ name: TensorName, _ wanted: [Int]) throws(Failure) {
      guard shape(name) == wanted else {
        throw Failure(
          .malformed, "has shape \(shape(name)), \(wanted) expected after what stands before it",
          thing: "tensor \(name.quoted)")
      }
    }
    for step in steps {
      switch step {
      case .dense(let weight, let bias, _):
        let rows = shape(weight).first ?? 0
        try need(weight, [rows, width])
        if let bias { try need(bias, [rows]) }
        width = rows
      case .norm(let gain, let bias):
        try need(gain, [width])
        try need(bias, [width])
      case .normalize: break
      }
    }
    return width
  }

  /// Hidden states to one vector a sequence.
  func appendHead(_ states: Graph.Source, _ body: inout BodyGraph) {
    let pooled = pooling.map { body.append(.pool($0), states, .input(.starts)) }
    var x = pooled.count == 1 ? pooled[0] : body.append(.concatenate, pooled)
    for step in steps {
      switch step {
      case .dense(let weight, let bias, let activation):
        x = body.append(.linear(.float), [x, .tensor(weight)] + (bias.map { [.tensor($0)] } ?? []))
        if let activation { x = body.append(.activation(activation), x) }
      case .norm(let gain, let bias): x = body.append(.norm(.layer, epsilon: 1e-5), x, .tensor(gain), .tensor(bias))
      case .normalize: x = body.append(.normalize, x)
      }
    }
  }

  private mutating func readPrompts(_ checkpoint: Checkpoint, _ notes: inout [String]) throws(Failure) {
    let name = "config_sentence_transformers.json"
    guard let json = try checkpoint.json(name) else { return }
    files.append(name)
    do throws(Failure) {
      for (key, value) in try json.optional("prompts")?.members("prompts") ?? [] {
        prompts.append(.init(name: String(decoding: key, as: UTF8.self), text: try value.string("prompt")))
      }
      if let value = json.optional("similarity_fn_name"), try value.string("similarity_fn_name") != "cosine" {
        let name = try value.string("similarity_fn_name")
        notes.append("the model compares vectors by \(Failure.quoted(name)); verify and eval compare by cosine")
      }
      guard let value = json.optional("default_prompt_name") else { return }
      let wanted = try value.string("default_prompt_name")
      guard prompts.contains(where: { $0.name == wanted }) else {
        throw value.failure("default_prompt_name \(Failure.quoted(wanted)) is not among the prompts")
      }
      defaultPrompt = wanted
    } catch { throw error.inFile(checkpoint.directory + name) }
  }
}
