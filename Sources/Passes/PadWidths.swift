import Bytes
import Tensors

extension Pass {
  static let padding = 32

  /// Inner widths of an MLP that are no multiple of 32 (SigLIP's 4304) are filled up with zero rows of the first
  /// weights and zero columns of the last, so that groups and vector registers come out even. Exact: each activation
  /// maps 0 to 0, and what is multiplied by the zero columns adds nothing.
  public static let padWidths = Pass("pad-widths") { (model, notes) throws(Failure) in
    try model.rewriteGraphs { (graph, model) throws(Failure) in
      for index in graph.nodes.indices {
        guard case .linear = graph.nodes[index].op, let last = model.tensor(graph.nodes[index].inputs[1]),
          last.encoding.isPlain, last.shape.count == 2, last.columns % padding != 0,
          let first = firstLinears(below: index, graph, model)
        else { continue }
        let width = last.columns
        let padded = (width + padding - 1) / padding * padding
        // A few percent at most; narrow layers are better left alone.
        guard Double(padded) <= Double(width) * 1.05 else { continue }
        for place in first {
          var node = graph.nodes[place]
          for input in 1..<node.inputs.count {
            guard let tensor = model.tensor(node.inputs[input]) else { continue }
            node.inputs[input] = model.padded(tensor, tensor.shape.count > 1 ? [padded, tensor.columns] : [padded])
          }
          graph.replace(place, with: node)
        }
        var node = graph.nodes[index]
        node.inputs[1] = model.padded(last, [last.rows, padded])
        graph.replace(index, with: node)
      }
    }
  }

  /// The linear operations whose results reach `index` through activations and products alone, and nothing else; nil
  /// when there is anything else on the way.
  ///
  /// - Parameter isPlain: whether their weights and biases must be plain tensors.
  static func firstLinears(below index: Int, _ graph: Graph, _ model: Model, isPlain: Bool = true) -> [Int]? {
    guard case .node(let start) = graph.nodes[index].inputs[0], graph.readers(of: start) == [index] else { return nil }
    var open = [start]
    var found: [Int] = []
    while let place = open.popLast() {
      let node = graph.nodes[place]
      switch node.op {
      case .linear:
        let parameters = node.inputs.dropFirst().map { model.tensor($0) }
        guard place != start, !isPlain || parameters.allSatisfy({ $0?.encoding.isPlain ?? false }) else { return nil }
        found.append(place)
      case .activation, .multiply:
        for source in node.inputs {
          guard case .node(let below) = source, graph.readers(of: below) == [place] else { return nil }
          open.append(below)
        }
      default: return nil
      }
    }
    return found.isEmpty ? nil : found
  }
}

extension Model {
  /// A Float32 copy of a tensor with zeros after its rows and columns.
  fileprivate mutating func padded(_ tensor: Tensor, _ shape: [Int]) -> Graph.Source {
    let (rows, columns, width) = (tensor.rows, tensor.columns, shape[shape.count - 1])
    return add(tensor.name.made("padded"), shape: shape) { (threads) throws(Failure) in
      let reader = try tensor.rowReader(threads: threads)
      return RowReader { (span, target) throws(Failure) in
        let old = min(rows, span.lowerBound)..<min(rows, span.upperBound)
        if !old.isEmpty { try reader.read(old, into: target) }
        // Rows move apart from the last to the first, so that none is written over before it has moved.
        for row in (0..<span.count).reversed() {
          let kept = row < old.count ? columns : 0
          (target + row * width).update(from: target + row * columns, count: kept)
          (target + row * width + kept).update(repeating: 0, count: width - kept)
        }
      } end: { (isComplete) throws(Failure) in
        try reader.finish(isComplete: isComplete)
      }
    }
  }
}
