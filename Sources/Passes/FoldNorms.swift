import Bytes
import Tensors

extension Pass {
  /// `linear(norm(x) · g + h)` becomes `linear(norm(x))` with `W' = W diag(g)` and `b' = b + W h`, where everything that reads
  /// the norm is a linear operation. (Where a residual reads it too, as in post-norm encoders, it stays.)
  ///
  /// - Rounding: products and sums in double, rounded once to Float32.
  public static let foldNorms = Pass("fold-norms") { (model, notes) throws(Failure) in
    try model.rewriteGraphs { (graph, model) throws(Failure) in
      for index in graph.nodes.indices {
        let node = graph.nodes[index]
        guard case .norm = node.op, node.inputs.count > 1, index != graph.output,
          let gain = model.tensor(node.inputs[1])
        else {
          continue
        }
        let bias = node.inputs.count > 2 ? model.tensor(node.inputs[2]) : nil
        let readers = graph.readers(of: index)
        let isFoldable = readers.allSatisfy { reader in
          let linear = graph.nodes[reader]
          guard case .linear = linear.op, linear.inputs[0] == .node(index) else { return false }
          return linear.inputs.dropFirst().allSatisfy { model.tensor($0)?.encoding.isPlain ?? false }
        }
        guard isFoldable, !readers.isEmpty else { continue }
        for reader in readers { fold(gain, bias, into: reader, &graph, &model) }
        graph.replace(index, with: .init(node.op, [node.inputs[0]]))
      }
    }
  }

  private static func fold(
    _ gain: Tensor, _ shift: Tensor?, into reader: Int, _ graph: inout Graph, _ model: inout Model
  ) {
    let linear = graph.nodes[reader]
    guard let weight = model.tensor(linear.inputs[1]) else { return }
    let bias = linear.inputs.count > 2 ? model.tensor(linear.inputs[2]) : nil
    let (rows, columns) = (weight.rows, weight.columns)
    let folded = model.add(weight.name.made("gain"), shape: weight.shape) { (threads) throws(Failure) in
      let (w, g) = (try weight.floats(threads: threads), try gain.floats(threads: threads))
      return try computedRows(rows, columns, threads: threads) { row, target in
        g.withRow(0, columns) { g in
          w.withRow(row, columns) { w in for column in 0..<columns { target[column] = w[column] * g[column] } }
        }
      }
    }
    var inputs = [linear.inputs[0], folded]
    if let shift {
      inputs.append(
        model.add((bias?.name ?? weight.name).made("shift"), shape: [rows]) { (threads) throws(Failure) in
          let (w, h) = (try weight.floats(threads: threads), try shift.floats(threads: threads))
          let old = try bias?.floats(threads: threads)
          return try computedRows(rows, 1, threads: threads) { row, target in
            var sum = Double(old?.withRow(row, 1) { $0[0] } ?? 0)
            h.withRow(0, columns) { h in
              w.withRow(row, columns) { w in for column in 0..<columns { sum += Double(w[column]) * Double(h[column]) } }
            }
            target[0] = Float(sum)
          }
        })
    } else if let bias {
      inputs.append(.tensor(bias.name))
    }
    graph.replace(reader, with: .init(linear.op, inputs))
  }
}

extension Encoding {
  var isPlain: Bool {
    if case .plain = self { true } else { false }
  }
}
