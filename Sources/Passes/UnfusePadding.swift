import Bytes
import Tensors

extension Model {
  /// Cuts off rows and columns of zeros that `padWidths` added.
  ///
  /// How wide an MLP was nobody wrote down: as many rows of zeros are cut off as all of its size in the graph have at
  /// their ends, fewer than were ever added.
  mutating func cutPadding() throws(Failure) {
    for place in graphs.indices {
      let graph = graphs[place].graph
      var sites: [PaddedSite] = []
      for index in graph.nodes.indices { if let site = PaddedSite(index, graph, self) { sites.append(site) } }
      for size in Set(sites.map(\.last.columns)).sorted() {
        let alike = sites.filter { $0.last.columns == size }
        var zeros = Pass.padding - 1
        for site in alike where zeros > 0 { zeros = min(zeros, try site.zeroRows(most: zeros)) }
        guard zeros > 0, zeros < size else { continue }
        var made: [TensorName: Tensor] = [:]
        for site in alike {
          for first in site.firsts { made[first.name] = try first.part(0..<size - zeros, named: first.name) }
          made[site.last.name] = try site.last.cut(columns: size - zeros)
        }
        try replaceTensors { [made[$0.name] ?? $0] }
      }
    }
  }

  /// Takes the mark of `padWidths` from all names, whether zeros were cut off or are part of their tensors now.
  mutating func forgetPadding() throws(Failure) {
    var names: [TensorName: TensorName] = [:]
    for name in graphs.flatMap(\.graph.tensors) { names[name] = name.without("padded") }
    try rename(names)
  }
}

/// A linear operation with columns that were filled up, and what makes the rows that they are multiplied with.
private struct PaddedSite {
  let last: Tensor
  /// Weights and biases, with as many rows or elements.
  let firsts: [Tensor]

  init?(_ index: Int, _ graph: Graph, _ model: Model) {
    guard case .linear = graph.nodes[index].op, let last = model.tensor(graph.nodes[index].inputs[1]),
      last.name.marks.contains("padded"), last.shape.count == 2, last.columns % Pass.padding == 0,
      let places = Pass.firstLinears(below: index, graph, model, isPlain: false)
    else { return nil }
    var firsts: [Tensor] = []
    for place in places {
      let node = graph.nodes[place]
      let tensors = node.inputs.dropFirst().compactMap { model.tensor($0) }
      guard tensors.count == node.inputs.count - 1, tensors[0].name.marks.contains("padded"),
        tensors[0].shape.count == 2, tensors.allSatisfy({ $0.shape[0] == last.columns })
      else { return nil }
      firsts += tensors
    }
    guard (firsts + [last]).allSatisfy({ model.readers(of: $0.name) == 1 }) else { return nil }
    (self.last, self.firsts) = (last, firsts)
  }

  /// How many rows at the end are zeros in all weights and biases.
  func zeroRows(most: Int) throws(Failure) -> Int {
    var zeros = most
    for tensor in firsts {
      let (count, width) = (tensor.shape[0], tensor.count / tensor.shape[0])
      guard count > zeros else { return 0 }
      let end = try tensor.part(count - zeros..<count, named: tensor.name).floats().array(of: Float.self)
      zeros = (end.count - 1 - (end.lastIndex { $0 != 0 } ?? -1)) / width
    }
    return zeros
  }
}
