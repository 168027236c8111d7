import Bytes

/// Operations in the order they run. A value: passes make new ones.
public struct Graph: Sendable, Equatable {
  /// Where an operation's input comes from.
  public enum Source: Sendable, Hashable {
    /// The result of an earlier node, by index.
    case node(Int)
    /// A tensor of the model.
    case tensor(TensorName)
    /// Something that belongs to the batch.
    case input(Input)
  }

  public enum Input: String, Sendable, Hashable, CaseIterable {
    /// Token ids `[tokens]`.
    case tokens
    /// Each token's place in its sequence, from 0, `[tokens]`.
    case positions
    /// Where each sequence starts, and the end, `[sequences + 1]`.
    case starts
    /// One patch of a picture a row, values 0 to 255, channel by channel and row by row, `[tokens, channels · patch²]`.
    case pixels
    /// What the vision graph made of each patch, `[tokens, vision width]`.
    case hidden
    /// What the projector graph made, in the places of negative ids, `[features, width]`.
    case features
    /// Rows to blend for each feature, and how much of each, `[features, 4]`.
    case taps, weights
  }

  /// Indices blended for one feature: the corners of a bilinear interpolation.
  public static let tapCount = 4

  public struct Node: Sendable, Hashable {
    public var op: Op
    public var inputs: [Source]

    public init(_ op: Op, _ inputs: [Source]) {
      self.op = op
      self.inputs = inputs
    }
  }

  public private(set) var nodes: [Node] = []
  /// The node whose result is the graph's.
  public var output = 0

  public init() {}

  /// Appends a node and makes its result the graph's output.
  @discardableResult
  public mutating func append(_ op: Op, _ inputs: Source...) -> Source { append(Node(op, inputs)) }

  @discardableResult
  public mutating func append(_ node: Node) -> Source {
    nodes.append(node)
    output = nodes.count - 1
    return .node(output)
  }

  public mutating func replace(_ index: Int, with node: Node) { nodes[index] = node }

  /// Indices of the nodes that read the result of `node`.
  public func readers(of node: Int) -> [Int] {
    nodes.indices.filter { nodes[$0].inputs.contains(.node(node)) }
  }

  /// Names of the tensors the graph reads, each once, in order of first use.
  public var tensors: [TensorName] {
    var seen = Set<TensorName>()
    return nodes.flatMap(\.inputs).compactMap { source in
      guard case .tensor(let name) = source, seen.insert(name).inserted else { return nil }
      return name
    }
  }

  /// Type of every node's result.
  /// - Throws: `malformed` naming the node, when an input comes later, is unknown, or does not fit.
  public func types(
    tensor tensorType: (TensorName) -> ValueType?, input inputType: (Input) -> ValueType?
  ) throws(Failure) -> [ValueType] {
    var types: [ValueType] = []
    for (index, node) in nodes.enumerated() {
      var inputs: [ValueType] = []
      for source in node.inputs {
        switch source {
        case .node(let earlier):
          guard earlier >= 0, earlier < index else {
            throw Failure(.malformed, "reads node \(earlier), which is not before it", place: "graph node \(index)")
          }
          inputs.append(types[earlier])
        case .tensor(let name):
          guard let type = tensorType(name) else {
            throw Failure(
              .malformed, "reads tensor \(name.quoted), which the model lacks or which is no vector or matrix",
              place: "graph node \(index)")
          }
          inputs.append(type)
        case .input(let input):
          guard let type = inputType(input) else {
            throw Failure(
              .malformed, "reads \(input.rawValue), which the model's configuration does not have",
              place: "graph node \(index)")
          }
          inputs.append(type)
        }
      }
      do throws(Failure) {
        types.append(try node.op.outputType(inputs, from: node.inputs))
      } catch {
        var failure = error
        failure.place = "graph node \(index)"
        throw failure
      }
    }
    return types
  }

  /// The graph without the nodes that nothing on the way to the output reads, renumbered.
  public func pruned() -> Graph {
    var isNeeded = nodes.map { _ in false }
    if nodes.indices.contains(output) { isNeeded[output] = true }
    for index in nodes.indices.reversed() where isNeeded[index] {
      for case .node(let earlier) in nodes[index].inputs { isNeeded[earlier] = true }
    }
    var result = Graph()
    var renumbered: [Int: Source] = [:]
    for (index, node) in nodes.enumerated() where isNeeded[index] {
      let inputs = node.inputs.map { source in
        if case .node(let earlier) = source { renumbered[earlier] ?? source } else { source }
      }
      renumbered[index] = result.append(Node(node.op, inputs))
    }
    return result
  }

  /// The graph with nodes that do the same to the same inputs made one.
  public func withoutRepeats() -> Graph {
    var result = Graph()
    var places: [Node: Source] = [:]
    var renumbered: [Source] = []
    for node in nodes {
      let moved = Node(
        node.op,
        node.inputs.map { source in
          if case .node(let earlier) = source { renumbered[earlier] } else { source }
        })
      let place = places[moved] ?? result.append(moved)
      places[moved] = place
      renumbered.append(place)
    }
    if nodes.indices.contains(output), case .node(let place) = renumbered[output] { result.output = place }
    return result
  }
}
