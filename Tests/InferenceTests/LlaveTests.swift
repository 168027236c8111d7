import Bytes
import Formats
import Inference
import Inputs
import Passes
import TestSupport
import Tensors
import Testing

/// A tiny LLaVE with random weights, held to what transformers' modules give (Tools/make-llave-goldens).
struct LlaveTests {
  static func difference(_ a: some Sequence<Float>, _ b: some Sequence<Float>) -> Float {
    zip(a, b).map { abs($0 - $1) }.max() ?? .infinity
  }

  @Test("embeddings are those of transformers: tiles, grids, reduction, several images, video, text")
  func embeddingsAreThoseOfTransformers() throws {
    let cases = try TinyLlave.cases()
    #expect(cases.count == 18)
    for row in cases {
      let model = try TinyLlave.model(row.config)
      let builder = try TinyLlave.builder(model)
      let built = try builder.build(row.item, folder: TinyLlave.folder)
      #expect(built.sample.ids.count == row.tokens, "\(row.name)")
      let found = try Embedder(model, on: CPUDevice(), prefix: builder.prefix).embed([built.sample])
      let worst = LlaveTests.difference(found, row.embedding)
      #expect(worst <= 2e-6 && found.count == 64, "\(row.name): \(worst)")
    }
  }

  @Test("fewer views are what a checkpoint with the smaller grid gives, and every device pools alike")
  func fewerViewsAreWhatASmallerGridGives() throws {
    let pinpoints: [String: JSONText] = ["image_grid_pinpoints": [[18, 18], [18, 36], [36, 18]]]
    let config = try TinyLlave.changed(
      try JSON.parse(JSONText.object(pinpoints.map { ($0.key, $0.value) }).bytes(), what: "changes"))
    let small = try TinyLlave.model(config)
    var limited = try TinyLlave.model()
    var notes: [String] = []
    try Pass.run(PictureLayout(views: 3).passes, on: &limited, notes: &notes)
    #expect(limited.configuration == small.configuration)
    let items = try TinyLlave.cases().filter { $0.tokens != 60 }.map(\.item)
    func vectors(_ model: Model, _ device: any Device) throws -> [Float] {
      let builder = try TinyLlave.builder(model)
      let samples = try items.map { try builder.build($0, folder: TinyLlave.folder).sample }
      return try Embedder(model, on: device, prefix: builder.prefix).embed(samples)
    }
    #expect(try vectors(limited, CPUDevice()) == vectors(small, CPUDevice()))
    for layout in [
      PictureLayout(views: 1), .init(views: 1, pooling: 2), .init(views: 3, pooling: 2), .init(pooling: 2),
    ] {
      var model = try TinyLlave.model()
      try Pass.run(layout.passes, on: &model, notes: &notes)
      let found = try vectors(model, CPUDevice(threads: 2))
      #expect(LlaveTests.difference(found, try vectors(model, ReferenceDevice())) <= 2e-6, "\(layout)")
      #expect(LlaveTests.difference(found, try vectors(limited, CPUDevice())) > 1e-3, "\(layout)")
      #expect(try found.map(\.bitPattern) == vectors(model, CPUDevice(threads: 1, rowsAtATime: 7)).map(\.bitPattern))
    }
  }

  @Test("an embedding depends on its own sample alone")
  func anEmbeddingDependsOnItsOwnSampleAlone() throws {
    let (model, prefix, samples) = try TinyLlave.samples()
    let embedder = try Embedder(model, on: CPUDevice(threads: 2), prefix: prefix)
    let together = try embedder.embed(samples)
    let alone = try samples.flatMap { try embedder.embed([$0]) }
    let isSame = together.map(\.bitPattern) == alone.map(\.bitPattern)
    #expect(isSame && samples.count > 8)
  }

  @Test("no bit depends on threads, batches or rows at a time", arguments: [nil, "8:channel", "8:g16", "4:g32"])
  func noBitDependsOnHowTheWorkIsCut(_ choice: String?) throws {
    var (model, prefix, samples) = try TinyLlave.samples()
    var notes: [String] = []
    if let choice {
      let recipe = QuantizeRecipe(linear: try #require(WeightChoice(choice)), table: .keep, input: .int8)
      try Pass.run(Pass.fusions + [.quantize(recipe)], on: &model, notes: &notes)
    }
    let whole = try Embedder(model, on: CPUDevice(threads: 1, rowsAtATime: .max), prefix: prefix).embed(samples)
    for (threads, rows) in [(1, 16), (2, 512), (3, 100), (8, 7)] {
      let embedder = try Embedder(model, on: CPUDevice(threads: threads, rowsAtATime: rows), prefix: prefix)
      for step in [1, 3, samples.count] {
        var found: [Float] = []
        for first in stride(from: 0, to: samples.count, by: step) {
          found += try embedder.embed(Array(samples[first..<min(first + step, samples.count)]))
        }
        let isSame = found.map(\.bitPattern) == whole.map(\.bitPattern)
        #expect(isSame, "\(choice ?? "float"), \(threads) threads, \(rows) rows, \(step) at a time")
      }
      let reversed = try embedder.embed(samples.reversed())
      let isReversed = samples.indices.allSatisfy { row in
        let other = samples.count - 1 - row
        return whole[row * 64..<(row + 1) * 64].elementsEqual(reversed[other * 64..<(other + 1) * 64])
      }
      #expect(isReversed)
    }
  }

  @Test("weights that come and go give the same bits as weights that stay")
  func weightsThatComeAndGoGiveTheSameBits() throws {
    let (model, prefix, samples) = try TinyLlave.samples()
    let resident = try Embedder(model, on: CPUDevice(), prefix: prefix).embed(samples)
    let streamed = try Embedder(model, on: CPUDevice(), prefix: prefix, memory: 0).embed(samples)
    let isSame = resident.map(\.bitPattern) == streamed.map(\.bitPattern)
    #expect(isSame)
  }

  @Test("sharing the prompt and pooling early change nothing but rounding")
  func sharingThePromptAndPoolingEarlyChangeNothingButRounding() throws {
    let (model, prefix, samples) = try TinyLlave.samples()
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
