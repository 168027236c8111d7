import Bytes
import Formats
import Inference
import Tensors
import TestSupport
import Testing

struct EmbedderTests {
  static func model(_ tiny: TinyBert = TinyBert()) throws -> Model {
    let directory = try TemporaryDirectory()
    let path = try tiny.write(to: directory)
    var notes: [String] = []
    return try Import.model(try Checkpoint.open(path), notes: &notes)
  }

  static let lists: [[Int32]] = {
    var random = Random(seed: 23)
    return (0..<40).map { index in (0..<(1 + random.below(24))).map { _ in Int32(random.below(18)) } }
  }()

  @Test("a whole model agrees with the reference")
  func aWholeModelAgreesWithTheReference() throws {
    let model = try EmbedderTests.model()
    let expected = try Embedder(model, on: ReferenceDevice()).embed(EmbedderTests.lists)
    let found = try Embedder(model, on: CPUDevice()).embed(EmbedderTests.lists)
    #expect(zip(expected, found).allSatisfy { abs($0 - $1) < 2e-6 })
    for row in 0..<EmbedderTests.lists.count {
      let length = found[row * 32..<(row + 1) * 32].reduce(0) { $0 + $1 * $1 }
      #expect(abs(length - 1) < 1e-6)
    }
  }

  @Test("an embedding depends on its own tokens alone", arguments: [DType.F32, .BF16])
  func anEmbeddingDependsOnItsOwnTokensAlone(_ type: DType) throws {
    var tiny = TinyBert()
    tiny.type = type
    let embedder = try Embedder(try EmbedderTests.model(tiny), on: CPUDevice(threads: 2))
    let lists = EmbedderTests.lists
    let together = try embedder.embed(lists)
    let alone = try lists.flatMap { try embedder.embed([$0]) }
    let isSame = together.map(\.bitPattern) == alone.map(\.bitPattern)
    #expect(isSame)
    let reversed = try embedder.embed(lists.reversed())
    for row in lists.indices {
      let other = lists.count - 1 - row
      let isEqual = together[row * 32..<(row + 1) * 32].elementsEqual(reversed[other * 32..<(other + 1) * 32])
      #expect(isEqual, "list \(row)")
    }
  }

  @Test("what is there twice is computed once")
  func whatIsThereTwiceIsComputedOnce() throws {
    let profile = Profile()
    let embedder = try Embedder(try EmbedderTests.model(), on: CPUDevice(), profile: profile)
    let (a, b) = (EmbedderTests.lists[0] + [1], EmbedderTests.lists[1] + [2])
    let vectors = try embedder.embed([a, b, a, a].map { Sample(ids: $0) })
    #expect(profile.events.first { $0.name == "embedding" }?.rows == a.count + b.count)
    for row in [2, 3] { #expect(vectors[row * 32..<(row + 1) * 32].elementsEqual(vectors[..<32])) }
    #expect(try vectors[32..<64].elementsEqual(embedder.embed([Sample(ids: b)])))
  }

  @Test("a table that is multiplied with too is kept for both")
  func aTableThatIsMultipliedWithTooIsKeptForBoth() throws {
    var model = try EmbedderTests.model()
    var random = Random(seed: 31)
    model.set(try Tensor("tied", floats: (0..<32 * 32).map { _ in random.normal() }, shape: [32, 32]))
    var graph = Graph()
    let rows = graph.append(.embedding(), .tensor("tied"), .input(.tokens))
    let product = graph.append(.linear(.float), rows, .tensor("tied"))
    let parts = [0, 16].map { graph.append(.slice(offset: $0, count: 16), product) }
    let both = graph.append(.multiply, parts[0], parts[1])
    let wide = graph.append(.linear(.float), both, .tensor("wide"))
    graph.append(.normalize, graph.append(.pool(.mean), wide, .input(.starts)))
    model.set(try Tensor("wide", floats: (0..<32 * 16).map { _ in random.normal() }, shape: [32, 16]))
    model.graphs = [("text", graph)]
    try model.checkInvariants()
    let expected = try Embedder(model, on: ReferenceDevice()).embed(EmbedderTests.lists)
    for memory in [0, 1 << 30] {
      let found = try Embedder(model, on: CPUDevice(), memory: memory).embed(EmbedderTests.lists)
      #expect(zip(expected, found).allSatisfy { abs($0 - $1) < 2e-6 })
    }
  }

  @Test("a token without a row is refused")
  func aTokenWithoutARowIsRefused() throws {
    let embedder = try Embedder(try EmbedderTests.model(), on: CPUDevice())
    #expect(throws: Failure.self) { try embedder.embed([[1, 18]]) }
    #expect(throws: Failure.self) { try embedder.embed([[-1]]) }
    #expect(throws: Failure.self) { try embedder.embed([[Int32](repeating: 1, count: 25)]) }
  }
}
