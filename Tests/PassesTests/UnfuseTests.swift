import Bytes
import Formats
import Inference
import Passes
import Tensors
import TestSupport
import Testing

struct UnfuseTests {
  /// Heads of 16, whose factor is a power of two.
  static func bert() throws -> Model {
    let directory = try TemporaryDirectory()
    var (tiny, notes) = (TinyBert(), [String]())
    (tiny.hidden, tiny.intermediate) = (64, 128)
    return try Import.model(try Checkpoint.open(try tiny.write(to: directory)), notes: &notes)
  }

  static let models: [@Sendable () throws -> Model] = [
    bert, FusionTests.preNorm, FusionTests.uneven, FusionTests.llave, FusionTests.bert,
  ]

  static func fused(
    _ before: Model, _ choice: String?, keeping kept: [String] = [], then passes: [Pass] = []
  ) throws -> Model {
    var (model, notes) = (before, [String]())
    try Pass.run(Pass.fusions + passes, on: &model, notes: &notes)
    if let choice = choice.flatMap({ WeightChoice($0) }) {
      let recipe = QuantizeRecipe(
        linear: choice, table: .keep, input: .float, overrides: kept.map { ($0, .keep) })
      try Pass.run([.quantize(recipe)], on: &model, notes: &notes)
    }
    return model
  }

  static func unfused(_ model: Model, keepsPadding: Bool = false) throws -> (model: Model, notes: [String]) {
    var (result, notes) = (model, [String]())
    let pixels = try Family.pixels(of: model)
    try Pass.run([.unfuse(pixels: pixels, keepsPadding: keepsPadding)], on: &result, notes: &notes)
    return (result, notes)
  }

  static func difference(_ a: Model, _ b: Model) throws -> Float {
    zip(try FusionTests.embeddings(a), try FusionTests.embeddings(b)).map { abs($0 - $1) }.max() ?? 1
  }

  @Test("what the fusions did is undone: names, shapes, and the same embeddings", arguments: models.indices)
  func whatTheFusionsDidIsUndone(_ which: Int) throws {
    let before = try UnfuseTests.models[which]()
    for choice in [nil, "16", "8", "8:channel", "4", "4:g8:affine", "4:g16:symmetric", "4:channel:affine"] {
      let fused = try UnfuseTests.fused(before, choice)
      let (unfused, notes) = try UnfuseTests.unfused(fused)
      for tensor in unfused.tensors {
        // What a norm's bias left behind is one of the linear operation.
        let isNew = before[tensor.name] == nil
        let old = before[tensor.name]
        let isRight = isNew ? ["up.bias", "gate.bias"].contains(tensor.name) : tensor.shape == old?.shape
        #expect(isRight, "\(tensor.name.text) \(tensor.shape)")
      }
      func linears(_ model: Model) -> [Int] {
        model.graphs.map { $0.graph.nodes.count { if case .linear = $0.op { true } else { false } } }
      }
      #expect(linears(unfused) == linears(before))
      // Heads of 8 and 12: scales are rounded to half precision once more, weights to BF16.
      let isRounded = which > 2 && choice != nil
      #expect(notes.contains { $0.contains("factor") } == isRounded, "\(notes)")
      let difference = try UnfuseTests.difference(fused, unfused)
      #expect(difference < (isRounded ? 4e-3 : 1e-6), "\(choice ?? "fused"): \(difference)")
    }
  }

  @Test("rows of joined weights are taken bit for bit", arguments: ["8", "4", "4:g8:affine", "4:channel", "16"])
  func rowsOfJoinedWeightsAreTakenBitForBit(_ choice: String) throws {
    let fused = try UnfuseTests.fused(try FusionTests.preNorm(), choice)
    let unfused = try UnfuseTests.unfused(fused).model
    for (joined, members) in [("{up,gate}.weight+gain", ["up", "gate"]), ("{k,v}.weight+gain", ["k", "v"])] {
      // q's have attention's factor, which is taken out of its scales.
      let all = try #require(fused.tensors.first { $0.name.text.contains(joined.dropFirst().prefix(2)) })
      let whole = try all.floats().array(of: Float.self)
      var parts: [Float] = []
      for name in members {
        let tensor = try #require(unfused[TensorName(name + ".weight")])
        parts += try tensor.floats().array(of: Float.self)
        #expect(tensor.encoding == all.encoding)
      }
      let isSame = whole.suffix(parts.count).elementsEqual(parts) { $0.bitPattern == $1.bitPattern }
      #expect(isSame, "\(joined)")
    }
  }

