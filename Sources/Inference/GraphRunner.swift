import Bytes
import Tensors

/// One graph of a model on a device, cut into segments between which a batch carries a single value. Weights stay on the
/// device where they fit, and otherwise come and go segment by segment while all batches pass through it.
struct GraphRunner: Sendable {
  let graph: Graph
  private let model: Model
  private let device: any Device
  private let segments: [Segment]
  private let lastUse: [[Int]]  // nodes whose results are not needed after this node
  /// All weights, where they are kept.
  private let resident: [TensorName: DeviceBuffer]?

  struct Segment: Sendable {
    var nodes: Range<Int>
    var bytes: Int
  }

  /// What belongs to one batch: its inputs, and results that are still needed.
  struct State {
    var inputs: [Graph.Input: DeviceBuffer]
    var results: [DeviceBuffer?] = []
  }

  /// Weights that come and go together; more than one layer only where layers are small.
  private static let segmentBytes = 256 << 20

  init(_ graph: Graph, of model: Model, on device: any Device, isResident: Bool) throws(Failure) {
    self.graph = graph
    self.model = model
    self.device = device
    var last = graph.nodes.map { _ in [Int]() }
    for node in graph.nodes.indices where node != graph.output {
      last[graph.readers(of: node).max() ?? node].append(node)
    }
    lastUse = last
    segments = GraphRunner.segments(graph, model)
    guard isResident else {
      resident = nil
      return
    }
    var weights: [TensorName: DeviceBuffer] = [:]
    for name in graph.tensors { weights[name] = try device.upload(try GraphRunner.tensor(name, model)) }
    resident = weights
  }

  /// Bytes of all tensors that a graph reads.
  static func weightBytes(_ graph: Graph, _ model: Model) -> Int {
    graph.tensors.reduce(0) { $0 + (model[$1]?.byteCount ?? 0) }
  }

  private static func tensor(_ name: TensorName, _ model: Model) throws(Failure) -> Tensor {
    guard let tensor = model[name] else { throw Failure(.internal, "the model lacks tensor \(name.quoted)") }
    return tensor
  }

  private static func segments(_ graph: Graph, _ model: Model) -> [Segment] {
    var lastReader = graph.nodes.indices.map { $0 }
    for (index, node) in graph.nodes.enumerated() {
      for case .node(let earlier) in node.inputs { lastReader[earlier] = index }
    }
    var result: [Segment] = []
    var start = 0
    var seen = Set<TensorName>()
    var bytes = 0
    for index in graph.nodes.indices {
      for case .tensor(let name) in graph.nodes[index].inputs where seen.insert(name).inserted {
        bytes += model[name]?.byteCount ?? 0
      }
      let live = (0...index).count { lastReader[$0] > index }
      guard live <= 1 || index == graph.nodes.count - 1 else { continue }
      if let last = result.last, last.bytes + bytes <= segmentBytes {
        result[result.count - 1] = Segment(nodes: last.nodes.lowerBound..<index + 1, bytes: last.bytes + bytes)
      } else {
        result.append(Segment(nodes: start..<index + 1, bytes: bytes))
      }
      start = index + 1
      bytes = 0
      seen = []
    }
    return result
  }

  // MARK: Running

  /// Runs every batch through the graph, segment by segment. `tokens` are the ids of each batch, for tables that are not held.
  func run(
    _ states: inout [State], tokens: [[Int32]], step: (Double) -> Void = { _ in }
  ) throws(Failure) -> [DeviceBuffer] {
    for index in states.indices { states[index].results = [DeviceBuffer?](repeating: nil, count: graph.nodes.count) }
    for (number, segment) in segments.enumerated() {
      let weights = if let resident { resident } else { try load(segment) }
      for index in states.indices { try run(segment, &states[index], weights, tokens, batch: index) }
      step(Double(number + 1) / Double(segments.count))
    }
    var outputs: [DeviceBuffer] = []
    for state in states {
      guard let output = state.results[graph.output] else { throw Failure(.internal, "the graph gave no result") }
      outputs.append(output)
    }
    return outputs
  }

