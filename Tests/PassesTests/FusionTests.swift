import Bytes
import Formats
import Inference
import Passes
import Tensors
import TestSupport
import Testing

struct FusionTests {
  /// A pre-norm block: what BERT lacks, and later architectures are made of.
  static func preNorm() throws -> Model { try preNorm(inner: 24) }

  /// Inner widths that are filled up to 64.
  static func uneven() throws -> Model { try preNorm(inner: 62) }

  static func preNorm(inner: Int) throws -> Model {
    var random = Random(seed: 31)
    var model = Model(configuration: Configuration(architecture: "test", width: 16, vocabulary: 20, maximumTokens: 24))
    func tensor(_ name: String, _ shape: [Int], mean: Float = 0) throws -> Graph.Source {
      model.set(
        try Tensor(
          TensorName(name), floats: (0..<shape.reduce(1, *)).map { _ in mean + 0.3 * random.normal() }, shape: shape))
      return .tensor(TensorName(name))
    }
    var graph = Graph()
    let x = graph.append(.embedding(), try tensor("table", [20, 16]), .input(.tokens))
    let n = graph.append(.norm(.rms, epsilon: 1e-6), x, try tensor("norm.gain", [16], mean: 1))
    let q = graph.append(.linear(.float), n, try tensor("q.weight", [16, 16]), try tensor("q.bias", [16]))
    let k = graph.append(.linear(.float), n, try tensor("k.weight", [8, 16]), try tensor("k.bias", [8]))
    let v = graph.append(.linear(.float), n, try tensor("v.weight", [8, 16]), try tensor("v.bias", [8]))
    let a = graph.append(
      .attention(.init(heads: 4, keyValueHeads: 2, headWidth: 4, scale: 0.5, isCausal: true)), q, k, v, .input(.starts))
    let y = graph.append(.add, x, graph.append(.linear(.float), a, try tensor("o.weight", [16, 16])))
    let m = graph.append(
      .norm(.layer, epsilon: 1e-6), y, try tensor("mlp.gain", [16], mean: 1), try tensor("mlp.shift", [16]))
    let h = graph.append(.activation(.silu), graph.append(.linear(.float), m, try tensor("up.weight", [inner, 16])))
    let gated = graph.append(.multiply, h, graph.append(.linear(.float), m, try tensor("gate.weight", [inner, 16])))
    let z = graph.append(
      .add, y,
      graph.append(.linear(.float), gated, try tensor("down.weight", [16, inner]), try tensor("down.bias", [16])))
    graph.append(.normalize, graph.append(.pool(.last), z, .input(.starts)))
    model.graphs = [("text", graph)]
    try model.checkInvariants()
    return model
  }

  static func llave() throws -> Model { try TinyLlave.model() }

  static func embeddings(_ model: Model) throws -> [Float] {
    if model.graph("vision") != nil {
      return try Embedder(model, on: ReferenceDevice()).embed(Array(try TinyLlave.samples().samples.prefix(6)))
    }
    var random = Random(seed: 37)
    let lists = (0..<12).map { _ in (0..<(1 + random.below(20))).map { _ in Int32(random.below(18)) } }
    return try Embedder(model, on: ReferenceDevice()).embed(lists)
  }

  static func bert() throws -> Model {
    let directory = try TemporaryDirectory()
    var notes: [String] = []
    return try Import.model(try Checkpoint.open(try TinyBert().write(to: directory)), notes: &notes)
  }

  /// Which passes must change which model's operations, by count of nodes before and after.
  static let rows: [(pass: Pass, model: @Sendable () throws -> Model, isChanged: Bool)] = [
    (.foldConstants, bert, true), (.foldAttentionScale, bert, true), (.fuseProjections, bert, true),
    (.dropUnused, bert, true),
    (.foldNorms, bert, false), (.foldNorms, preNorm, true), (.foldAttentionScale, preNorm, true),
    (.fuseProjections, preNorm, true), (.foldConstants, preNorm, false), (.padWidths, preNorm, false),
    (.padWidths, uneven, true), (.poolEarly, preNorm, true), (.poolEarly, bert, false),
    (.foldPixels, llave, true), (.foldBias, llave, true), (.foldNorms, llave, true), (.foldAttentionScale, llave, true),
    (.fuseProjections, llave, true), (.poolEarly, llave, true), (.foldPixels, bert, false), (.foldBias, bert, false),
  ]

  @Test("a fusion changes the model and not what it computes", arguments: rows.indices)
  func aFusionChangesTheModelAndNotWhatItComputes(_ index: Int) throws {
    let row = FusionTests.rows[index]
    let before = try row.model()
    var after = before
    var notes: [String] = []
    try Pass.run([row.pass], on: &after, notes: &notes)
    let isChanged =
      zip(before.graphs, after.graphs).contains { $0.graph != $1.graph } || before.tensors.count != after.tensors.count
    #expect(isChanged == row.isChanged, "\(row.pass.name)")
    let difference =
      zip(try FusionTests.embeddings(before), try FusionTests.embeddings(after)).map { abs($0 - $1) }.max() ?? 1
    #expect(difference < 1e-6, "\(row.pass.name): \(difference)")
  }

  @Test("all fusions together compute the same, with fewer operations", arguments: [0, 1, 2])
  func allFusionsTogetherComputeTheSameWithFewerOperations(_ which: Int) throws {
    let before = try [FusionTests.bert, FusionTests.preNorm, FusionTests.llave][which]()
    var after = before
    var notes: [String] = []
    try Pass.run(Pass.fusions, on: &after, notes: &notes)
    let difference =
      zip(try FusionTests.embeddings(before), try FusionTests.embeddings(after)).map { abs($0 - $1) }.max() ?? 1
    #expect(difference < 1e-6)
    func linears(_ model: Model) -> Int { model.graphs[0].graph.nodes.count { $0.op == .linear(.float) } }
    #expect(linears(after) < linears(before))
    #expect(after.unused.isEmpty)
    let scales = after.graphs.flatMap(\.graph.nodes).compactMap {
      if case .attention(let attention) = $0.op { attention.scale } else { nil }
    }
    #expect(scales.allSatisfy { $0 == 1 })
  }
}
