import Bytes
import Tensors

/// How a graph is run: nodes as steps, steps as regions whose rows do not depend on each other, regions as segments
/// between which a batch carries a single value.
struct Schedule: Sendable {
  /// A node, and the nodes after it that work on its result element by element as it is made.
  struct Step: Sendable {
    var op: Op
    var inputs: [Graph.Source]
    var following: [(op: Op, other: Graph.Source?)] = []
    /// Of a linear operation, the outputs that are computed; nil: all.
    var outputs: Range<Int>?
    /// The node whose result the step gives.
    var node: Int
    /// Nodes whose results nobody needs after this step.
    var done: [Int] = []

    var sources: [Graph.Source] { inputs + following.compactMap(\.other) }
  }

  /// Steps that can run on some of the rows at a time, or a single one that cannot.
  struct Region: Sendable {
    var steps: Range<Int>
    var rows: ValueType.Rows?
    /// Nodes of the region that are read after it.
    var results: [Int] = []
  }

  /// Regions whose weights come and go together; more than one layer only where layers are small.
  struct Segment: Sendable {
    var regions: [Region] = []
    var steps: Range<Int>
    var bytes: Int
  }

  let types: [ValueType]
  private(set) var steps: [Step] = []
  private(set) var segments: [Segment] = []
  /// Segments are joined up to so many bytes of weights.
  let segmentBytes: Int
  static let segmentBytes = 256 << 20

  /// - Parameter splitsLinear: whether a linear operation of which only slices are read becomes one step for each
  ///   slice, which other operations can then follow.
  init(
    _ graph: Graph, of model: Model, splitsLinear: Bool, segmentBytes: Int = Schedule.segmentBytes
  ) throws(Failure) {
    self.segmentBytes = segmentBytes
    types = try model.types(of: graph)
    steps = Schedule.steps(graph, types, splitsLinear: splitsLinear)
    var lastReader: [Int: Int] = [:]
    for (index, step) in steps.enumerated() {
      for case .node(let node) in step.sources { lastReader[node] = index }
    }
    for index in steps.indices where steps[index].node != graph.output {
      steps[lastReader[steps[index].node] ?? index].done.append(steps[index].node)
    }
    lastReader[graph.output] = steps.count
    segments = segments(model, lastReader)
    for index in segments.indices { segments[index].regions = regions(segments[index].steps, lastReader) }
  }

  private static func steps(_ graph: Graph, _ types: [ValueType], splitsLinear: Bool) -> [Step] {
    let split = splitsLinear ? Set(graph.nodes.indices.filter { isSplit($0, graph) }) : []
    var taken = Set<Int>()  // nodes that follow another
    var result: [Step] = []
    for (index, node) in graph.nodes.enumerated() where !taken.contains(index) && !split.contains(index) {
      var step = Step(op: node.op, inputs: node.inputs, node: index)
      if case .slice(let offset, let count) = node.op, case .node(let linear) = node.inputs[0], split.contains(linear) {
        step.op = graph.nodes[linear].op
        step.inputs = graph.nodes[linear].inputs
        step.outputs = offset..<offset + count
      }
      if case .linear = step.op {
        while let (next, following) = follower(of: step.node, graph, types), taken.insert(next).inserted {
          step.following.append(following)
          step.node = next
        }
      }
      result.append(step)
    }
    return Schedule.withLateSlices(result.sorted { $0.node < $1.node })
  }

  /// Whether only slices of a linear operation's result are read, at places where the kernels' panels start.
  private static func isSplit(_ index: Int, _ graph: Graph) -> Bool {
    guard case .linear = graph.nodes[index].op, index != graph.output else { return false }
    return graph.readers(of: index).allSatisfy { reader in
      if case .slice(let offset, _) = graph.nodes[reader].op { offset % Panels.width == 0 } else { false }
    }
  }

