import Bytes
import Tensors

/// How sentence-transformers turns token vectors into one vector: `modules.json` and the files it names.
struct SentenceRecipe {
  var pooling = Op.Pooling.mean
  var isNormalized = true
  var maximumTokens: Int?
  var prompts: [Configuration.Prompt] = []
  var defaultPrompt: String?
  /// Files read, to be kept with the model.
  var files: [String] = []

  init() {}

  /// - Parameter assumed: the pooling of a checkpoint that does not say.
  init(_ checkpoint: Checkpoint, assumed: Op.Pooling, notes: inout [String]) throws(Failure) {
    if let modules = try checkpoint.json("modules.json") {
      files.append("modules.json")
      do throws(Failure) { try read(modules, checkpoint) } catch {
        throw error.inFile(checkpoint.directory + "modules.json")
      }
    } else {
      pooling = assumed
      notes.append(
        "no modules.json: \(assumed.rawValue) pooling and normalisation are assumed, as is usual for its kind")
      try readLimits(checkpoint, "")
    }
    try readPrompts(checkpoint)
  }

  private mutating func read(_ modules: JSON, _ checkpoint: Checkpoint) throws(Failure) {
    var hasPooling = false
    isNormalized = false
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
      case (2..., "Normalize"): isNormalized = true
      default:
        throw type.failure(
          "module \(index) of type \(Failure.quoted(kind)) is not supported; Transformer, Pooling, Normalize are",
          .unsupported)
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
    guard let json = try checkpoint.json(name) else {
      throw Failure(.missing, "no such file; modules.json names it", file: checkpoint.directory + name)
    }
    files.append(name)
    do throws(Failure) {
      var modes: [String] = []
      // Newer files say {"pooling_mode": "mean"}, older ones have a flag for each mode.
      if let mode = json.optional("pooling_mode") { modes.append(try mode.string("pooling_mode")) }
      let flags = [
        "pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_lasttoken": "lasttoken",
        "pooling_mode_max_tokens": "max", "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
        "pooling_mode_weightedmean_tokens": "weightedmean",
      ]
      for (flag, mode) in flags.sorted(by: { $0.key < $1.key }) {
        if let value = json.optional(flag), try value.bool(flag) { modes.append(mode) }
      }
      let known: [String: Op.Pooling] = ["mean": .mean, "cls": .first, "lasttoken": .last]
      guard modes.count == 1, let pooling = known[modes[0]] else {
        throw json.failure(
          "pooling \(modes.joined(separator: " and ")) is not supported; mean, cls or lasttoken is", .unsupported)
      }
      self.pooling = pooling
    } catch { throw error.inFile(checkpoint.directory + name) }
  }

  private mutating func readPrompts(_ checkpoint: Checkpoint) throws(Failure) {
    let name = "config_sentence_transformers.json"
    guard let json = try checkpoint.json(name) else { return }
    files.append(name)
    do throws(Failure) {
      for (key, value) in try json.optional("prompts")?.members("prompts") ?? [] {
        prompts.append(.init(name: String(decoding: key, as: UTF8.self), text: try value.string("prompt")))
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
