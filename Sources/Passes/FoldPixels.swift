import Bytes
import Tensors

extension Pass {
  /// `linear(rescale(pixels))` becomes `linear(pixels)`: factor, mean and deviation of the pixels go into the weights of the
  /// patches, so that raw bytes go in. With channel c of a column: `W' = W · factor / deviation[c]` and
  /// `b' = b - Σ W · mean[c] / deviation[c]`.
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
        let (rows, columns) = (weight.rows, weight.columns)
        let channel = columns / rescale.mean.count
        let scaled = model.add(weight.name.made("pixels"), shape: [rows, columns]) { (threads) throws(Failure) in
          let w = try weight.floats(threads: threads)
          return try computedRows(rows, columns, threads: threads) { row, target in
            w.withRow(row, columns) { w in
              for i in 0..<columns { target[i] = Float(Double(w[i]) * rescale.factor / rescale.deviation[i / channel]) }
            }
          }
        }
        let shifted = model.add((bias?.name ?? weight.name).made("shift"), shape: [rows]) { (threads) throws(Failure) in
          let (w, old) = (try weight.floats(threads: threads), try bias?.floats(threads: threads))
          return try computedRows(rows, 1, threads: threads) { row, target in
            var sum = Double(old?.withRow(row, 1) { $0[0] } ?? 0)
            w.withRow(row, columns) { w in
              for i in 0..<columns {
                sum -= Double(w[i]) * rescale.mean[i / channel] / rescale.deviation[i / channel]
              }
            }
            target[0] = Float(sum)
          }
        }
        graph.replace(index, with: .init(graph.nodes[index].op, [graph.nodes[below].inputs[0], scaled, shifted]))
      }
    }
  }
}
