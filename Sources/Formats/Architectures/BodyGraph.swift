import Tensors

/// Builds the graph of a text model over a checkpoint's tensors, named as the family's rules have them.
struct BodyGraph {
  private(set) var graph = Graph()
  private let tensors: [String: Tensor]
  /// In front of the names that are asked for.
  private let prefix: String

  init(_ match: Architecture.Match, prefix: String = "") { (tensors, self.prefix) = (match.tensors, prefix) }

  func has(_ name: String) -> Bool { tensors[prefix + name] != nil }

  func tensor(_ name: String) -> Graph.Source {
    .tensor(tensors[prefix + name]?.name ?? TensorName(prefix + name))
  }

  @discardableResult
  mutating func append(_ op: Op, _ inputs: Graph.Source...) -> Graph.Source { graph.append(Graph.Node(op, inputs)) }

  @discardableResult
  mutating func append(_ op: Op, _ inputs: [Graph.Source]) -> Graph.Source { graph.append(Graph.Node(op, inputs)) }

  /// `name.weight`, with `name.bias` where the checkpoint has one.
  mutating func linear(_ x: Graph.Source, _ name: String) -> Graph.Source {
    append(.linear(.float), [x, tensor(name + ".weight")] + (has(name + ".bias") ? [tensor(name + ".bias")] : []))
  }

  mutating func norm(
    _ x: Graph.Source, _ name: String, _ kind: Op.Norm, epsilon: Double, heads: Int = 1
  ) -> Graph.Source {
    append(
      .norm(kind, epsilon: epsilon, heads: heads),
      [x, tensor(name + ".weight")] + (has(name + ".bias") ? [tensor(name + ".bias")] : []))
  }

  /// A gated MLP whose gate and values come from one weight: half of what it gives goes through the activation and is
  /// multiplied with the other half.
  ///
  /// - Parameter width: of a half.
  mutating func gated(
    _ x: Graph.Source, wide: String, narrow: String, _ activation: Op.Activation, isGateFirst: Bool, width: Int
  ) -> Graph.Source {
    let halves = split(linear(x, wide), [width, width])
    let gate = append(.activation(activation), halves[isGateFirst ? 0 : 1])
    return linear(append(.multiply, gate, halves[isGateFirst ? 1 : 0]), narrow)
  }

  /// Queries, keys and values from one weight or from three, the first two turned, and attention over them.
  mutating func rotated(
    _ x: Graph.Source, _ projections: [String], _ rotation: Op.Rotation, _ attention: Op.Attention
  ) -> Graph.Source {
    let width = attention.heads * attention.headWidth
    let parts =
      projections.count == 1
      ? split(linear(x, projections[0]), [width, width, width]) : projections.map { linear(x, $0) }
    let (q, k) = (
      append(.rope(rotation), parts[0], .input(.positions)), append(.rope(rotation), parts[1], .input(.positions))
    )
    return append(.attention(attention), q, k, parts[2], .input(.starts))
  }

  /// The columns of a value, cut into parts of these widths.
  mutating func split(_ x: Graph.Source, _ widths: [Int]) -> [Graph.Source] {
    var offset = 0
    return widths.map { width in
      defer { offset += width }
      return append(.slice(offset: offset, count: width), x)
    }
  }
}
