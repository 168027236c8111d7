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

  /// The columns of a value, cut into parts of these widths.
  mutating func split(_ x: Graph.Source, _ widths: [Int]) -> [Graph.Source] {
    var offset = 0
    return widths.map { width in
      defer { offset += width }
      return append(.slice(offset: offset, count: width), x)
    }
  }
}
