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
      let result = try Buffer(count: w.count)
      w.with(Float.self) { w in
        g.with(Float.self) { g in
          result.with(Float.self) { for i in 0..<$0.count { $0[i] = w[i] * g[i % columns] } }
        }
      }
      return result
    }
    var inputs = [linear.inputs[0], folded]
    if let shift {
      inputs.append(
        model.add((bias?.name ?? weight.name).made("shift"), shape: [rows]) { (threads) throws(Failure) in
          let (w, h) = (try weight.floats(threads: threads), try shift.floats(threads: threads))
          let old = try bias?.floats(threads: threads)
          let result = try Buffer(count: rows * 4)
          w.with(Float.self) { w in
            h.with(Float.self) { h in
              result.with(Float.self) { result in
                for row in 0..<rows {
                  let start = old?.with(Float.self) { Double($0[row]) } ?? 0
                  result[row] = Float(
                    (0..<columns).reduce(start) { $0 + Double(w[row * columns + $1]) * Double(h[$1]) })
                }
              }
            }
          }
          return result
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
