import Bytes
import Tensors

extension Model {
  /// Linear operations that `fuseProjections` joined become one each again, in the places of the slices. Of weights and
  /// biases the rows are taken as they are.
  mutating func splitProjections() throws(Failure) {
    let reads = graphs.flatMap(\.graph.nodes).flatMap(\.inputs)
    for place in graphs.indices {
      let graph = graphs[place].graph
      var joined: [Int: JoinedLinear] = [:]
      for index in graph.nodes.indices {
        guard let linear = JoinedLinear(index, graph, self),
          linear.tensors.allSatisfy({ tensor in reads.count { $0 == .tensor(tensor.name) } == 1 })
        else { continue }
        joined[index] = linear
      }
      guard !joined.isEmpty else { continue }
      var parts: [TensorName: [Tensor]] = [:]
      for linear in joined.values { try linear.split(into: &parts) }
      try replaceTensors { parts[$0.name] ?? [$0] }
      graphs[place].graph = split(graph, joined)
    }
  }

  private func split(_ graph: Graph, _ joined: [Int: JoinedLinear]) -> Graph {
    var result = Graph()
    var renumbered: [Int: Graph.Source] = [:]
    func moved(_ source: Graph.Source) -> Graph.Source {
      if case .node(let index) = source { renumbered[index] ?? source } else { source }
    }
    for (index, node) in graph.nodes.enumerated() where joined[index] == nil {
      if case .slice(let offset, _) = node.op, case .node(let below) = node.inputs[0], let linear = joined[below],
        let member = linear.ranges.firstIndex(where: { $0.lowerBound == offset })
      {
        let names = [linear.weights[member]] + (linear.bias == nil ? [] : [linear.biases[member]])
        let linear = graph.nodes[below]
        renumbered[index] = result.append(.init(linear.op, [moved(linear.inputs[0])] + names.map { .tensor($0) }))
      } else {
        renumbered[index] = result.append(.init(node.op, node.inputs.map(moved)))
      }
    }
    if case .node(let output) = moved(.node(graph.output)) { result.output = output }
    return result
  }
}

/// A linear operation over the rows of several, of whose result nothing but their slices is read.
private struct JoinedLinear {
  let weight: Tensor
  let bias: Tensor?
  /// Of each member, in the order of their rows.
  let weights, biases: [TensorName]
  let ranges: [Range<Int>]

  var tensors: [Tensor] { [weight] + (bias.map { [$0] } ?? []) }

  init?(_ index: Int, _ graph: Graph, _ model: Model) {
    let node = graph.nodes[index]
    guard case .linear = node.op, index != graph.output, let weight = model.tensor(node.inputs[1]),
      let members = weight.name.members, weight.shape.count == 2
    else { return nil }
    var ranges = Set<Range<Int>>()
    for reader in graph.readers(of: index) {
      guard case .slice(let offset, let count) = graph.nodes[reader].op else { return nil }
      ranges.insert(offset..<offset + count)
    }
    let sorted = ranges.sorted { $0.lowerBound < $1.lowerBound }
    guard sorted.count == members.count, sorted.first?.lowerBound == 0, sorted.last?.upperBound == weight.rows,
      zip(sorted, sorted.dropFirst()).allSatisfy({ $0.upperBound == $1.lowerBound })
    else { return nil }
    bias = node.inputs.count > 2 ? model.tensor(node.inputs[2]) : nil
    guard node.inputs.count == (bias == nil ? 2 : 3), bias == nil || bias?.shape == [weight.rows] else { return nil }
    (self.weight, self.ranges, weights) = (weight, sorted, members)
    biases = members.map { $0.biasBeside ?? $0.made("bias") }
  }

  func split(into parts: inout [TensorName: [Tensor]]) throws(Failure) {
    for (member, range) in ranges.enumerated() {
      parts[weight.name, default: []].append(try weight.part(range, named: weights[member]))
      if let bias { parts[bias.name, default: []].append(try bias.part(range, named: biases[member])) }
    }
  }
}
