import Bytes
import Tensors

extension Model {
  /// Linear operations whose bias is in a table (`foldBias`) get one of zeros; the table keeps the sum, which nobody
  /// can take apart.
  mutating func giveBiasesBack() throws(Failure) {
    for place in graphs.indices {
      var graph = graphs[place].graph
      for node in graph.nodes where node.op == .add {
        for (first, second) in [(0, 1), (1, 0)] {
          guard case .node(let linear) = node.inputs[first], case .linear = graph.nodes[linear].op,
            graph.nodes[linear].inputs.count == 2, let weight = tensor(graph.nodes[linear].inputs[1]),
            let bias = weight.name.biasBeside, self[bias] == nil,
            case .node(let lookup) = node.inputs[second], graph.nodes[lookup].op.isEmbedding,
            case .tensor(let name) = graph.nodes[lookup].inputs[0], let old = name.without("bias"),
            readers(of: name) == 1
          else { continue }
          try replaceTensors { [$0.name == name ? $0.renamed(old) : $0] }
          set(try Tensor(bias, floats: [Float](repeating: 0, count: weight.rows), shape: [weight.rows]))
          graph.replace(
            lookup, with: .init(graph.nodes[lookup].op, [.tensor(old)] + graph.nodes[lookup].inputs.dropFirst()))
          graph.replace(linear, with: .init(graph.nodes[linear].op, graph.nodes[linear].inputs + [.tensor(bias)]))
        }
      }
      graphs[place].graph = graph
    }
  }

  /// Takes factor, mean and deviation of the pixels out of the weights of the patches, where `foldPixels` put them.
  /// With channel c of a column: `W = W' · deviation[c] / factor` and `b = b' + Σ W · mean[c] / deviation[c]`.
  ///
  /// - Rounding: products and sums in double, rounded once to Float32. Integers become Float32: their groups do not go
  ///   by channels.
  mutating func takePixelsBack(_ rescale: Op.Rescale, _ notes: inout [String]) throws(Failure) {
    for place in graphs.indices {
      let graph = graphs[place].graph
      guard let index = graph.nodes.indices.first(where: { isPatches(graph.nodes[$0]) }),
        let vision = configuration.vision, let weight = tensor(graph.nodes[index].inputs[1]),
        let name = weight.name.without("pixels"),
        let biasName = name.biasBeside, rescale.mean.count == 3, weight.shape == [weight.rows, vision.patchColumns],
        graph.nodes[index].inputs.count > 2, let bias = tensor(graph.nodes[index].inputs[2])
      else { continue }
      if !weight.encoding.isPlain {
        notes.append("tensor \(name.quoted) is written as Float32: its groups mix channels")
      }
      let shape = [weight.rows, 3, vision.patch, vision.patch]
      let made = [
        weight.name: Tensor(
          name, shape: shape, encoding: .plain(.F32), content: .computed(.patches(weight, rescale))),
        bias.name: Tensor(
          biasName, shape: [weight.rows], encoding: .plain(.F32), content: .computed(.shift(weight, bias, rescale))),
      ]
      try replaceTensors { [made[$0.name] ?? $0] }
      graphs[place].graph = graph.inserting(.init(.rescale(rescale), [.input(.pixels)]), before: index) { pixels in
        .init(graph.nodes[index].op, [pixels, .tensor(name), .tensor(biasName)])
      }
    }
  }

  private func isPatches(_ node: Graph.Node) -> Bool {
    guard case .linear = node.op, node.inputs[0] == .input(.pixels), case .tensor(let name) = node.inputs[1] else {
      return false
    }
    return name.without("pixels") != nil && readers(of: name) == 1
  }
}

extension Tensor.Computation {
  /// Weights of patches for pixels that are scaled before.
  fileprivate static func patches(_ weight: Tensor, _ rescale: Op.Rescale) -> Self {
    let (columns, channel) = (weight.columns, weight.columns / rescale.mean.count)
    return Self { (threads) throws(Failure) in
      let values = try weight.floats(threads: threads)
      let result = try Buffer(count: values.count)
      values.with(Float.self) { values in
        result.with(Float.self) { result in
          for index in values.indices {
            let deviation = rescale.deviation[index % columns / channel]
            result[index] = Float(Double(values[index]) * deviation / rescale.factor)
          }
        }
      }
      return (result, nil)
    }
  }

  /// Their bias: what the mean took from it is added again.
  fileprivate static func shift(_ weight: Tensor, _ bias: Tensor, _ rescale: Op.Rescale) -> Self {
    let (columns, channel) = (weight.columns, weight.columns / rescale.mean.count)
    return Self { (threads) throws(Failure) in
      let (values, start) = (try weight.floats(threads: threads), try bias.floats(threads: threads))
      let result = try Buffer(count: weight.rows * 4)
      values.with(Float.self) { values in
        start.with(Float.self) { start in
          result.with(Float.self) { result in
            for row in result.indices {
              var sum = Double(start[row])
              for column in 0..<columns {
                sum += Double(values[row * columns + column]) / rescale.factor * rescale.mean[column / channel]
              }
              result[row] = Float(sum)
            }
          }
        }
      }
      return (result, nil)
    }
  }
}

extension Graph {
  /// With one more node, and another one in the place of `index` that may read it.
  fileprivate func inserting(_ node: Node, before index: Int, _ replacing: (Source) -> Node) -> Graph {
    var result = Graph()
    func moved(_ source: Source) -> Source {
      if case .node(let old) = source, old >= index { .node(old + 1) } else { source }
    }
    for (place, old) in nodes.enumerated() {
      result.append(place == index ? replacing(result.append(node)) : Node(old.op, old.inputs.map(moved)))
    }
    if case .node(let output) = moved(.node(self.output)) { result.output = output }
    return result
  }
}
