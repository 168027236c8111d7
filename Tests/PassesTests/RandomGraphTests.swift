import Bytes
import Inference
import Passes
import Tensors
import TestSupport
import Testing

/// A model of random operations in a random order: of shapes that no family has, so that a pass that is right for known
/// families by luck is found out.
struct RandomModel {
  private var random: Random
  private var graph = Graph()
  private var width: Int
  private(set) var model: Model

  static let (vocabulary, positions) = (20, 24)

  init(seed: UInt64) throws {
    random = Random(seed: seed)
    width = [8, 16, 24, 40][random.below(4)]
    model = Model(
      configuration: Configuration(
        architecture: "random", width: width, vocabulary: RandomModel.vocabulary, maximumTokens: RandomModel.positions))
    var x = graph.append(
      .embedding(), try tensor([RandomModel.vocabulary, width], mean: 0, spread: 1), .input(.tokens))
    if random.below(2) == 0 {
      x = graph.append(
        .add, x, graph.append(.embedding(), try tensor([RandomModel.positions, width]), .input(.positions)))
    }
    if random.below(2) == 0 {
      x = graph.append(.add, x, graph.append(.row(random.below(2)), try tensor([2, width])))
    }
    for _ in 0...random.below(4) { x = try block(x) }
    if random.below(2) == 0 { x = try norm(x, width) }
    x = graph.append(.pool(Op.Pooling.allCases[random.below(Op.Pooling.allCases.count)]), x, .input(.starts))
    if random.below(2) == 0 { x = try linear(x, width, width) }
    graph.append(.normalize, x)
    model.graphs = [("text", graph)]
    try model.checkInvariants()
  }

  private mutating func tensor(_ shape: [Int], mean: Float = 0, spread: Float = 0.3) throws -> Graph.Source {
    let name = TensorName("t\(model.tensors.count).weight")
    let values = (0..<shape.reduce(1, *)).map { _ in mean + spread * random.normal() }
    model.set(try Tensor(name, floats: values, shape: shape))
    return .tensor(name)
  }

  private mutating func linear(_ x: Graph.Source, _ columns: Int, _ rows: Int) throws -> Graph.Source {
    let weight = try tensor([rows, columns], spread: 1 / Float(columns).squareRoot())
    guard random.below(2) == 0 else { return graph.append(.linear(.float), x, weight) }
    return graph.append(.linear(.float), x, weight, try tensor([rows]))
  }

  private mutating func norm(_ x: Graph.Source, _ columns: Int) throws -> Graph.Source {
    let kind = Op.Norm.allCases[random.below(Op.Norm.allCases.count)]
    let gain = try tensor([columns], mean: 1, spread: 0.2)
    let op = Op.norm(kind, epsilon: 1e-6)
    guard kind == .layer, random.below(2) == 0 else { return graph.append(op, x, gain) }
    return graph.append(op, x, gain, try tensor([columns]))
  }

  /// One of the parts that models are made of, added to what goes into it.
  private mutating func block(_ x: Graph.Source) throws -> Graph.Source {
    let inside = random.below(3) == 0 ? x : try norm(x, width)
    let made =
      switch random.below(5) {
      case 0, 1: try attention(inside)
      case 2: try gated(inside)
      case 3: try sliced(inside)
      default: try linear(graph.append(activation(), try linear(inside, width, 40)), 40, width)
      }
    let sum = random.below(2) == 0 ? graph.append(.add, made, x) : graph.append(.add, x, made)
    return random.below(3) == 0 ? try norm(sum, width) : sum
  }

  private mutating func activation() -> Op {
    .activation([.gelu, .geluTanh, .silu, .relu, .tanh][random.below(5)])
  }

  private mutating func attention(_ x: Graph.Source) throws -> Graph.Source {
    let headWidth = [4, 6, 8][random.below(3)]
    let shared = 1 + random.below(2)
    let keyHeads = 1 + random.below(3)
    let (heads, keys) = (keyHeads * shared, keyHeads * headWidth)
    var (q, k) = (try linear(x, width, heads * headWidth), try linear(x, width, keys))
    let v = try linear(x, width, keys)
    if random.below(3) == 0 {
      let rope = Op.rope(Op.Rotation(theta: 10_000, headWidth: headWidth))
      (q, k) = (graph.append(rope, q, .input(.positions)), graph.append(rope, k, .input(.positions)))
    }
    var attention = Op.Attention(
      heads: heads, keyValueHeads: keyHeads, headWidth: headWidth, scale: [0.5, 0.3, 1][random.below(3)],
      isCausal: random.below(2) == 0)
    if random.below(3) == 0 { attention.window = 3 }
    let seen = graph.append(.attention(attention), q, k, v, .input(.starts))
    return try linear(seen, heads * headWidth, width)
  }

