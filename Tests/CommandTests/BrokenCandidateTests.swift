import Bytes
import Formats
import Foundation
import Inference
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
    #expect(run.output.contains(finding), "\(name): \(run.output)")
    #expect(String(decoding: try Repository.read(report), as: UTF8.self).contains("Look at"), "\(name)")
  }
}
