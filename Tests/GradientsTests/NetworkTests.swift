import Bytes
import Formats
import Gradients
import Inference
import Inputs
import Passes
import Tensors
import TestSupport
import Testing

/// Whole models, held to PyTorch's autograd (Tools/make-gradient-goldens).
struct NetworkTests {
  private static func model(_ family: String) throws -> (Model, [Sample]) {
    let folder = Repository.root + "/Tests/Goldens/families/"
    var notes: [String] = []
    let model = try Import.model(
      try Checkpoint.open(folder + family), tokenizer: folder + "tokenizer.json", notes: &notes)
    let tokenizer = try Tokenizer.load { (name) throws(Failure) in try model.file(name) }
    let builder = SampleBuilder(model.configuration, tokenizer: tokenizer)
    let texts = try Repository.json("Tests/Goldens/families/texts.json").elements()
    return (
      model,
      try [0, 1, 4, 10, 21].map { try builder.build(Item(text: try texts[$0].string()), folder: "").sample }
    )
  }

  /// Gradients by all tensors, of samples in batches of these.
  static func gradients(
    _ model: Model, _ samples: [[Sample]], up: [[Float]], threads: Int = 2, mostKept: Int = .max
  ) throws -> [TensorName: [Float]] {
    let device = CPUDevice(threads: threads)
    let names = Set(model.graphs.flatMap { $0.graph.tensors })
    let network = try Network(
      model, try Embedder(model, on: device), on: device, trained: names, mostKept: mostKept)
    let weights = Weights(model, on: device)
    var sums: [TensorName: [Float]] = [:]
    for (samples, up) in zip(samples, up) {
      let batch = try #require(network.batches(samples).first)
      let trace = try network.run(batch, weights)
      try network.back(trace, upstream: try Floats(up, columns: model.configuration.width), weights) {
        (name, found) throws(Failure) in
        sums[name] = sums[name].map { zip($0, found.values).map(+) } ?? found.values
      }
    }
    return sums
  }

  /// A hundredth of the largest number of all: attention's weights do not change with a bias that all keys share, so
  /// what is found there is rounding.
  private static func least(_ found: [TensorName: [Float]]) -> Double {
    Double(found.values.map { $0.map(abs).max() ?? 0 }.max() ?? 0) / 100
  }

  /// The length of the difference, in parts of the expected one's.
  ///
  /// - Parameter least: what that counts at least.
  private static func distance(_ found: [Float], _ expected: [Double], least: Double) -> Double {
    guard found.count == expected.count else { return .infinity }
    var (difference, squares) = (0.0, 0.0)
    for (a, b) in zip(found, expected) {
      difference += (Double(a) - b) * (Double(a) - b)
      squares += b * b
    }
    return difference.squareRoot() / max(squares.squareRoot(), least)
  }

  @Test("a BERT and a Qwen2 have PyTorch's gradients by every tensor to 1e-5", arguments: ["bert", "qwen2"])
  func wholeModelsHavePyTorchsGradients(_ family: String) throws {
    let golden = try GradientCase.golden(family)
    let (model, samples) = try NetworkTests.model(family)
    let up = try #require(golden["up"]).floats().array(of: Float.self)
    let found = try NetworkTests.gradients(model, [samples], up: [up])
    let least = NetworkTests.least(found)
    var compared = 0
    for (name, own) in found {
      // What autograd does not reach has no gradient there.
      guard let expected = golden[name.text] else { continue }
      let error = NetworkTests.distance(
        own, try expected.floats().array(of: Float.self).map(Double.init), least: least)
      #expect(error <= 1e-5, "\(name.text): \(error)")
      compared += 1
    }
    #expect(compared == golden.count - 1 && compared >= 30, "\(compared) of \(golden.count - 1)")
  }

  @Test("what is computed anew on the way back gives the same bits", arguments: ["bert", "qwen2"])
  func whatIsComputedAnewGivesTheSameBits(_ family: String) throws {
    let (model, samples) = try NetworkTests.model(family)
    let up = [(0..<samples.count * model.configuration.width).map { Float(($0 * 37) % 11) - 5 }]
    let kept = try NetworkTests.gradients(model, [samples], up: up)
    let anew = try NetworkTests.gradients(model, [samples], up: up, mostKept: 0)
    #expect(!kept.isEmpty && kept.mapValues { $0.map(\.bitPattern) } == anew.mapValues { $0.map(\.bitPattern) })
  }

  @Test("fusions, batches and threads change nothing: sums over tensors agree")
  func fusionsAndBatchesChangeNothing() throws {
    let (model, samples) = try NetworkTests.model("bert")
    let width = model.configuration.width
    let up = (0..<samples.count * width).map { Float(($0 * 37) % 11) - 5 }
    let all = try NetworkTests.gradients(model, [samples], up: [up])
    let parts = try NetworkTests.gradients(
      model, samples.map { [$0] }, up: samples.indices.map { Array(up[$0 * width..<($0 + 1) * width]) })
    for (name, own) in all {
      let error = NetworkTests.distance(
        try #require(parts[name]), own.map(Double.init), least: NetworkTests.least(all))
      #expect(error <= 1e-5, "\(name.text): \(error)")
    }
    let other = try NetworkTests.gradients(model, [samples], up: [up], threads: 5)
    #expect(all.mapValues { $0.map(\.bitPattern) } == other.mapValues { $0.map(\.bitPattern) })
    // A fused model has the same biases of its first dense layer.
    var (fused, notes) = (model, [String]())
    try Pass.run(Pass.fusions, on: &fused, notes: &notes)
    let again = try NetworkTests.gradients(fused, [samples], up: [up])
    let name = TensorName("encoder.layer.0.intermediate.dense.bias")
    #expect(OpGradientsTests.error(try #require(again[name]), try #require(all[name]).map(Double.init)) <= 1e-5)
  }
}
