import Bytes
import Tensors

extension Pass {
  /// Linear operations that read one value (query, key and value) become one with their rows one after the other, and
  /// slices of its result. Exact: every output is the same sum as before.
  public static let fuseProjections = Pass("fuse-projections") { (model, notes) throws(Failure) in
    try model.rewriteGraphs { (graph, model) throws(Failure) in
      // Each round removes at least one linear node, so this ends.
      while let group = firstGroup(in: graph, of: model) { graph = try fuse(group, graph, &model) }
    }
  }

  /// Linear nodes, two or more, that read one value in the same way.
  private static func firstGroup(in graph: Graph, of model: Model) -> [Int]? {
    let linears = graph.nodes.indices.filter { graph.nodes[$0].isFusable(in: model) }
    for index in linears {
      let node = graph.nodes[index]
      let group = linears.filter { other in
        let other = graph.nodes[other]
        return other.inputs[0] == node.inputs[0] && other.op == node.op && other.inputs.count == node.inputs.count
      }
      if group.count > 1 { return group }
    }
    return nil
  }

  /// The graph with one linear node in front of the first of `group`, and a slice in the place of each.
  private static func fuse(_ group: [Int], _ graph: Graph, _ model: inout Model) throws(Failure) -> Graph {
    let first = graph.nodes[group[0]]
    let members = group.map { graph.nodes[$0] }
    let weights = members.compactMap { model.tensor($0.inputs[1]) }
    let biases = members.compactMap { $0.inputs.count > 2 ? model.tensor($0.inputs[2]) : nil }
    var result = Graph()
    var renumbered: [Int: Graph.Source] = [:]
    func moved(_ source: Graph.Source) -> Graph.Source {
      if case .node(let index) = source { renumbered[index] ?? source } else { source }
    }
    var fused: Graph.Source?
    for (index, node) in graph.nodes.enumerated() {
      if index == group[0] {
        var inputs = [moved(first.inputs[0]), .tensor(model.joinRows(weights))]
        if !biases.isEmpty { inputs.append(.tensor(model.joinRows(biases))) }
        fused = result.append(.init(first.op, inputs))
      }
      if let place = group.firstIndex(of: index), let fused {
        let offset = weights[..<place].reduce(0) { $0 + $1.rows }
        renumbered[index] = result.append(.slice(offset: offset, count: weights[place].rows), fused)
      } else {
        renumbered[index] = result.append(.init(node.op, node.inputs.map(moved)))
      }
    }
    if case .node(let output) = moved(.node(graph.output)) { result.output = output }
    return result
  }
}

extension Graph.Node {
  /// A linear operation over a node's result whose parameters are plain tensors.
  fileprivate func isFusable(in model: Model) -> Bool {
    guard case .linear = op, case .node = inputs[0] else { return false }
    return inputs.dropFirst().allSatisfy { model.tensor($0)?.encoding.isPlain ?? false }
  }
}

extension Model {
  /// Adds a tensor that holds the given ones' rows one after the other: in their own type when they share it, else
  /// Float32.
  fileprivate mutating func joinRows(_ tensors: [Tensor]) -> TensorName {
    let name = TensorName.joined(tensors.map(\.name))
    let isMatrix = tensors[0].shape.count == 2
    let rows = tensors.reduce(0) { $0 + (isMatrix ? $1.rows : $1.count) }
    let shape = isMatrix ? [rows, tensors[0].columns] : [rows]
    let isUniform = tensors.allSatisfy { $0.encoding == tensors[0].encoding }
    let encoding = isUniform ? tensors[0].encoding : .plain(.F32)
    let isRead = isMatrix && encoding == .plain(.F32)
    let content: Tensor.Content =
      isRead
      ? .rows { (threads) throws(Failure) in try RowReader(joining: tensors, threads: threads) }
      : .computed(
        Tensor.Computation { (threads) throws(Failure) in
          var parts: [ByteView] = []
          for tensor in tensors {
            parts.append(ByteView(try isUniform ? tensor.load(threads: threads) : tensor.floats(threads: threads)))
          }
          guard let joined = ByteView(joining: parts) else { throw Failure(.limit, "tensor is too large") }
          return (try joined.load(), nil)
        })
    set(Tensor(name, shape: shape, encoding: encoding, content: content))
    return name
  }
}

extension RowReader {
  /// The rows of matrices of one width, one after the other.
  fileprivate init(joining tensors: [Tensor], threads: Int) throws(Failure) {
    var parts: [(reader: RowReader, start: Int, rows: Int)] = []
    for tensor in tensors {
      let start = parts.last.map { $0.start + $0.rows } ?? 0
      parts.append((try tensor.rowReader(threads: threads), start, tensor.rows))
    }
    let (readers, columns) = (parts, tensors[0].columns)
    self.init { (span, target) throws(Failure) in
      for part in readers {
        let own = span.clamped(to: part.start..<part.start + part.rows)
        guard !own.isEmpty else { continue }
        let rows = own.lowerBound - part.start..<own.upperBound - part.start
        try part.reader.read(rows, into: target + (own.lowerBound - span.lowerBound) * columns)
      }
    } end: { (isComplete) throws(Failure) in
      for part in readers { try part.reader.finish(isComplete: isComplete) }
    }
  }
}
