import Bytes
import Tensors

extension Pass {
  /// `(x + table[ids]) + row` becomes `x + (table + row)[ids]`: a row that is added to every token goes into the table
  /// of embeddings added before it. Saves one pass over the activations.
  ///
  /// - Rounding: two additions trade places, each rounded once to Float32.
  public static let foldConstants = Pass("fold-constants") { (model, notes) throws(Failure) in
    try model.rewriteGraphs { (graph, model) throws(Failure) in
      for index in graph.nodes.indices {
        guard let match = ConstantSum(graph, index, model) else { continue }
        let start = match.row * match.table.columns
        let name = match.table.name.made("row\(match.row)")
        let folded = model.addRows(name, of: match.table, with: match.rows) { row, rows in
          for column in row.indices { row[column] += rows[start + column] }
        }
        let lookup = graph.nodes[match.lookup]
        graph.replace(match.lookup, with: .init(lookup.op, [folded, lookup.inputs[1]]))
        graph.replace(index, with: graph.nodes[match.sum])
      }
    }
  }
}

/// The shape `add(add(x, embedding(table, ids)), row(rows))`, where nothing else reads the inner results.
private struct ConstantSum {
  let sum, lookup: Int
  let table, rows: Tensor
  let row: Int

  init?(_ graph: Graph, _ index: Int, _ model: Model) {
    let node = graph.nodes[index]
    guard node.op == .add, case .node(let sum) = node.inputs[0], case .node(let constant) = node.inputs[1],
      case .row(let row) = graph.nodes[constant].op, graph.nodes[sum].op == .add, graph.readers(of: sum) == [index],
      let rows = model.tensor(graph.nodes[constant].inputs[0])
    else { return nil }
    for case .node(let lookup) in graph.nodes[sum].inputs.reversed() {
      guard graph.nodes[lookup].op.isEmbedding, graph.readers(of: lookup) == [sum],
        let table = model.tensor(graph.nodes[lookup].inputs[0]),
        graph.nodes.filter({ $0.inputs.contains(.tensor(table.name)) }).count == 1
      else { continue }
      (self.sum, self.lookup, self.table, self.rows, self.row) = (sum, lookup, table, rows, row)
      return
    }
    return nil
  }
}
