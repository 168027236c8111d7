import Bytes
import Formats
import Foundation
import Inference
import Passes
import Tensors
import TestSupport
import Testing

/// Candidates that somebody broke: verify has to fail them, and say where to look.
struct BrokenCandidateTests {
  static let damages: [(name: String, finding: String, damage: @Sendable (inout Model) throws -> Void)] = [
    (
      "one layer's scales doubled", "weight model.layers.2.mlp.gate_proj.weight is off",
      {
        try change("model.layers.2.mlp.gate_proj.weight", in: &$0) { values, _ in
          for i in values.indices { values[i] *= 2 }
        }
      }
    ),
    (
      "two heads swapped", "weight model.layers.1.self_attn.q_proj.weight is off",
      { (model: inout Model) throws in
        try change("model.layers.1.self_attn.q_proj.weight", in: &model) { values, columns in
          let size = 32 * columns
          for i in 0..<size { values.swapAt(i, size + i) }
        }
      }
    ),
    (
      "wrong pooling", "pool 0, kind differs: \"last\" in the reference, \"mean\"",
      { (model: inout Model) throws in
        replace(in: &model) { if case .pool = $0 { .pool(.mean) } else { nil } }
      }
    ),
    (
      "wrong prompt", "template, before differs",
      { (model: inout Model) throws in
        model.configuration.template = .init(before: "red circle blue square ", after: "green triangle")
      }
    ),
    (
      "mean and deviation swapped", "rescale 0, mean differs",
      { (model: inout Model) throws in
        replace(in: &model) {
          guard case .rescale(let rescale) = $0 else { return nil }
          return .rescale(
            .init(
              factor: rescale.factor, mean: rescale.deviation.map { $0 + 1 },
              deviation: rescale.mean.map { max($0, 0.1) }))
        }
      }
    ),
    (
      "not a number", "weight model.layers.2.mlp.up_proj.weight is off",
      { try change("model.layers.2.mlp.up_proj.weight", in: &$0) { values, _ in values[5] = .nan } }
    ),
    (
      "two swapped rows of the token table", "row 40 of weight model.embed_tokens.weight is off",
      { (model: inout Model) throws in
        try change("model.embed_tokens.weight", in: &model) { values, columns in
          for i in 0..<columns { values.swapAt(40 * columns + i, 77 * columns + i) }
        }
      }
    ),
    (
      "noise of 3 % on all weights, in 8 bits", "weight model.embed_tokens.weight is off by 3.00 %",
      { (model: inout Model) throws in
        var state: UInt64 = 1
        func random() -> Float {
          state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
          return Float(state >> 40) / Float(1 << 23) - 1
        }
        for tensor in model.tensors where tensor.shape.count == 2 {
          try change(tensor.name.text, in: &model) { values, _ in
            let size = (values.reduce(0) { $0 + $1 * $1 } / Float(values.count)).squareRoot()
            for i in values.indices { values[i] += 0.03 * 1.732 * size * random() }
          }
        }
        var notes: [String] = []
        let choice = WeightChoice("8") ?? .keep
        try Pass.run(
          Pass.fusions + [.quantize(QuantizeRecipe(linear: choice, table: choice, input: .float))], on: &model,
          notes: &notes)
      }
    ),
    (
      "two layers swapped", "weight model.layers.1.mlp.up_proj.weight is off",
      { (model: inout Model) throws in
        for name in ["mlp.up_proj", "mlp.gate_proj", "mlp.down_proj"] {
          let tensors = try [1, 2].map { layer in
            try #require(model.tensors.first { $0.name.text == "model.layers.\(layer).\(name).weight" })
          }
          model.set(tensors[0].renamed(tensors[1].name))
          model.set(tensors[1].renamed(tensors[0].name))
        }
      }
    ),
    (
      "another kind of GELU", "vision graph, activation 0, kind differs",
      { (model: inout Model) throws in
        replace(in: &model) {
          guard case .activation(let kind) = $0, kind != .silu else { return nil }
          return .activation(kind == .gelu ? .geluTanh : .gelu)
        }
      }
    ),
    (
      "another epsilon", "epsilon differs",
      { (model: inout Model) throws in
        replace(in: &model) { if case .norm(let kind, let e, _) = $0 { .norm(kind, epsilon: e * 10) } else { nil } }
      }
    ),
    (
      "another base of the rotations", "theta differs",
      { (model: inout Model) throws in
        replace(in: &model) {
          if case .rope(var rotation) = $0 {
            rotation.theta /= 100
            return .rope(rotation)
          }
          return nil
        }
      }
    ),
    (
      "attention that is not causal", "causal differs",
      { (model: inout Model) throws in
        replace(in: &model) {
          guard case .attention(var attention) = $0 else { return nil }
          attention.isCausal = false
          return .attention(attention)
        }
      }
    ),
    (
      "two words swapped in the vocabulary", "tokens of",
      { (model: inout Model) throws in
        let place = try #require(model.files.firstIndex { $0.name == "tokenizer.json" })
        var text = String(decoding: try #require(try model.file("tokenizer.json")), as: UTF8.self)
        func entry(_ word: String) throws -> (text: String, id: Substring) {
          let start = try #require(text.range(of: "\"\u{120}\(word)\": "))
          let id = text[start.upperBound...].prefix { $0.isNumber }
          return (String(text[start]) + id, id)
        }
        let (red, blue) = (try entry("red"), try entry("blue"))
        text = text.replacing(red.text, with: red.text.dropLast(red.id.count) + "#").replacing(
          blue.text, with: blue.text.dropLast(blue.id.count) + red.id
        ).replacing(red.text.dropLast(red.id.count) + "#", with: red.text.dropLast(red.id.count) + blue.id)
        let bytes = Array(text.utf8)
        model.files[place] = ("tokenizer.json", .bytes(ByteView(try Buffer(bytes))), bytes.count)
      }
    ),
    (
      "overflow of half precision", "no usable vector (zero",
      {
        try change("model.layers.2.mlp.down_proj.weight", in: &$0) { values, _ in
          for i in values.indices { values[i] = Float(Float16(values[i] * 1e6)) }
        }
      }
    ),
    (
      "constant encoder", "weight model.norm.weight is off",
      {
        try change("model.norm.weight", in: &$0) { values, _ in for i in values.indices { values[i] = i == 0 ? 1 : 0 } }
      }
    ),
  ]

  static func change(
    _ name: String, in model: inout Model, _ body: (inout [Float], _ columns: Int) -> Void
  ) throws {
    let tensor = try #require(model.tensors.first { $0.name.text == name })
    var values = try tensor.floats().array(of: Float.self)
    body(&values, tensor.columns)
    model.set(try Tensor(tensor.name, floats: values, shape: tensor.shape))
  }

  static func replace(in model: inout Model, _ body: (Op) -> Op?) {
    for place in model.graphs.indices {
      for (index, node) in model.graphs[place].graph.nodes.enumerated() {
        if let op = body(node.op) { model.graphs[place].graph.replace(index, with: .init(op, node.inputs)) }
      }
    }
  }

  @Test("a broken candidate fails, and the report points at the place", arguments: damages.indices)
  func aBrokenCandidateFailsAndTheReportPointsAtThePlace(_ index: Int) throws {
    let (name, finding, damage) = BrokenCandidateTests.damages[index]
    let directory = try TemporaryDirectory()
    let (m, broken, report) = (directory.path + "/m.llv", directory.path + "/b.llv", directory.path + "/r.html")
    #expect(try ProgramRun(["import", DemoModelTests.folder + "model", "-o", m]).status == 0)
    var model = try Container.open(m).model
    try damage(&model)
    let writer = try ContainerWriter(try OutputFile(broken, isReplacing: false), threads: 2)
    try writer.writeData(model)
    try writer.finish(model, program: "test")
    try writer.commit()
    let lines = String(decoding: try Repository.read(DemoModelTests.folder + "pairs.jsonl"), as: UTF8.self)
      .replacing("\"heldout/", with: "\"" + DemoModelTests.folder + "heldout/").split(separator: "\n")
    let data = try directory.write("pairs.jsonl", lines.prefix(60).joined(separator: "\n"))
    let run = try ProgramRun(["verify", broken, "--reference", m, "--data", data, "--report", report])
    #expect(run.status == 1 && run.output.hasPrefix("FAIL"), "\(name): \(run.output) \(run.errors)")
    #expect(run.output.replacing("\n    ", with: " ").contains(finding), "\(name): \(run.output)")
    #expect(String(decoding: try Repository.read(report), as: UTF8.self).contains("Look at"), "\(name)")
  }
}