  @Test("zeros that were added are cut off, or kept where blocks need them")
  func zerosThatWereAddedAreCutOffOrKept() throws {
    let fused = try UnfuseTests.fused(try FusionTests.uneven(), "8")
    let (cut, kept) = (try UnfuseTests.unfused(fused).model, try UnfuseTests.unfused(fused, keepsPadding: true).model)
    #expect(cut["up.weight"]?.shape == [62, 16] && cut["down.weight"]?.shape == [16, 62])
    #expect(kept["up.weight"]?.shape == [64, 16] && kept["down.weight"]?.shape == [16, 64])
    #expect(cut["up.bias"]?.shape == [62])
    #expect(try FusionTests.embeddings(cut) == FusionTests.embeddings(kept))
  }

  @Test(
    "where a group is cut, smaller ones hold the same values", arguments: ["8", "4", "4:affine", "4:g64", "8:channel"])
  func whereAGroupIsCutSmallerOnesHoldTheSameValues(_ text: String) throws {
    let choice = try #require(WeightChoice(text))
    guard case .integers(_, let group, let form) = choice else { throw Failure(.usage, text) }
    var random = Random(seed: 9)
    let tensor = try Tensor("w", floats: (0..<3 * 352).map { _ in random.normal() }, shape: [3, 352])
    let whole = Pass.quantized(tensor, try #require(choice.grid(columns: 352)))
    for (width, size) in [(344, group == nil ? 344 : 8), (350, group == nil ? 350 : group), (320, group ?? 320)] {
      // Two levels need groups of whole eights.
      if form == .twoLevel, group == nil, width % 8 != 0 { continue }
      let cut = try whole.cut(columns: width)
      guard case .grouped(let found) = cut.encoding else { throw Failure(.internal, "no groups") }
      #expect(found.groupSize == size && cut.shape == [3, width])
      let (old, new) = (try whole.floats().array(of: Float.self), try cut.floats().array(of: Float.self))
      for row in 0..<3 {
        let isSame = old[row * 352..<row * 352 + width].elementsEqual(new[row * width..<(row + 1) * width])
        #expect(isSame, "\(text) \(width)")
      }
    }
    #expect(throws: Failure.self) { try whole.cut(columns: 353) }
    #expect(throws: Failure.self) { try whole.cut(columns: 0) }
  }

  struct Export: Sendable {
    let model: @Sendable () throws -> Model
    let choice: String?
    /// nil for GGUF.
    let layout: CheckpointExport.Layout?
    var folds = false
    /// Weights that stay as they are, where widths fit no groups.
    var kept: [String] = []
  }

  static let exports: [Export] = [nil, "8", "4"].flatMap { choice in
    [
      .init(model: bert, choice: choice, layout: .own), .init(model: FusionTests.llave, choice: choice, layout: .own),
      .init(model: FusionTests.llave, choice: choice, layout: .transformers(inMemory: false)),
      .init(model: bert, choice: choice, layout: .own, folds: true),
      .init(model: FusionTests.llave, choice: choice, layout: .own, folds: true),
    ] as [Export]
  } + [
    .init(model: bert, choice: "8:channel", layout: .quantized(.compressedTensors)),
    .init(model: bert, choice: "4:g16:symmetric", layout: .quantized(.compressedTensors)),
    .init(model: bert, choice: "8:g32:symmetric", layout: .quantized(.compressedTensors), folds: true),
    .init(model: FusionTests.llave, choice: "8:g8", layout: .quantized(.compressedTensors), kept: ["*vision*fc2*"]),
    .init(model: bert, choice: "4:g32:affine", layout: .quantized(.mlx)),
    .init(model: bert, choice: "8:g32:symmetric", layout: .quantized(.mlx)),
    .init(model: FusionTests.llave, choice: nil, layout: nil),
    .init(model: FusionTests.llave, choice: "8:g32:symmetric", layout: nil, kept: uneven),
    .init(model: FusionTests.llave, choice: "4:g32:affine", layout: nil, kept: uneven),
  ]

  private static let uneven = ["*vision*", "*projector*", "*down_proj*"]

  /// Powers of two for every site.
  static func folds(_ model: Model) throws -> [Pass] {
    var (fused, notes, random) = (model, [String](), Random(seed: 7))
    try Pass.run(Pass.fusions, on: &fused, notes: &notes)
    let scales = fused.scaleSites.map { site in
      (site.tensorName, (0..<site.scaleCount).map { _ in [0.5, 1, 2, 4][random.below(4)] as Float })
    }
    return [.foldScales(Dictionary(scales) { first, _ in first })]
  }

  @Test("a fused model goes out and comes back the same, codes bit for bit", arguments: exports.indices)
  func aFusedModelGoesOutAndComesBackTheSame(_ index: Int) throws {
    let row = UnfuseTests.exports[index]
    let source = try row.model()
    let folds = row.folds ? try UnfuseTests.folds(source) : []
    let fused = try UnfuseTests.fused(source, row.choice, keeping: row.kept, then: folds)
    let unfused = try UnfuseTests.unfused(fused, keepsPadding: row.layout == nil).model
    let directory = try TemporaryDirectory()
    var (path, projector) = (directory.path + "/out", String?.none)
    if let layout = row.layout {
      try CheckpointExport(unfused, layout).write(path, shard: nil, threads: 2) { _ in }
    } else {
      path += ".gguf"
      _ = try GGUFExport(unfused, path: path, .init()).write(isReplacing: false, threads: 2) { _ in }
      projector = fused.graph("vision") == nil ? nil : directory.path + "/out-mmproj.gguf"
    }
    var notes: [String] = []
    let back = try Import.model(try Checkpoint.open(path, projector: projector), notes: &notes)
    let difference = try UnfuseTests.difference(fused, back)
    #expect(difference < (row.choice != nil && source.graph("vision") != nil ? 4e-3 : 2e-6), "\(difference)")
    guard row.choice != nil, row.layout != .own, row.layout != .transformers(inMemory: false) else { return }
    let mine = try Family(unfused).tensors.filter { !$0.encoding.isPlain }
    let theirs = Dictionary(try Family(back).tensors.map { ($0.name, $0) }) { first, _ in first }
    // Compared tensor by tensor, as verify does, nothing is left that differs but names of what changes nothing.
    var (same, other) = (unfused, back)
    try Pass.run([.dropNeutral], on: &same, notes: &notes)
    try Pass.run([.dropNeutral], on: &other, notes: &notes)
    #expect(Set(same.graphs.flatMap(\.graph.tensors)).count == Set(other.graphs.flatMap(\.graph.tensors)).count)
    #expect(mine.count >= 9)
    for tensor in mine {
      let other = try #require(theirs[tensor.name], "\(tensor.name.text)")
      #expect(try tensor.hasSameCodes(as: other, threads: 2), "\(tensor.name.text)")
    }
  }

  @Test("codes are the same across types of scales, and not where one differs")
  func codesAreTheSameAcrossTypesOfScales() throws {
    var random = Random(seed: 5)
    let floats = (0..<8 * 32).map { _ in random.normal() }
    let tensor = try Tensor("w", floats: floats, shape: [8, 32])
    func quantized(_ bits: Int, _ group: Int, _ form: GroupedInteger.Form, _ tensor: Tensor) throws -> Tensor {
      Pass.quantized(tensor, Grid(try #require(GroupedInteger(bits: bits, groupSize: group, form: form))))
    }
    let half = try quantized(8, 16, .symmetric, tensor)
    let integers = try #require(GroupedInteger(bits: 8, groupSize: 16, form: .symmetric, scaleType: .F32))
    let (old, bytes) = (try #require(GroupedInteger(bits: 8, groupSize: 16, form: .symmetric)), try half.load())
    let (from, to) = (try #require(old.layout([8, 32])), try #require(integers.layout([8, 32])))
    let wide = try Buffer(count: to.byteCount)
    wide.clear()
    try ByteView(bytes).read((0, 8 * 32, 0), into: wide)
    bytes.withBytes { bytes in
      wide.withMutableBytes { wide in
        let target = UnsafeMutableRawBufferPointer(rebasing: wide[to.scalesAt...]).bindMemory(to: Float.self)
        if let base = bytes.baseAddress { old.decodeScales(base + from.scalesAt, into: target) }
      }
    }
    func made() -> Tensor {
      Tensor("w", shape: [8, 32], encoding: .grouped(integers), content: .bytes(ByteView(wide)))
    }
    #expect(try half.hasSameCodes(as: made(), threads: 1) && made().hasSameCodes(as: half, threads: 1))
    wide.withMutableBytes { $0[37] ^= 1 }
    #expect(try !half.hasSameCodes(as: made(), threads: 1))
    #expect(try !half.hasSameCodes(as: try quantized(4, 16, .symmetric, tensor), threads: 1))
    #expect(try !half.hasSameCodes(as: tensor, threads: 1))
  }

  /// The model with one tensor called otherwise.
  static func renamed(_ model: Model, _ old: TensorName, _ new: TensorName) -> Model {
    var result = model
    guard let tensor = model[old] else { return model }
    result.removeTensors { $0.name == old }
    result.set(tensor.renamed(new))
    for index in result.graphs.indices {
      for (place, node) in result.graphs[index].graph.nodes.enumerated() {
        let inputs = node.inputs.map { $0 == .tensor(old) ? .tensor(new) : $0 }
        result.graphs[index].graph.replace(place, with: .init(node.op, inputs))
      }
    }
    return result
  }

  @Test("names that no pass made are not taken for some: the model is refused or stays as it is")
  func namesThatNoPassMadeAreNotTakenForSome() throws {
    let fused = try UnfuseTests.fused(try UnfuseTests.bert(), "8")
    let stem = "encoder.layer.0.attention.self."
    let joined = TensorName(stem + "{query,key,value}.{weight+scaled,weight,weight}")
    #expect(fused[joined] != nil)
    for name in [
      "{query,key}.weight", "{query,query,value}.weight", "{query,key,value}.{weight,weight}", "{query.weight", "}{",
      "{query}.weight", "query.weight+other", "{a,b,c,d}.weight",
    ] {
      let (model, _) = try UnfuseTests.unfused(UnfuseTests.renamed(fused, joined, TensorName(stem + name)))
      #expect(throws: Failure.self, "\(name)") { try Family(model) }
    }
    // Names that are taken already.
    var twice = fused
    twice.set(try Tensor(TensorName(stem + "key.weight"), floats: [1], shape: [1]))
    #expect(throws: Failure.self) { try UnfuseTests.unfused(twice) }
    let table = TensorName("embeddings.position_embeddings.weight")
    var both = fused
    both.set(try Tensor(table, floats: [1], shape: [1]))
    let failure = #expect(throws: Failure.self) { try UnfuseTests.unfused(both) }
    #expect(failure?.kind == .unsupported && failure?.description.contains("beside") == true)
    // What was never fused stays.
    let plain = try UnfuseTests.bert()
    let same = try UnfuseTests.unfused(plain).model
    #expect(same.graphs.map(\.graph) == plain.graphs.map(\.graph))
    #expect(same.tensors.map(\.name) == plain.tensors.map(\.name))
  }

  @Test("a bias that rounding asked for needs a place in the family's checkpoints")
  func aBiasThatRoundingAskedForNeedsAPlace() throws {
    for (model, weight, isKnown) in [
      (try UnfuseTests.bert(), "encoder.layer.1.output.dense.weight", true),
      (try FusionTests.llave(), "model.layers.1.self_attn.o_proj.weight", false),
    ] {
      var fused = try UnfuseTests.fused(model, "8")
      let weight = TensorName(weight)
      let bias = weight.text + "+bias"
      let rows = try #require(fused[weight]?.rows)
      fused.set(try Tensor(TensorName(bias), floats: [Float](repeating: 1, count: rows), shape: [rows]))
      for index in fused.graphs.indices {
        for (place, node) in fused.graphs[index].graph.nodes.enumerated() where node.inputs.contains(.tensor(weight)) {
          let inputs = Array(node.inputs.prefix(2)) + [.tensor(TensorName(bias))]
          fused.graphs[index].graph.replace(place, with: .init(node.op, inputs))
        }
      }
      var notes: [String] = []
      try Pass.run([.dropUnused], on: &fused, notes: &notes)
      let unfused = try UnfuseTests.unfused(fused).model
      #expect(try UnfuseTests.difference(fused, unfused) < 4e-3)
      let family = try Family(unfused)
      if isKnown {
        try family.refuseForeignBiases(unfused, format: "gguf")
      } else {
        let failure = #expect(throws: Failure.self) { try family.refuseForeignBiases(unfused, format: "gguf") }
        #expect(failure?.description.contains("o_proj.bias") == true && failure?.kind == .unsupported)
      }
    }
  }
}
