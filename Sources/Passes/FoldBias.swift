import Bytes
import Tensors

extension Pass {
  /// `linear(x, W, b) + table[ids]` becomes `linear(x, W) + (table + b)[ids]`: a bias goes into the position embeddings
  /// that are added next.
  ///
  /// - Rounding: two additions trade places, each rounded once to Float32.
  public static let foldBias = Pass("fold-bias") { (model, notes) throws(Failure) in
    try model.rewriteGraphs { (graph, model) throws(Failure) in
      for index in graph.nodes.indices {
        guard let match = BiasedSum(graph, index, model) else { continue }
        let folded = model.addRows(match.table.name.made("bias"), of: match.table, with: match.bias) { row, bias in
          for column in row.indices { row[column] += bias[column] }
        }
        let (linear, lookup) = (graph.nodes[match.linear], graph.nodes[match.lookup])
        graph.replace(match.linear, with: .init(linear.op, Array(linear.inputs.prefix(2))))
        graph.replace(match.lookup, with: .init(lookup.op, [folded, lookup.inputs[1]]))
      }
    }
  }
}

/// A sum of a linear operation with a bias and a lookup, read by nothing else.
private struct BiasedSum {
  let linear, lookup: Int
  let table, bias: Tensor

  init?(_ graph: Graph, _ index: Int, _ model: Model) {
    let node = graph.nodes[index]
    guard node.op == .add, case .node(let a) = node.inputs[0], case .node(let b) = node.inputs[1] else { return nil }
    for (linear, lookup) in [(a, b), (b, a)] {
      guard case .linear = graph.nodes[linear].op, graph.nodes[linear].inputs.count == 3,
        graph.nodes[lookup].op.isEmbedding, graph.nodes[lookup].inputs.count == 2,
        graph.readers(of: linear) == [index], graph.readers(of: lookup) == [index],
        let bias = model.tensor(graph.nodes[linear].inputs[2]), let table = model.tensor(graph.nodes[lookup].inputs[0]),
        graph.nodes.count(where: { $0.inputs.contains(.tensor(table.name)) }) == 1
      else { continue }
      (self.linear, self.lookup, self.table, self.bias) = (linear, lookup, table, bias)
      return
    }
    return nil
  }
}
