import Bytes
import Tensors

extension Pass {
  /// `linear(rescale(pixels))` becomes `linear(pixels)`: factor, mean and deviation of the pixels go into the weights
  /// of the patches, so that raw bytes go in. With channel c of a column: `W' = W · factor / deviation[c]` and `b' = b
  /// - Σ W · mean[c] / deviation[c]`.
  ///
  /// - Rounding: products and sums in double, rounded once to Float32.
  public static let foldPixels = Pass("fold-pixels") { (model, notes) throws(Failure) in
    try model.rewriteGraphs { (graph, model) throws(Failure) in
      for index in graph.nodes.indices {
        guard case .linear = graph.nodes[index].op, case .node(let below) = graph.nodes[index].inputs[0],
          case .rescale(let rescale) = graph.nodes[below].op, graph.readers(of: below) == [index],
          let weight = model.tensor(graph.nodes[index].inputs[1])?.matrix, weight.encoding.isPlain
        else { continue }
        let bias = graph.nodes[index].inputs.count > 2 ? model.tensor(graph.nodes[index].inputs[2]) : nil
        let channel = weight.columns / rescale.mean.count
        let scaled = model.addRows(weight.name.made("pixels"), of: weight) { row, _ in
          for i in row.indices { row[i] = Float(Double(row[i]) * rescale.factor / rescale.deviation[i / channel]) }
        }
        let shifted = model.addSums((bias?.name ?? weight.name).made("shift"), of: weight, plus: bias) { row, _ in
          var sum = 0.0
          for i in row.indices { sum -= Double(row[i]) * rescale.mean[i / channel] / rescale.deviation[i / channel] }
          return sum
        }
        graph.replace(index, with: .init(graph.nodes[index].op, [graph.nodes[below].inputs[0], scaled, shifted]))
      }
    }
  }
}
