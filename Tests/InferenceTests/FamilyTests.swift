import Bytes
import Formats
import Foundation
import Inference
import Inputs
import Passes
import Tensors
import TestSupport
import Testing

/// A tiny random checkpoint of every text family, held to what sentence-transformers makes of it
/// (Tools/make-family-goldens).
struct FamilyTests {
  static let folder = Repository.root + "/Tests/Goldens/families/"
  /// Every folder with a checkpoint.
  static let names = Repository.families

  @Test("every family has a checkpoint")
  func everyFamilyHasACheckpoint() { #expect(FamilyTests.names.count >= 18) }

  static func model(_ name: String, at path: String? = nil) throws -> Model {
    var notes: [String] = []
    return try Import.model(
      try Checkpoint.open(path ?? folder + name), tokenizer: folder + "tokenizer.json", notes: &notes)
  }

  static func samples(_ model: Model) throws -> [Sample] {
    let tokenizer = try Tokenizer.load { (name) throws(Failure) in try model.file(name) }
    let builder = SampleBuilder(model.configuration, tokenizer: tokenizer)
    return try Repository.json("Tests/Goldens/families/texts.json").elements().map { text in
      try builder.build(Item(text: try text.string()), folder: "").sample
    }
  }

  /// sentence-transformers' vectors, row by row.
  static func expected(_ name: String) throws -> [Float] {
    let bytes = try Repository.read("Tests/Goldens/families/\(name)/vectors.npy")
    let start = 10 + Int(bytes[8]) + 256 * Int(bytes[9])
    return stride(from: start, to: bytes.count, by: 4).map { at in
      Float(bitPattern: (0..<4).reduce(0) { $0 | UInt32(bytes[at + $1]) << (8 * UInt32($1)) })
    }
  }

  private static func difference(_ a: [Float], _ b: [Float]) -> Float {
    a.count == b.count ? zip(a, b).map { abs($0 - $1) }.max() ?? .infinity : .infinity
  }

  @Test("embeddings are those of sentence-transformers: 49 texts, empty and longer than the limit", arguments: names)
  func embeddingsAreThoseOfSentenceTransformers(_ name: String) throws {
    let model = try FamilyTests.model(name)
    let samples = try FamilyTests.samples(model)
    #expect(samples.map(\.ids.count).max() == model.configuration.maximumTokens)
    let found = try Embedder(model, on: CPUDevice(threads: 2)).embed(samples)
    let worst = FamilyTests.difference(found, try FamilyTests.expected(name))
    #expect(worst <= 4e-6, "\(worst)")
    // In any company, and split in any way.
    let alone = try samples.flatMap { try Embedder(model, on: CPUDevice(threads: 1, rowsAtATime: 7)).embed([$0]) }
    #expect(found.map(\.bitPattern) == alone.map(\.bitPattern))
  }

  @Test("an adapter is merged as PEFT does it")
  func anAdapterIsMergedAsPEFTDoesIt() throws {
    var notes: [String] = []
    var checkpoint = try Checkpoint.open(FamilyTests.folder + "llama")
    try checkpoint.merge(adapter: FamilyTests.folder + "llama-adapter")
    let model = try Import.model(checkpoint, tokenizer: FamilyTests.folder + "tokenizer.json", notes: &notes)
    let found = try Embedder(model, on: CPUDevice()).embed(try FamilyTests.samples(model))
    let worst = FamilyTests.difference(found, try FamilyTests.expected("llama-adapter"))
    #expect(worst <= 4e-6, "\(worst)")
    #expect(FamilyTests.difference(found, try FamilyTests.expected("llama")) > 1e-2)

    var other = try Checkpoint.open(FamilyTests.folder + "qwen3")
    let failure = #expect(throws: Failure.self) { try other.merge(adapter: FamilyTests.folder + "llama-adapter") }
    #expect(failure?.description.contains("changes a weight of shape") == true, "\(failure as Any)")
    let alone = #expect(throws: Failure.self) { try Checkpoint.open(FamilyTests.folder + "llama-adapter") }
    #expect(alone?.description.contains("--adapter") == true)
  }

  @Test(
    "a GGUF file gives the same, or is refused with a reason",
    arguments: [
      ("modernbert", true), ("nomic", true), ("xlm-roberta", true), ("jina", true), ("jina-code", true),
      ("eurobert", true),
      ("nomic-moe", false), ("gemma3", false), ("mpnet", false), ("gte", false), ("mistral", false), ("llama", false),
    ])
  func aGGUFFileGivesTheSame(_ name: String, isWritten: Bool) throws {
    let model = try FamilyTests.model(name)
    let directory = try TemporaryDirectory()
    let path = directory.path + "/m.gguf"
    guard isWritten else {
      let failure = #expect(throws: Failure.self) { try GGUFExport(model, path: path, .init(type: "F32")) }
      #expect(failure?.kind == .unsupported)
      return
    }
    _ = try GGUFExport(model, path: path, .init(type: "F32", table: "F32")).write(isReplacing: false, threads: 1) { _ in
    }
    var notes: [String] = []
    let back = try Import.model(
      try Checkpoint.open(path), tokenizer: FamilyTests.folder + "tokenizer.json", notes: &notes)
    let samples = Array(try FamilyTests.samples(model)[..<40])
    let before = try Embedder(model, on: CPUDevice()).embed(samples)
    let after = try Embedder(back, on: CPUDevice()).embed(samples)
    #expect(FamilyTests.difference(after, before) <= 1e-6)
  }

  @Test(
    "what a golden has and GGUF has no words for taken away, the rest goes there and back",
    arguments: ["mistral", "llama", "nomic-moe"], [true, false])
  func theRestGoesThereAndBack(_ name: String, isCausal: Bool) throws {
    let directory = try TemporaryDirectory()
    let (source, path) = (directory.path + "/source", directory.path + "/m.gguf")
    try FileManager.default.copyItem(atPath: FamilyTests.folder + name, toPath: source)
    var config = String(decoding: try Repository.read(source + "/config.json"), as: UTF8.self)
    for key in ["rope_parameters", "sliding_window"] { config = config.replacing("\"\(key)\"", with: "\"was_\(key)\"") }
    config = config.replacing(
      "\"model_type\"", with: "\"sliding_window\": null, \"is_causal\": \(isCausal), \"model_type\"")
    try directory.write("source/config.json", config)
    try directory.write("source/1_Pooling/config.json", "{\"pooling_mode\": \"mean\"}")
    var model = try FamilyTests.model(name, at: source)
    for tensor in model.tensors where tensor.name.text.hasSuffix("experts.bias") {
      let zeros = [Float](repeating: 0, count: tensor.count)
      model.set(try Tensor(tensor.name, floats: zeros, shape: tensor.shape))
    }
    _ = try GGUFExport(model, path: path, .init(type: "F32", table: "F32")).write(isReplacing: false, threads: 1) { _ in
    }
    var notes: [String] = []
    let back = try Import.model(
      try Checkpoint.open(path), tokenizer: FamilyTests.folder + "tokenizer.json", notes: &notes)
    let samples = Array(try FamilyTests.samples(model)[..<30])
    let before = try Embedder(model, on: CPUDevice()).embed(samples)
    let after = try Embedder(back, on: CPUDevice()).embed(samples)
    #expect(after.map(\.bitPattern) == before.map(\.bitPattern))
  }

  @Test("fusions change nothing but the last bits, and the reference agrees", arguments: names)
  func fusionsChangeNothingButTheLastBits(_ name: String) throws {
    var model = try FamilyTests.model(name)
    let samples = try FamilyTests.samples(model)
    let expected = try FamilyTests.expected(name)
    let before = model.graphs[0].graph
    var notes: [String] = []
    try Pass.run(Pass.fusions, on: &model, notes: &notes)
    // With one weight for queries, keys and values, biases, and norms that a residual reads too there is nothing to do.
    #expect((model.graphs[0].graph == before) == ["gte", "new", "nomic-moe"].contains(name))
    let found = try Embedder(model, on: CPUDevice()).embed(samples)
    let worst = FamilyTests.difference(found, expected)
    #expect(worst <= 1e-5, "\(worst)")
    let some = [1, 2, 13, 47]
    let exact = try Embedder(model, on: ReferenceDevice()).embed(some.map { samples[$0] })
    let width = model.configuration.width
    let same = some.flatMap { found[$0 * width..<($0 + 1) * width] }
    #expect(FamilyTests.difference(exact, same) <= 1e-5)
  }

  @Test("a checkpoint exported from a container gives the same bits, fused ones nearly", arguments: names)
  func aCheckpointExportedFromAContainerGivesTheSame(_ name: String) throws {
    let model = try FamilyTests.model(name)
    let samples = Array(try FamilyTests.samples(model)[..<20])
    let before = try Embedder(model, on: CPUDevice()).embed(samples)
    let directory = try TemporaryDirectory()
    try CheckpointExport(model, .own).write(directory.path + "/plain", shard: nil, threads: 1) { _ in }
    let plain = try FamilyTests.model(name, at: directory.path + "/plain")
    #expect(try Embedder(plain, on: CPUDevice()).embed(samples).map(\.bitPattern) == before.map(\.bitPattern))
    #expect(plain.graphs[0].graph == model.graphs[0].graph)

    var fused = model
    var notes: [String] = []
    try Pass.run(Pass.fusions, on: &fused, notes: &notes)
    try Pass.run([.unfuse(pixels: nil)], on: &fused, notes: &notes)
    try CheckpointExport(fused, .own).write(directory.path + "/fused", shard: nil, threads: 1) { _ in }
    let unfused = try FamilyTests.model(name, at: directory.path + "/fused")
    let after = try Embedder(unfused, on: CPUDevice()).embed(samples)
    #expect(FamilyTests.difference(after, before) <= 1e-5)
  }

  @Test("modules that other programs make are ignored by name, whether the checkpoint has them or not")
  func modulesThatOtherProgramsMakeAreIgnored() throws {
    for name in ["mpnet", "xlm-roberta"] {
      var model = try FamilyTests.model(name)
      var notes: [String] = []
      let choice = WeightChoice.integers(bits: 4, group: 8, form: .symmetric)
      // Rows of 37 are not whole words of codes.
      let recipe = QuantizeRecipe(
        linear: choice, table: .keep, input: .float, overrides: [("*output.dense.weight", .keep)],
        target: .compressedTensors)
      try Pass.run([.quantize(recipe), .dropUnused], on: &model, notes: &notes)
      #expect(!model.tensors.contains { $0.name.text.hasPrefix("pooler") })
      let directory = try TemporaryDirectory()
      try CheckpointExport(model, .quantized(.compressedTensors)).write(
        directory.path + "/out", shard: nil, threads: 1
      ) { _ in }
      let config = try JSON.parse(try Repository.read(directory.path + "/out/config.json"), what: "config.json")
      let ignored = try config.required("quantization_config").required("ignore").elements().map { try $0.string() }
      #expect(ignored.contains { $0.contains("pooler") && $0.contains("dense") }, "\(ignored)")
    }
  }

  @Test("weights and inputs of eight bits, and of four, stay near", arguments: names)
  func quantizedWeightsStayNear(_ name: String) throws {
    let model = try FamilyTests.model(name)
    let samples = Array(try FamilyTests.samples(model)[..<20])
    let before = try Embedder(model, on: CPUDevice()).embed(samples)
    let width = model.configuration.width
    for (bits, input, least) in [(8, Op.LinearInput.int8, 0.98), (4, .float, 0.6)] as [(Int, Op.LinearInput, Float)] {
      var candidate = model
      var notes: [String] = []
      let choice = WeightChoice.integers(bits: bits, group: bits == 8 ? nil : 8, form: bits == 8 ? .symmetric : .affine)
      let recipe = QuantizeRecipe(linear: choice, table: .keep, input: input)
      try Pass.run(Pass.fusions + [Pass.quantize(recipe)], on: &candidate, notes: &notes)
      let after = try Embedder(candidate, on: CPUDevice()).embed(samples)
      var cosines: [Float] = []
      for row in samples.indices {
        let (a, b) = (before[row * width..<(row + 1) * width], after[row * width..<(row + 1) * width])
        func dot(_ x: ArraySlice<Float>, _ y: ArraySlice<Float>) -> Float { zip(x, y).reduce(0) { $0 + $1.0 * $1.1 } }
        cosines.append(dot(a, b) / (dot(a, a) * dot(b, b)).squareRoot())
      }
      let mean = cosines.reduce(0, +) / Float(cosines.count)
      #expect(mean >= least && mean < 1, "\(bits) bits: \(mean)")
    }
  }
}
