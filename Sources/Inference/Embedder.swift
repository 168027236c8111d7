import Bytes
import Tensors

/// A model on a device, ready to turn token ids into embeddings.
public struct Embedder: Sendable {
  public let width: Int
  private let device: any Device
  private let graph: Graph
  private let weights: [TensorName: DeviceBuffer]
  private let lastUse: [[Int]]  // nodes whose results are not needed after this node
  /// Tokens that run through the graph together: large enough to keep all threads busy, small enough for the caches.
  private static let tokensPerBatch = 2_048

  /// Uploads the tensors that the text graph reads.
  public init(_ model: Model, on device: any Device) throws(Failure) {
    guard let graph = model.graph("text") else { throw Failure(.unsupported, "the model has no graph for text") }
    self.device = device
    self.graph = graph
    width = model.configuration.width
    var weights: [TensorName: DeviceBuffer] = [:]
    for name in graph.tensors {
      guard let tensor = model[name] else { throw Failure(.internal, "the model lacks tensor \(name.quoted)") }
      weights[name] = try device.upload(tensor)
    }
    self.weights = weights
    var last = graph.nodes.map { _ in [Int]() }
    for node in graph.nodes.indices where node != graph.output {
      last[graph.readers(of: node).max() ?? node].append(node)
    }
    lastUse = last
  }

  /// One embedding for each list of token ids, `[lists, width]`.
  ///
  /// - Parameter progress: called with the number of lists done so far.
  /// - Note: an embedding depends on its own list alone. Lists must not be empty.
  public func embed(_ lists: [[Int32]], progress: (Int) -> Void = { _ in }) throws(Failure) -> [Float] {
    var result: [Float] = []
    result.reserveCapacity(lists.count * width)
    var start = 0
    while start < lists.count {
      var end = start
      var tokens = 0
      while end < lists.count, end == start || tokens + lists[end].count <= Embedder.tokensPerBatch {
        tokens += lists[end].count
        end += 1
      }
      result += try run(lists[start..<end])
      start = end
      progress(end)
    }
    return result
  }

  private func run(_ lists: ArraySlice<[Int32]>) throws(Failure) -> [Float] {
    guard lists.allSatisfy({ !$0.isEmpty }) else { throw Failure(.internal, "an input without tokens") }
    var starts: [Int32] = [0]
    for list in lists { starts.append((starts.last ?? 0) + Int32(list.count)) }
    let inputs: [Graph.Input: DeviceBuffer] = [
      .tokens: try upload(lists.flatMap { $0 }),
      .positions: try upload(lists.flatMap { list in list.indices.map { Int32($0) } }),
      .starts: try upload(starts),
    ]
    var results = [DeviceBuffer?](repeating: nil, count: graph.nodes.count)
    for (index, node) in graph.nodes.enumerated() {
      var buffers: [DeviceBuffer] = []
      for source in node.inputs {
        let buffer =
          switch source {
          case .node(let earlier): results[earlier]
          case .tensor(let name): weights[name]
          case .input(let input): inputs[input]
          }
        guard let buffer else { throw Failure(.internal, "an input of graph node \(index) is missing") }
        buffers.append(buffer)
      }
      results[index] = try device.run(node.op, buffers)
      for done in lastUse[index] { results[done] = nil }
    }
    guard let output = results[graph.output] else { throw Failure(.internal, "the graph gave no result") }
    return try device.download(output)
  }

  private func upload(_ indices: [Int32]) throws(Failure) -> DeviceBuffer {
    let buffer = try Buffer(count: indices.count * 4)
    buffer.with(Int32.self) { _ = $0.update(fromContentsOf: indices) }
    return try device.upload(
      Tensor("batch", shape: [indices.count], encoding: .plain(.I32), content: .bytes(ByteView(buffer))))
  }
}
