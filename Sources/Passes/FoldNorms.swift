import Bytes
import Tensors

extension Pass {
  /// `linear(norm(x) · g + h)` becomes `linear(norm(x))` with `W' = W diag(g)` and `b' = b + W h`, where everything
  /// that reads the norm is a linear operation. (Where a residual reads it too, as in post-norm encoders, it stays, and
  /// where W is multiplied with something else besides, as in SigLIP's pooling head: a checkpoint has one W.)
  ///
  /// - Rounding: products and sums in double, rounded once to Float32.
  public static let foldNorms = foldNorms(of: nil)

  /// The same in the graphs of these names alone; all when nil.
  public static func foldNorms(of graphs: Set<String>?) -> Pass {
    Pass("fold-norms") { (model, notes) throws(Failure) in
      try model.rewriteGraphs(graphs) { (graph, model) throws(Failure) in try foldNorms(in: &graph, of: &model) }
    }
  }

  private static func foldNorms(in graph: inout Graph, of model: inout Model) throws(Failure) {
    for index in graph.nodes.indices {
      let node = graph.nodes[index]
      guard case .norm(let kind, let epsilon, 1) = node.op, node.inputs.count > 1, index != graph.output,
        let gain = model.tensor(node.inputs[1]), !isPooled(node, graph)
      else {
        continue
      }
      let bias = node.inputs.count > 2 ? model.tensor(node.inputs[2]) : nil
      let readers = graph.readers(of: index)
      let isFoldable = readers.allSatisfy { reader in
        let linear = graph.nodes[reader]
        guard case .linear = linear.op, linear.inputs[0] == .node(index),
          graph.nodes.count(where: { $0.inputs.contains(linear.inputs[1]) }) == 1
        else { return false }
        return linear.inputs.dropFirst().allSatisfy { model.tensor($0)?.encoding.isPlain ?? false }
      }
      guard isFoldable, !readers.isEmpty else { continue }
      for reader in readers { fold(gain, kind.gainOffset, bias, into: reader, &graph, &model) }
      let plain: Op.Norm = kind == .rmsPlusOne ? .rms : kind
      graph.replace(index, with: .init(.norm(plain, epsilon: epsilon), [node.inputs[0]]))
    }
  }

  /// Whether a norm works on what was pooled: one row of each input, for which nothing is gained, and which other
  /// programs keep in a file of its own.
  private static func isPooled(_ norm: Graph.Node, _ graph: Graph) -> Bool {
    var node = norm
    while case .node(let below) = node.inputs[0] {
      node = graph.nodes[below]
      switch node.op {
      case .pool: return true
      case .norm, .linear, .activation, .normalize, .concatenate: continue
      default: return false
      }
    }
    return false
  }

  private static func fold(
    _ gain: Tensor, _ offset: Float, _ shift: Tensor?, into reader: Int, _ graph: inout Graph, _ model: inout Model
  ) {
    let linear = graph.nodes[reader]
    guard let weight = model.tensor(linear.inputs[1]) else { return }
    let bias = linear.inputs.count > 2 ? model.tensor(linear.inputs[2]) : nil
    let folded = model.addRows(weight.name.made("gain"), of: weight, with: gain) { row, gain in
      for column in row.indices { row[column] *= offset + gain[column] }
    }
    var inputs = [linear.inputs[0], folded]
    if let shift {
      inputs.append(
        model.addSums((bias?.name ?? weight.name).made("shift"), of: weight, plus: bias, with: shift) { row, shift in
          var sum = 0.0
          for column in row.indices { sum += Double(row[column]) * Double(shift[column]) }
          return sum
        })
    } else if let bias {
      inputs.append(.tensor(bias.name))
    }
    graph.replace(reader, with: .init(linear.op, inputs))
  }
}
