import Bytes
import Tensors

/// A checkpoint made into a model: configuration read, names and shapes held to the architecture, graph built.
public enum Import {
  private static let otherFiles = [
    "config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json",
    "added_tokens.json",
  ]

  /// - Throws: what is wrong with any file of the checkpoint; nothing has been written then.
  public static func model(_ checkpoint: Checkpoint, notes: inout [String]) throws(Failure) -> Model {
    notes += checkpoint.notes
    guard let config = try checkpoint.json("config.json") else {
      throw Failure(
        .missing, "no such file; it says what the checkpoint's tensors mean", file: checkpoint.directory + "config.json"
      )
    }
    let recipe = try SentenceRecipe(checkpoint, notes: &notes)
    var model: Model
    do throws(Failure) {
      if config["auto_map"] != nil {
        notes.append("config.json names Python code (auto_map); it is ignored, never run")
      }
      let type = try config.required("model_type")
      switch try type.string("model_type") {
      case "bert": model = try Bert.model(checkpoint, config: config, recipe: recipe, notes: &notes)
      case let other:
        throw type.failure("model_type \(Failure.quoted(other)) is not supported; supported: bert", .unsupported)
      }
    } catch {
      throw error.inFile(error.thing == nil ? checkpoint.directory + "config.json" : checkpoint.weights[0].path)
    }
    for name in Set(otherFiles + recipe.files).sorted() {
      let limit = name == "tokenizer.json" ? Limits.tokenizer : Limits.config
      guard let bytes = try checkpoint.file(name, limit: limit) else { continue }
      model.files.append((name, .bytes(ByteView(try Buffer(bytes))), bytes.count))
    }
    try model.checkInvariants()
    return model
  }

  /// What `history` says of an import: name, size and SHA-256 of each file that holds tensors.
  public static func provenance(_ checkpoint: Checkpoint) throws(Failure) -> JSONText {
    var sources: [JSONText] = []
    for file in checkpoint.weights {
      let digest = try SHA256.text(of: ByteView(file, 0, file.count))
      try file.checkUnchanged()
      let name = file.path.split(separator: "/").last.map(String.init) ?? file.path
      sources.append(["file": .string(name), "bytes": .int(file.count), "sha256": .string(digest)])
    }
    return ["step": "import", "sources": .array(sources)]
  }
}