  /// Widths that have to be filled up, too.
  private mutating func gated(_ x: Graph.Source) throws -> Graph.Source {
    let inner = [24, 30, 62][random.below(3)]
    let left = graph.append(activation(), try linear(x, width, inner))
    return try linear(graph.append(.multiply, left, try linear(x, width, inner)), inner, width)
  }

  private mutating func sliced(_ x: Graph.Source) throws -> Graph.Source {
    let both = try linear(x, width, 32)
    let (a, b) = (
      graph.append(.slice(offset: 0, count: 12), both), graph.append(.slice(offset: 12, count: 20), both)
    )
    return try linear(graph.append(.concatenate, graph.append(activation(), b), a), 32, width)
  }
}

struct RandomGraphTests {
  private static func embeddings(_ model: Model) throws -> [Float] {
    var random = Random(seed: 37)
    let lists = (0..<8).map { _ in (0..<(1 + random.below(16))).map { _ in Int32(random.below(18)) } }
    return try Embedder(model, on: CPUDevice(threads: 1)).embed(lists)
  }

  private static func difference(_ a: [Float], _ b: [Float]) -> Float {
    a.count == b.count ? zip(a, b).map { abs($0 - $1) }.max() ?? 1 : 1
  }

  private static func applied(_ passes: [Pass], to model: Model) throws -> Model {
    var (model, notes) = (model, [String]())
    try Pass.run(passes, on: &model, notes: &notes)
    return model
  }

  private static let single = Pass.fusions + [.poolEarly, .dropNeutral]

  @Test("each fusion, and all of them, compute the same on graphs that no family has", arguments: 0..<6)
  func fusionsComputeTheSameOnRandomGraphs(_ part: Int) throws {
    for seed in part * 7..<(part + 1) * 7 {
      let before = try RandomModel(seed: UInt64(seed + 1)).model
      let wanted = try RandomGraphTests.embeddings(before)
      #expect(wanted.allSatisfy { $0.isFinite })
      for passes in RandomGraphTests.single.map({ [$0] }) + [Pass.fusions, Pass.fusions + [.poolEarly]] {
        let after = try RandomGraphTests.applied(passes, to: before)
        let found = RandomGraphTests.difference(wanted, try RandomGraphTests.embeddings(after))
        #expect(found < 2e-5, "seed \(seed + 1), \(passes.map(\.name)): \(found)")
        // A second time there is nothing to do, but for fusions that pooling early made room for.
        guard passes.count < Pass.fusions.count + 1 else { continue }
        let again = try RandomGraphTests.applied(passes, to: after)
        #expect(
          zip(again.graphs, after.graphs).allSatisfy { $0.graph == $1.graph }, "seed \(seed + 1) \(passes.map(\.name))")
      }
    }
  }

  @Test("what was fused is taken apart again, and 8 bits keep the vectors", arguments: 0..<6)
  func fusionsAreUndoneAndBitsKeepVectors(_ part: Int) throws {
    for seed in part * 7..<(part + 1) * 7 {
      let before = try RandomModel(seed: UInt64(seed + 1)).model
      let wanted = try RandomGraphTests.embeddings(before)
      let fused = try RandomGraphTests.applied(Pass.fusions, to: before)
      let apart = try RandomGraphTests.applied([.unfuse(pixels: nil)], to: fused)
      let found = RandomGraphTests.difference(wanted, try RandomGraphTests.embeddings(apart))
      #expect(found < 2e-5, "seed \(seed + 1): \(found)")
      let choice = try #require(WeightChoice("8:g8"))
      let recipe = QuantizeRecipe(linear: choice, table: choice, input: .float)
      let quantized = try RandomGraphTests.applied([.quantize(recipe)], to: fused)
      let rounded = try RandomGraphTests.embeddings(quantized)
      let cosines = stride(from: 0, to: wanted.count, by: before.configuration.width).map { first in
        (first..<first + before.configuration.width).reduce(Float(0)) { $0 + wanted[$1] * rounded[$1] }
      }
      #expect(cosines.allSatisfy { $0 > 0.995 }, "seed \(seed + 1): \(cosines.min() ?? 0)")
      let quantizedApart = try RandomGraphTests.applied([.unfuse(pixels: nil)], to: quantized)
      // Steps are Float16: taking attention's factor out of them rounds, where it is no power of two.
      let isExact = before.graphs[0].graph.nodes.allSatisfy {
        if case .attention(let attention) = $0.op { attention.headWidth == 4 } else { true }
      }
      let same = RandomGraphTests.difference(rounded, try RandomGraphTests.embeddings(quantizedApart))
      #expect(same < (isExact ? 2e-5 : 4e-3), "seed \(seed + 1), 8 bits: \(same)")
    }
  }
}
