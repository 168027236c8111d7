import Bytes
import EmulatedGPU
import GPU
import Inference
import Passes
import Tensors
import TestSupport
import Testing

/// Whole models on the emulated GPU.
struct EmbedderTests {
  @Test(
    "a model of texts and pictures gives the processor's embeddings, kept or streamed, whatever the batch",
    arguments: [
      (nil, .float), ("8:channel", .float), ("8:channel", .int8), ("8:g32", .int8), ("4:g32", .int8),
    ] as [(String?, Op.LinearInput)])
  func aModelGivesTheProcessorsEmbeddings(_ choice: String?, _ attention: Op.LinearInput) throws {
    var (model, prefix, samples) = try TinyLlave.samples()
    samples = [0, 3, 7, 12].map { samples[$0] }
    var notes: [String] = []
    if let choice {
      let recipe = QuantizeRecipe(
        linear: try #require(WeightChoice(choice)), table: .keep, input: .int8, attention: attention)
      try Pass.run(Pass.fusions + [.quantize(recipe)], on: &model, notes: &notes)
    }
    let expected = try Embedder(model, on: CPUDevice(), prefix: prefix).embed(samples)
    try EmulatedDriver.use(EmulatedDriver.timings[choice == nil ? 0 : 1]) { driver in
      let device = try GPUDevice(driver)
      let embedder = try Embedder(model, on: device, prefix: prefix)
      let found = try embedder.embed(samples)
      let width = embedder.width
      for i in samples.indices {
        let range = i * width..<(i + 1) * width
        let cosine = zip(expected[range], found[range]).reduce(0) { $0 + Double($1.0) * Double($1.1) }
        // What a product or attention of BF16 moves by 2^-9 may fall to the next code: of a picture that is the
        // projection of its pixels.
        #expect(cosine > (choice == nil ? 0.999 : 0.995), "sample \(i): \(cosine)")
      }
      // The first is text alone: integers from its first layer on.
      if attention == .int8 {
        #expect(found[..<width].map(\.bitPattern) == expected[..<width].map(\.bitPattern))
      }
      let streamed = try Embedder(model, on: device, prefix: prefix, memory: 0).embed(samples)
      #expect(streamed.map(\.bitPattern) == found.map(\.bitPattern))
      for i in samples.indices {
        let alone = try embedder.embed([samples[i]])
        #expect(alone.map(\.bitPattern) == found[i * width..<(i + 1) * width].map(\.bitPattern), "sample \(i)")
      }
    }
  }
}
