import Bytes
import Inference
import Tensors

/// A graph that is gone through forwards and then backwards.
///
/// What lies between blocks is kept on the way forward, everything inside a block is computed anew on the way back:
/// memory is that of one block, about half a layer, and of what layers pass on. Where all fits, all is kept.
struct GraphGradient: Sendable {
  private let graph: Graph
  private let gradients: OpGradients
  private var device: CPUDevice { gradients.device }
  private let blocks: [Range<Int>]
  /// Nodes whose result anything that is trained moves.
  private let moves: [Bool]
  private let trained: Set<TensorName>
  private let moved: Set<Graph.Input>
  /// The last node that reads each node's result.
  private let lastReader: [Int]
  /// Floats of all results for each row.
  private let columns: Int
  /// Bytes of results up to which all are kept.
  private let mostKept: Int

  /// - Parameters:
  ///   - trained: tensors that gradients are wanted by.
  ///   - moved: inputs that gradients are wanted by.
  ///   - mostKept: bytes of results up to which all are kept.
  init(
    _ graph: Graph, of model: Model, on device: CPUDevice, trained: Set<TensorName>, moved: Set<Graph.Input>,
    mostKept: Int
  ) throws(Failure) {
    self.graph = graph
    self.mostKept = mostKept
    gradients = OpGradients(device)
    (self.trained, self.moved) = (trained, moved)
    columns = try model.types(of: graph).reduce(0) { $0 + $1.columns }
    var moves: [Bool] = []
    var lastReader = [Int](repeating: -1, count: graph.nodes.count)
    for (index, node) in graph.nodes.enumerated() {
      moves.append(
        node.inputs.contains { source in
          switch source {
          case .node(let earlier): moves[earlier]
          case .tensor(let name): trained.contains(name)
          case .input(let input): moved.contains(input)
          }
        })
      for case .node(let earlier) in node.inputs { lastReader[earlier] = index }
    }
    lastReader[graph.output] = graph.nodes.count
    (self.moves, self.lastReader) = (moves, lastReader)
    var blocks: [Range<Int>] = []
    var start = 0
    for index in graph.nodes.indices {
      let live = (0...index).count { lastReader[$0] > index }
      guard live <= 1 || index == graph.nodes.count - 1 else { continue }
      blocks.append(start..<index + 1)
      start = index + 1
    }
    self.blocks = blocks
  }

  /// Whether anything that is trained moves the result.
  var isMoved: Bool { moves[graph.output] }

  /// A way forward, to be gone back.
  struct Trace {
    let inputs: [Graph.Input: DeviceBuffer]
    fileprivate var results: [Int: DeviceBuffer] = [:]
  }

  func run(_ inputs: [Graph.Input: DeviceBuffer], _ weights: Weights) throws(Failure) -> Trace {
    var trace = Trace(inputs: inputs)
    let rows = max(inputs[.tokens]?.rows ?? 0, inputs[.pixels]?.rows ?? 0, inputs[.hidden]?.rows ?? 0)
    let keepsAll = Checked.product([rows, columns, 4]).map { $0 <= mostKept } ?? false
    for block in blocks {
      try run(block, &trace, weights)
      guard !keepsAll else { continue }
      trace.results = trace.results.filter { lastReader[$0.key] >= block.upperBound || $0.key < block.lowerBound }
    }
    return trace
  }

  func output(of trace: Trace) throws(Failure) -> DeviceBuffer {
    guard let output = trace.results[graph.output] else { throw Failure(.internal, "the graph gave no result") }
    return output
  }

  /// Computes what a block lacks.
  private func run(_ block: Range<Int>, _ trace: inout Trace, _ weights: Weights) throws(Failure) {
    for index in block where trace.results[index] == nil {
      let node = graph.nodes[index]
      var inputs: [DeviceBuffer] = []
      for source in node.inputs { inputs.append(try buffer(source, trace, weights)) }
      trace.results[index] = try device.run(node.op, inputs)
    }
  }

  private func buffer(_ source: Graph.Source, _ trace: Trace, _ weights: Weights) throws(Failure) -> DeviceBuffer {
    let buffer =
      switch source {
      case .node(let earlier): trace.results[earlier]
      case .tensor(let name): try weights.buffer(name)
      case .input(let input): trace.inputs[input]
      }
    guard let buffer else { throw Failure(.internal, "an input of the graph is missing") }
    return buffer
  }

  /// Goes back a way, once.
  ///
  /// - Parameters:
  ///   - upstream: the gradient by the graph's result.
  ///   - found: is given that by each trained tensor, for every place where it is read.
  /// - Returns: that by each input that is wanted.
  func back(
    _ trace: consuming Trace, upstream: Floats, _ weights: Weights,
    found: (TensorName, Floats) throws(Failure) -> Void
  ) throws(Failure) -> [Graph.Input: Floats] {
    var trace = trace
    var byNode = [graph.output: upstream]
    var byInput: [Graph.Input: Floats] = [:]
    for block in blocks.reversed() {
      if block.contains(where: { moves[$0] }) { try run(block, &trace, weights) }
      for index in block.reversed() {
        guard moves[index], let own = byNode.removeValue(forKey: index) else { continue }
        try back(index, own, trace, weights, &byNode, &byInput, found)
        trace.results[index] = nil
      }
      for index in block { trace.results[index] = nil }
    }
    return byInput
  }

  private func back(
    _ index: Int, _ upstream: Floats, _ trace: Trace, _ weights: Weights, _ byNode: inout [Int: Floats],
    _ byInput: inout [Graph.Input: Floats], _ found: (TensorName, Floats) throws(Failure) -> Void
  ) throws(Failure) {
    let node = graph.nodes[index]
    var buffers: [DeviceBuffer] = []
    for source in node.inputs { buffers.append(try buffer(source, trace, weights)) }
    let inputs = OpGradients.Inputs(buffers) { (place) throws(Failure) in
      guard case .tensor(let name) = node.inputs[place] else { throw Failure(.internal, "a weight that is no tensor") }
      return try weights.floats(name)
    }
    let wanted = node.inputs.map { source in
      switch source {
      case .node(let earlier): moves[earlier]
      case .tensor(let name): trained.contains(name)
      case .input(let input): moved.contains(input)
      }
    }
    let results = try gradients.gradients(of: node.op, inputs, upstream: upstream, wanted: wanted)
    for (source, result) in zip(node.inputs, results) {
      guard let result else { continue }
      switch source {
      case .node(let earlier): byNode[earlier] = try byNode[earlier]?.plus(result) ?? result
      case .tensor(let name): try found(name, result)
      case .input(let input): byInput[input] = try byInput[input]?.plus(result) ?? result
      }
    }
  }
}
