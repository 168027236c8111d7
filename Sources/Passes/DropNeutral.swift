import Bytes
import Tensors

extension Pass {
  /// Leaves out what changes nothing: gains of ones, with biases of zeros, of norms, and rows of zeros that are added
  /// to every token. A model whose fusions were undone has none of them, and the checkpoint that was exported from it
  /// has them all; without them both can be compared tensor by tensor.
  public static let dropNeutral = Pass("drop-neutral") { (model, notes) throws(Failure) in
    try model.rewriteGraphs { (graph, model) throws(Failure) in
      for (index, node) in graph.nodes.enumerated() {
        if case .norm(let kind, let epsilon, let heads) = node.op, try model.isNeutral(node, kind) {
          let plain: Op.Norm = kind == .rmsPlusOne ? .rms : kind
          graph.replace(index, with: .init(.norm(plain, epsilon: epsilon, heads: heads), [node.inputs[0]]))
        }
        guard node.op == .add, case .node(let below) = node.inputs[1], case .row(let row) = graph.nodes[below].op,
          case .node = node.inputs[0], let table = model.tensor(graph.nodes[below].inputs[0]),
          try table.gathered(rows: [row]).isFilled(with: 0)
        else { continue }
        for reader in graph.readers(of: index) {
          let old = graph.nodes[reader]
          let inputs = old.inputs.map { $0 == .node(index) ? node.inputs[0] : $0 }
          graph.replace(reader, with: .init(old.op, inputs))
        }
      }
    }
    let unused = Set(model.unused)
    model.removeTensors { unused.contains($0.name) }
  }
}

extension Model {
  /// Whether weights of linear operations, or tables, are what fusions made.
  public var isFused: Bool {
    graphs.flatMap(\.graph.nodes).contains { node in
      let place = if case .linear = node.op { 1 } else { 0 }
      guard place == 1 || node.op.isEmbedding, case .tensor(let name) = node.inputs[place] else { return false }
      return name.members != nil || !name.marks.isEmpty
    }
  }

  fileprivate func isNeutral(_ norm: Graph.Node, _ kind: Op.Norm) throws(Failure) -> Bool {
    guard norm.inputs.count > 1, let gain = tensor(norm.inputs[1]), try gain.isFilled(with: 1 - kind.gainOffset) else {
      return false
    }
    guard norm.inputs.count > 2 else { return true }
    return try tensor(norm.inputs[2])?.isFilled(with: 0) ?? false
  }
}

extension Tensor {
  fileprivate func isFilled(with value: Float) throws(Failure) -> Bool {
    try floats().with(Float.self) { $0.allSatisfy { $0 == value } }
  }
}