  private func load(_ segment: Segment) throws(Failure) -> [TensorName: DeviceBuffer] {
    var weights: [TensorName: DeviceBuffer] = [:]
    for node in graph.nodes[segment.nodes] where !isTable(node) {
      for case .tensor(let name) in node.inputs where weights[name] == nil {
        weights[name] = try device.upload(try GraphRunner.tensor(name, model))
      }
    }
    return weights
  }

  /// Whether a node looks up token ids, of which a batch has few in a table of many.
  private func isTable(_ node: Graph.Node) -> Bool { node.op == .embedding && node.inputs[1] == .input(.tokens) }

  private func run(
    _ segment: Segment, _ state: inout State, _ weights: [TensorName: DeviceBuffer], _ tokens: [[Int32]], batch: Int
  ) throws(Failure) {
    for index in segment.nodes {
      let node = graph.nodes[index]
      if resident == nil, isTable(node), case .tensor(let name) = node.inputs[0] {
        var inputs = try rows(of: name, for: tokens[batch])
        for source in node.inputs.dropFirst(2) { inputs.append(try buffer(source, state, weights, index)) }
        state.results[index] = try device.run(node.op, inputs)
      } else {
        var inputs: [DeviceBuffer] = []
        for source in node.inputs { inputs.append(try buffer(source, state, weights, index)) }
        state.results[index] = try device.run(node.op, inputs)
      }
      for done in lastUse[index] { state.results[done] = nil }
    }
  }

  private func buffer(
    _ source: Graph.Source, _ state: State, _ weights: [TensorName: DeviceBuffer], _ index: Int
  ) throws(Failure) -> DeviceBuffer {
    let buffer =
      switch source {
      case .node(let earlier): state.results[earlier]
      case .tensor(let name): weights[name]
      case .input(let input): state.inputs[input]
      }
    guard let buffer else { throw Failure(.internal, "an input of graph node \(index) is missing") }
    return buffer
  }

  /// The rows of a table that a batch needs, and its ids counted among them.
  private func rows(of name: TensorName, for ids: [Int32]) throws(Failure) -> [DeviceBuffer] {
    let table = try GraphRunner.tensor(name, model)
    let needed = Set(ids.lazy.filter { $0 >= 0 }).sorted()
    if let bad = needed.last, Int(bad) >= table.rows {
      throw Failure(.malformed, "index \(bad) has no row; the table has \(table.rows)", thing: "tensor \(name.quoted)")
    }
    var places: [Int32: Int32] = [:]
    for (place, id) in needed.enumerated() { places[id] = Int32(place) }
    // A batch of pictures alone still needs a table to look nothing up in.
    let rows = needed.isEmpty ? [0] : needed.map(Int.init)
    return [
      try device.upload(try table.gathered(rows: rows)), try device.upload(indices: ids.map { places[$0] ?? $0 }),
    ]
  }
}

extension Device {
  func upload(indices: [Int32], columns: Int = 1) throws(Failure) -> DeviceBuffer {
    let shape = columns == 1 ? [indices.count] : [indices.count / columns, columns]
    return try upload(Tensor("batch", shape: shape, encoding: .plain(.I32), content: .bytes(try .init(indices))))
  }

  func upload(floats: [Float], columns: Int) throws(Failure) -> DeviceBuffer {
    try upload(
      Tensor(
        "batch", shape: [floats.count / columns, columns], encoding: .plain(.F32), content: .bytes(try .init(floats))))
  }

  func upload(pixels: [UInt8], columns: Int) throws(Failure) -> DeviceBuffer {
    try upload(
      Tensor(
        "batch", shape: [pixels.count / columns, columns], encoding: .plain(.U8), content: .bytes(try .init(pixels))))
  }
}

extension ByteView {
  fileprivate init<T: BitwiseCopyable>(_ elements: [T]) throws(Failure) {
    let buffer = try Buffer(count: elements.count * MemoryLayout<T>.stride)
    buffer.with(T.self) { _ = $0.update(fromContentsOf: elements) }
    self.init(buffer)
  }
}