  /// Slices just before what first reads them: at the end of a region, where they need no copy.
  private static func withLateSlices(_ steps: [Step]) -> [Step] {
    var waiting: [Step] = []
    var result: [Step] = []
    for step in steps {
      if case .slice = step.op {
        waiting.append(step)
        continue
      }
      // A slice of a slice comes after it, so the order among them is kept.
      var needed = Set(step.sources)
      for slice in waiting.reversed() where needed.contains(.node(slice.node)) { needed.formUnion(slice.sources) }
      result += waiting.filter { needed.contains(.node($0.node)) } + [step]
      waiting.removeAll { needed.contains(.node($0.node)) }
    }
    return result + waiting
  }

  /// The only reader of a node, where it works on the node's result element by element.
  private static func follower(
    of node: Int, _ graph: Graph, _ types: [ValueType]
  ) -> (Int, (op: Op, other: Graph.Source?))? {
    let readers = graph.readers(of: node)
    guard readers.count == 1, node != graph.output else { return nil }
    let reader = graph.nodes[readers[0]]
    switch reader.op {
    case .activation: return (readers[0], (reader.op, nil))
    case .add, .multiply:
      let others = reader.inputs.filter { $0 != .node(node) }
      // A row for all rows is the second input; the product is then the first.
      guard others.count == 1, case .node(let other) = others[0],
        reader.inputs[0] == .node(node) || types[other].rows == types[node].rows
      else { return nil }
      return (readers[0], (reader.op, others[0]))
    default: return nil
    }
  }

  private func segments(_ model: Model, _ lastReader: [Int: Int]) -> [Segment] {
    var result: [Segment] = []
    var start = 0
    var seen = Set<TensorName>()
    var bytes = 0
    for index in steps.indices {
      for case .tensor(let name) in steps[index].sources where seen.insert(name).inserted {
        bytes += model[name]?.byteCount ?? 0
      }
      let live = steps[...index].count { lastReader[$0.node] ?? 0 > index }
      guard live <= 1 || index == steps.count - 1 else { continue }
      if let last = result.last, last.bytes + bytes <= segmentBytes {
        result[result.count - 1] = Segment(steps: last.steps.lowerBound..<index + 1, bytes: last.bytes + bytes)
      } else {
        result.append(Segment(steps: start..<index + 1, bytes: bytes))
      }
      start = index + 1
      bytes = 0
      seen = []
    }
    return result
  }

  private func regions(_ range: Range<Int>, _ lastReader: [Int: Int]) -> [Region] {
    var result: [Region] = []
    for index in range {
      let rows = steps[index].op.isRowwise ? types[steps[index].node].rows : nil
      if let rows, let last = result.last, last.rows == rows {
        result[result.count - 1].steps = last.steps.lowerBound..<index + 1
      } else {
        result.append(Region(steps: index..<index + 1, rows: rows))
      }
    }
    // Slices at the end of a region are columns of a whole value, without a copy.
    result = result.flatMap { region in
      var end = region.steps.upperBound
      while end > region.steps.lowerBound, case .slice = steps[end - 1].op { end -= 1 }
      let whole = Region(steps: region.steps.lowerBound..<end, rows: region.rows)
      return (whole.steps.isEmpty ? [] : [whole])
        + (end..<region.steps.upperBound).map { Region(steps: $0..<$0 + 1, rows: nil) }
    }
    for index in result.indices {
      let end = result[index].steps.upperBound
      result[index].results = steps[result[index].steps].map(\.node).filter { lastReader[$0] ?? 0 >= end }
    }
    return result
  }
}

extension Op {
  /// Whether a row of the result depends on the same row of the inputs alone.
  fileprivate var isRowwise: Bool {
    switch self {
    case .linear, .add, .multiply, .norm, .activation, .rescale, .rope, .slice, .concatenate, .route, .normalize: true
    case .embedding, .row, .interpolate, .attention, .pool, .routed, .mix: false
    }
  }
}
