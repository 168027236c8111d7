import Bytes
import Formats
import Inference
import Passes
import TestSupport
import Tensors
import Testing

/// Models that are gone through stage by stage.
struct WalkTests {
  @Test("a walk that was stopped anywhere goes on to the same bits")
  func aWalkThatWasStoppedGoesOn() throws {
    let (model, prefix, samples) = try TinyLlave.samples()
    let whole = try Embedder(model, on: CPUDevice(), prefix: prefix).embed(samples)
    let fine = try Embedder(model, on: CPUDevice(), prefix: prefix, isFine: true)
    var walk = Walk(fine, samples)
    #expect(walk.stageCount > 6)
    #expect(try walk.finish().map(\.bitPattern) == whole.map(\.bitPattern))
    var names = Set<TensorName>()
    while !walk.isDone {
      names.formUnion(walk.weights)
      try walk.advance()
      var other = Walk(fine, samples)
      try other.resume(at: walk.stage, try walk.carried())
      #expect(try other.finish().map(\.bitPattern) == whole.map(\.bitPattern), "stage \(walk.stage)")
    }
    let linear = model.graphs.flatMap(\.graph.nodes).filter { if case .linear = $0.op { true } else { false } }
    let isWhole = linear.allSatisfy { node in
      if case .tensor(let name) = node.inputs[1] { names.contains(name) } else { false }
    }
    #expect(isWhole)
  }

  @Test("what another walk left is refused")
  func whatAnotherWalkLeftIsRefused() throws {
    let (model, prefix, samples) = try TinyLlave.samples()
    let fine = try Embedder(model, on: CPUDevice(), prefix: prefix, isFine: true)
    var walk = Walk(fine, samples)
    #expect(throws: Failure.self) { try walk.resume(at: 0, []) }
    #expect(throws: Failure.self) { try walk.resume(at: walk.stageCount + 1, []) }
    let strange = try Tensor("99:0", floats: [1], shape: [1, 1])
    #expect(throws: Failure.self) { try walk.resume(at: 1, [strange]) }
    #expect(walk.stage == 0)
    // Of the right name, but not of the right shape.
    var other = walk
    try other.advance()
    let carried = try other.carried()
    for shape in [[1, 1], [carried[0].rows - 1, carried[0].columns], [carried[0].columns, carried[0].rows]] {
      let wrong = try Tensor(carried[0].name, floats: .init(repeating: 0, count: shape[0] * shape[1]), shape: shape)
      #expect(throws: Failure.self) { try walk.resume(at: 1, [wrong]) }
    }
    try walk.resume(at: 1, carried)
  }

  @Test("the rest of the way through a changed weight is the changed model's")
  func theRestOfTheWayThroughAChangedWeight() throws {
    var (model, prefix, samples) = try TinyLlave.samples()
    var notes: [String] = []
    try Pass.run(Pass.fusions, on: &model, notes: &notes)
    let fine = try Embedder(model, on: CPUDevice(), prefix: prefix, isFine: true)
    var walk = Walk(fine, samples)
    var count = 0
    while !walk.isDone {
      for name in walk.weights where count < 6 {
        guard try Pass.quantizableWeights(of: model).contains(name) else { continue }
        var changed = model
        let recipe = QuantizeRecipe(
          linear: .keep, table: .keep, input: .float, choices: [name: try #require(WeightChoice("4:g16"))])
        try Pass.run([.quantize(recipe)], on: &changed, notes: &notes)
        let expected = try Embedder(changed, on: CPUDevice(), prefix: prefix).embed(samples)
        let found = try walk.finish(with: try fine.running(changed, changed: [name]))
        #expect(found.map(\.bitPattern) == expected.map(\.bitPattern), "\(name.text)")
        count += 1
      }
      try walk.advance()
    }
    #expect(count == 6)
  }

  @Test("scales folded at every site change no bit of an embedding")
  func scalesFoldedChangeNoBit() throws {
    var (model, prefix, samples) = try TinyLlave.samples()
    var notes: [String] = []
    try Pass.run(Pass.fusions, on: &model, notes: &notes)
    let before = try Embedder(model, on: CPUDevice(), prefix: prefix).embed(samples)
    let sites = model.scaleSites
    var random = Random(seed: 9)
    var scales: [TensorName: [Float]] = [:]
    for site in sites {
      scales[site.tensorName] = (0..<site.scaleCount).map { _ in [0.25, 0.5, 1, 2, 8][Int(random.next() % 5)] }
    }
    // Norms, values and gated products; the vision tower has no gated products.
    #expect(scales.count == sites.count && sites.contains { $0.fed(in: model) == nil })
    #expect(sites.contains { $0.scaleCount < $0.scaleOfColumn.count } && sites.count >= 8)
    try Pass.run([.foldScales(scales)], on: &model, notes: &notes)
    let after = try Embedder(model, on: CPUDevice(), prefix: prefix).embed(samples)
    #expect(after.map(\.bitPattern) == before.map(\.bitPattern))
    var again = model
    #expect(throws: Failure.self) {
      try Pass.run([.foldScales([sites[0].tensorName: [3]])], on: &again, notes: &notes)
    }
  }
}
