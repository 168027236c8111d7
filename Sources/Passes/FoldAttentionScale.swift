import Bytes
import Tensors

extension Pass {
  /// `softmax(c · q kᵀ)` with `q = linear(x)` becomes `softmax(q' kᵀ)` with weight and bias of q multiplied by c.
  ///
  /// A rotation of the query may stand between.
  ///
  /// - Rounding: each weight rounded once more to Float32.
  public static let foldAttentionScale = Pass("fold-attention-scale") { (model, notes) throws(Failure) in
    try model.rewriteGraphs { (graph, model) throws(Failure) in
      for index in graph.nodes.indices {
        guard case .attention(var attention) = graph.nodes[index].op, attention.scale != 1,
          let query = queryLinear(of: index, graph)
        else { continue }
        let linear = graph.nodes[query]
        let parameters = linear.inputs.dropFirst().compactMap { model.tensor($0) }
        guard parameters.count == linear.inputs.count - 1, parameters.allSatisfy(\.encoding.isPlain) else { continue }
        let factor = attention.scale
        var inputs = [linear.inputs[0]]
        for tensor in parameters {
          inputs.append(
            model.addRows(tensor.name.made("scaled"), of: tensor) { row, _ in
              for i in row.indices { row[i] = Float(Double(row[i]) * factor) }
            })
        }
        graph.replace(query, with: .init(linear.op, inputs))
        attention.scale = 1
        graph.replace(index, with: .init(.attention(attention), graph.nodes[index].inputs))
      }
    }
  }

  /// The linear operation behind an attention's query, through a rotation, which commutes with a factor; nil when there
  /// is none or something else reads it.
  static func queryLinear(of attention: Int, _ graph: Graph) -> Int? {
    var reader = attention
    while case .node(let place) = graph.nodes[reader].inputs[0], graph.readers(of: place) == [reader] {
      switch graph.nodes[place].op {
      case .linear: return place
      case .rope: reader = place
      default: return nil
      }
    }
    return nil
  }
}
