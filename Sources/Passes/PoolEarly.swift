import Bytes
import Tensors

extension Pass {
  /// Takes the one row that is pooled as early as it can be: `pool(f(x))` becomes `f(pool(x))` for every operation that
  /// works row by row, and the last attention is asked for one row of each sequence. Of the last layer only keys and
  /// values are then computed for all tokens. Exact; only for pooling that picks a row.
  public static let poolEarly = Pass("pool-early") { (model, notes) throws(Failure) in
    try model.rewriteGraphs { (graph, model) throws(Failure) in
      // Each round moves a pool nearer to the inputs, of which there are finitely many.
      while let step = nextStep(graph, model) { graph = step }
    }
  }

  /// The graph with one pool moved in front of the operation it follows; nil when none can move.
  private static func nextStep(_ graph: Graph, _ model: Model) -> Graph? {
    for (index, node) in graph.nodes.enumerated() {
      guard case .pool(let kind) = node.op, kind.picksRow, case .node(let below) = node.inputs[0],
        graph.readers(of: below).allSatisfy({ graph.nodes[$0].op == node.op }),
        let pooled = pooledInputs(graph.nodes[below], kind)
      else { continue }
      return moved(graph, pool: index, before: below, pooled)
    }
    return nil
  }

  /// Which inputs of an operation are pooled instead of its result; nil when that would change the result.
  private static func pooledInputs(_ node: Graph.Node, _ kind: Op.Pooling) -> [Int]? {
    switch node.op {
    case .norm, .activation, .slice, .normalize, .rescale, .linear: [0]
    case .add, .multiply: [0, 1]
    case .rope: [0, 1]
    // A query that sees its whole sequence: the last one of a causal sequence, any of another.
    case .attention(let attention):
      !attention.dependsOnPlace && (!attention.isCausal || kind == .last) ? [0] : nil
    case .embedding, .row, .interpolate, .pool, .concatenate, .route, .routed, .mix: nil
    }
  }

  private static func moved(_ graph: Graph, pool: Int, before below: Int, _ pooled: [Int]) -> Graph? {
    var result = Graph()
    var renumbered: [Int: Graph.Source] = [:]
    func source(_ old: Graph.Source) -> Graph.Source {
      if case .node(let index) = old { renumbered[index] ?? old } else { old }
    }
    for (index, node) in graph.nodes.enumerated() {
      guard index == pool else {
        renumbered[index] = result.append(Graph.Node(node.op, node.inputs.map(source)))
        continue
      }
      let old = graph.nodes[below]
      var inputs = old.inputs.map(source)
      for place in pooled {
        // A second operand that is one row for all (a bias) is not pooled.
        if case .tensor = old.inputs[place] { continue }
        if case .node(let operand) = old.inputs[place], case .row = graph.nodes[operand].op { continue }
        inputs[place] = result.append(Graph.Node(node.op, [inputs[place], source(node.inputs[1])]))
      }
      renumbered[index] = result.append(Graph.Node(old.op, inputs))
    }
    if case .node(let output) = source(.node(graph.output)) { result.output = output }
    return result.pruned().withoutRepeats()
  }
}
