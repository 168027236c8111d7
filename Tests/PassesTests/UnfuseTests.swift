import Bytes
import Formats
import Inference
import Passes
import Tensors
import TestSupport
import Testing

struct UnfuseTests {
  static let models: [@Sendable () throws -> Model] = [FusionTests.bert, FusionTests.preNorm]

  /// Recipes: nil for the fusions alone.
  static let choices: [String?] = [nil, "16", "8", "8:channel", "4", "4:g8:affine", "4:g16:symmetric"]

  @Test("what the fusions did is undone: the same embeddings, codes bit for bit", arguments: models.indices)
  func whatTheFusionsDidIsUndone(_ which: Int) throws {
    let before = try UnfuseTests.models[which]()
    for text in UnfuseTests.choices {
      var (fused, notes) = (before, [String]())
      var passes = Pass.fusions
      if let choice = text.flatMap({ WeightChoice($0) }) {
        passes.append(.quantize(.init(linear: choice, table: .keep, input: .float)))
      }
      try Pass.run(passes, on: &fused, notes: &notes)
      var unfused = fused
      try Pass.run([.unfuse], on: &unfused, notes: &notes)
      // Everything but a norm's gain and bias, and the row that is in a table, has its name and shape again.
      for tensor in unfused.tensors {
        // What a norm's bias left behind is one of the linear operation.
        let isNew = before[tensor.name] == nil
        #expect(isNew ? ["up.bias", "gate.bias"].contains(tensor.name) : tensor.shape == before[tensor.name]?.shape)
      }
      #expect(unfused.graphs[0].graph.nodes.count { $0.op == .linear(.float) } == before.graphs[0].graph.nodes.count { $0.op == .linear(.float) })
      let difference =
        zip(try FusionTests.embeddings(fused), try FusionTests.embeddings(unfused)).map { abs($0 - $1) }.max() ?? 1
      #expect(difference < 1e-6 || which == 0 && difference < 1e-3, "\(text ?? "fused"): \(difference)")
    }
  }
}
