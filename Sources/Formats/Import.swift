import Bytes
import Tensors

/// A checkpoint made into a model: configuration read, names and shapes held to the architecture, graph built.
public enum Import {
  private static let otherFiles = [
    "config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "preprocessor_config.json", "generation_config.json",
  ]

  /// - Parameter tokenizer: a `tokenizer.json`, or a GGUF file with tokenizer keys, in the place of the checkpoint's
  ///   own.
  /// - Throws: what is wrong with any file of the checkpoint; nothing has been written then.
  public static func model(
    _ source: Checkpoint, tokenizer: String? = nil, notes: inout [String]
  ) throws(Failure) -> Model {
    var checkpoint = source
    notes += checkpoint.notes
    guard let config = try checkpoint.json("config.json") else {
      throw Failure(
        .missing, "no such file; it says what the checkpoint's tensors mean", file: checkpoint.directory + "config.json"
      )
    }
    var recipe = SentenceRecipe()
    var model: Model
    var roundedInputs: Set<TensorName> = []
    do throws(Failure) {
      if config["auto_map"] != nil {
        notes.append("config.json names Python code (auto_map); it is ignored, never run")
      }
      if let decoded = try QuantizedImport.decoded(checkpoint, config: config, notes: &notes) {
        (checkpoint, roundedInputs) = decoded
      }
      let shapes = Shapes(checkpoint.tensors)
      // What the tensors are called says more than what the configuration calls the model.
      if let layout = Llave.Layout(shapes) {
        model = try Llave.model(checkpoint, config: config, layout, shapes, notes: &notes)
      } else {
        let type = try config.required("model_type")
        let name = try type.string("model_type")
        if ["siglip", "siglip_vision_model"].contains(name) {
          model = try Siglip.model(checkpoint, config: config, notes: &notes)
        } else if let family = try TextFamilies.family(name, config) {
          recipe = try SentenceRecipe(checkpoint, assumed: family.pooling, notes: &notes)
          var body = checkpoint
          body.tensors.removeAll { tensor in recipe.tensors.contains { $0.name == tensor.name } }
          body.tensors = try family.apart(body.tensors, config)
          model = try family.init(config, Shapes(body.tensors), notes: &notes).model(body, recipe, notes: &notes)
        } else {
          let known = (TextFamilies.types + ["llava_onevision (LLaVE)", "siglip"]).sorted()
          throw type.failure(
            "model_type \(Failure.quoted(name)) is not supported; supported: \(known.joined(separator: ", "))",
            .unsupported)
        }
      }
    } catch {
      throw error.inFile(
        error.thing == nil && !checkpoint.isMade ? checkpoint.directory + "config.json" : checkpoint.weights[0].path)
    }
    model.roundInputs(of: roundedInputs)
    let given = try tokenizer.map { (path) throws(Failure) in try tokenizerFile(path, &notes) }
    for name in Set(otherFiles + recipe.files).sorted() {
      if name == "tokenizer.json", let given {
        model.files.append((name, .bytes(ByteView(try Buffer(given))), given.count))
        continue
      }
      if name == "tokenizer.json", try checkpoint.file(name, limit: Limits.tokenizer) == nil,
        let made = try SentencePieceModel.tokenizerJSON(checkpoint)?.bytes()
      {
        model.files.append((name, .bytes(ByteView(try Buffer(made))), made.count))
        continue
      }
      let limit = ["tokenizer.json", "vocab.json", "merges.txt"].contains(name) ? Limits.tokenizer : Limits.config
      guard let bytes = try checkpoint.file(name, limit: limit) else { continue }
      model.files.append((name, .bytes(ByteView(try Buffer(bytes))), bytes.count))
    }
    try model.checkInvariants()
    return model
  }

  private static func tokenizerFile(_ path: String, _ notes: inout [String]) throws(Failure) -> [UInt8] {
    let file = try InputFile(path)
    guard case .gguf = try CheckpointFormat.detect(file) else {
      return try file.all(limit: Limits.tokenizer, what: "tokenizer")
    }
    do throws(Failure) {
      let keys = try GGUF.read(path).keys
      notes += try keys.tokenizerNotes()
      return try keys.tokenizerJSON().bytes()
    } catch { throw error.inFile(path) }
  }

  /// A hash of all that a model was imported from: the files with tensors, and what became files of the model.
  ///
  /// - Cost: one XXH64 over every file, which takes as long as reading them.
  public static func checksum(_ checkpoint: Checkpoint, _ model: Model) throws(Failure) -> UInt64 {
    var hash = XXH64()
    for file in checkpoint.weights {
      try ByteView(file, 0, file.count).forEachChunk { (chunk) throws(Failure) in hash.update(chunk) }
      try file.checkUnchanged()
    }
    for file in model.files {
      Array(file.name.utf8).withUnsafeBytes { hash.update($0) }
      try model.file(file.name)?.withUnsafeBytes { hash.update($0) }
    }
    return hash.value()
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

extension Model {
  /// Linear operations with these weights round their inputs to eight bits.
  fileprivate mutating func roundInputs(of weights: Set<TensorName>) {
    for place in graphs.indices {
      for (index, node) in graphs[place].graph.nodes.enumerated() {
        guard node.op == .linear(.float), case .tensor(let name) = node.inputs[1], weights.contains(name)
        else { continue }
        graphs[place].graph.replace(index, with: .init(.linear(.int8), node.inputs))
      }
    }
  }
}
