import Bytes
import Foundation
import Formats
import Inference
import Inputs
import Passes
import TestSupport
import Tensors
import Testing

/// A tiny LLaVE with random weights, held to what transformers' modules give (Tools/make-llave-goldens).
struct LlaveTests {
  static let folder = Repository.root + "/Tests/Goldens/llave/"

  struct Case {
    let name: String
    let config: String
    let item: Item
    let tokens: Int
    let embedding: [Float]
  }

  static func cases() throws -> [Case] {
    try Repository.json("Tests/Goldens/llave/cases.json").elements().map { row in
      Case(
        name: try row.required("name").string(), config: try changed(try row.required("config")),
        item: try Item(try row.required("item")), tokens: try row.required("tokens").integer(in: 1...10_000),
        embedding: try row.required("embedding").elements().map { Float(try $0.double()) })
    }
  }

  /// The model's config.json with a few keys replaced.
  static func changed(_ changes: JSON) throws -> String {
    let data = try Data(contentsOf: URL(fileURLWithPath: folder + "model/config.json"))
    var config = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    for (key, value) in try changes.members() {
      let name = String(decoding: key, as: UTF8.self)
      switch value.kind {
      case .string: config[name] = try value.string()
      case .number: config[name] = try value.integer(in: 0...1_000_000)
      default: config[name] = try value.elements().map { try $0.elements().map { try $0.integer(in: 0...10_000) } }
      }
    }
    return String(decoding: try JSONSerialization.data(withJSONObject: config), as: UTF8.self)
  }

  /// The tiny checkpoint under another configuration.
  static func model(_ config: String? = nil) throws -> Model {
    guard let config else {
      var notes: [String] = []
      return try Import.model(try Checkpoint.open(folder + "model"), notes: &notes)
    }
    let directory = try TemporaryDirectory()
    try directory.write("config.json", config)
    for name in ["model.safetensors", "tokenizer.json"] {
      try FileManager.default.createSymbolicLink(
        atPath: directory.path + "/" + name, withDestinationPath: folder + "model/" + name)
    }
    var notes: [String] = []
    var model = try Import.model(try Checkpoint.open(directory.path), notes: &notes)
    // The directory goes away before the model does.
    for tensor in model.tensors {
      model.set(
        Tensor(tensor.name, shape: tensor.shape, encoding: tensor.encoding, content: .bytes(ByteView(try tensor.load()))))
    }
    return model
  }

  static func builder(_ model: Model) throws -> SampleBuilder {
    let tokenizer = try Tokenizer.load { (name) throws(Failure) in try model.file(name) }
    return SampleBuilder(model.configuration, tokenizer: tokenizer)
  }

  static func difference(_ a: some Sequence<Float>, _ b: some Sequence<Float>) -> Float {
    zip(a, b).map { abs($0 - $1) }.max() ?? .infinity
  }

  @Test("embeddings are those of transformers: tiles, grids, reduction, several images, video, text")
  func embeddingsAreThoseOfTransformers() throws {
    let cases = try LlaveTests.cases()
    #expect(cases.count == 18)
    for row in cases {
      let model = try LlaveTests.model(row.config)
      let builder = try LlaveTests.builder(model)
      let built = try builder.build(row.item, folder: LlaveTests.folder)
      #expect(built.sample.ids.count == row.tokens, "\(row.name)")
      let found = try Embedder(model, on: CPUDevice(), prefix: builder.prefix).embed([built.sample])
      let worst = LlaveTests.difference(found, row.embedding)
      #expect(worst <= 2e-6 && found.count == 64, "\(row.name): \(worst)")
    }
  }

  static func samples() throws -> (model: Model, prefix: [Int32], samples: [Sample]) {
    let model = try LlaveTests.model()
    let builder = try LlaveTests.builder(model)
    let samples = try LlaveTests.cases().filter { $0.config.contains("\"grid\"") && $0.tokens != 60 }.map {
      try builder.build($0.item, folder: LlaveTests.folder).sample
    }
    return (model, builder.prefix, samples)
  }

  @Test("an embedding depends on its own sample alone")
  func anEmbeddingDependsOnItsOwnSampleAlone() throws {
    let (model, prefix, samples) = try LlaveTests.samples()
    let embedder = try Embedder(model, on: CPUDevice(threads: 2), prefix: prefix)
    let together = try embedder.embed(samples)
    let alone = try samples.flatMap { try embedder.embed([$0]) }
    let isSame = together.map(\.bitPattern) == alone.map(\.bitPattern)
    #expect(isSame && samples.count > 8)
    let three = try Embedder(model, on: CPUDevice(threads: 3), prefix: prefix).embed(samples.reversed())
    let isReversed = (0..<samples.count).allSatisfy { row in
      let other = samples.count - 1 - row
      return together[row * 64..<(row + 1) * 64].elementsEqual(three[other * 64..<(other + 1) * 64])
    }
    #expect(isReversed)
  }

  @Test("weights that come and go give the same bits as weights that stay")
  func weightsThatComeAndGoGiveTheSameBits() throws {
    let (model, prefix, samples) = try LlaveTests.samples()
    let resident = try Embedder(model, on: CPUDevice(), prefix: prefix).embed(samples)
    let streamed = try Embedder(model, on: CPUDevice(), prefix: prefix, memory: 0).embed(samples)
    let isSame = resident.map(\.bitPattern) == streamed.map(\.bitPattern)
    #expect(isSame)
  }

  @Test("sharing the prompt and pooling early change nothing but rounding")
  func sharingThePromptAndPoolingEarlyChangeNothingButRounding() throws {
    let (model, prefix, samples) = try LlaveTests.samples()
    let plain = try Embedder(model, on: ReferenceDevice()).embed(Array(samples.prefix(4)))
    let shared = try Embedder(model, on: ReferenceDevice(), prefix: prefix).embed(Array(samples.prefix(4)))
    #expect(prefix.count > 5 && LlaveTests.difference(plain, shared) < 1e-7)
    var early = model
    var notes: [String] = []
    try Pass.run([.poolEarly], on: &early, notes: &notes)
    let pooled = try Embedder(early, on: ReferenceDevice(), prefix: prefix).embed(Array(samples.prefix(4)))
    #expect(LlaveTests.difference(plain, pooled) < 1e-7)
    // The last layer's MLP must see one row a sample, not all tokens.
    let graph = try #require(early.graph("text"))
    let types = try graph.types(
      tensor: { name in early[name].map { ValueType(.fixed($0.shape.count == 1 ? 1 : $0.rows), $0.columns) } },
      input: { early.configuration.type(of: $0) })
    let last = try #require(graph.nodes.lastIndex { if case .linear = $0.op { true } else { false } })
    #expect(types[last].rows == .sequences)
    let attention = try #require(graph.nodes.lastIndex { if case .attention = $0.op { true } else { false } })
    #expect(types[attention].rows == .sequences)
  }
}
