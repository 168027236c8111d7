import Bytes
import Tensors

/// A function from one valid model to another. Passes rewrite graphs and replace tensors by computations; the
/// arithmetic is done tensor by tensor when the result is written.
public struct Pass: Sendable {
  public let name: String
  /// Notes are for people: what was done, and what could not be and why.
  public let apply: @Sendable (_ model: inout Model, _ notes: inout [String]) throws(Failure) -> Void

  public init(
    _ name: String, _ apply: @escaping @Sendable (_ model: inout Model, _ notes: inout [String]) throws(Failure) -> Void
  ) {
    self.name = name
    self.apply = apply
  }

  /// Runs `passes` in order. The model's invariants hold after each.
  public static func run(_ passes: [Pass], on model: inout Model, notes: inout [String]) throws(Failure) {
    for pass in passes {
      do throws(Failure) {
        try pass.apply(&model, &notes)
        try model.checkInvariants()
      } catch { throw error.about("pass \(pass.name)") }
    }
  }

  /// The exact fusions: the model computes the same to Float32 rounding, with fewer and larger operations.
  public static let fusions: [Pass] = [
    .foldPixels, .foldBias, .foldConstants, .foldNorms, .foldAttentionScale, .padWidths, .fuseProjections, .dropUnused,
  ]

  /// The projector's GELU in the tanh form, as ggml has it.
  public static let tanhProjector = Pass("tanh-projector") { (model, notes) throws(Failure) in
    for index in model.graphs.indices where model.graphs[index].name == "projector" {
      var graph = model.graphs[index].graph
      for (place, node) in graph.nodes.enumerated() where node.op == .activation(.gelu) {
        graph.replace(place, with: .init(.activation(.geluTanh), node.inputs))
      }
      model.graphs[index].graph = graph
    }
  }

  /// Leaves out tensors that no graph reads.
  public static let dropUnused = Pass("drop-unused") { (model, notes) in
    let unused = Set(model.unused)
    model.removeTensors { unused.contains($0.name) }
    if !unused.isEmpty { notes.append("\(unused.count) tensors that nothing reads any more are left out") }
  }
}

extension Model {
  /// Applies `rewrite` to every graph, or to those of some names.
  mutating func rewriteGraphs(
    _ names: Set<String>? = nil, _ rewrite: (inout Graph, inout Model) throws(Failure) -> Void
  ) throws(Failure) {
    for index in graphs.indices where names?.contains(graphs[index].name) ?? true {
      var graph = graphs[index].graph
      try rewrite(&graph, &self)
      graphs[index].graph = graph.pruned()
    }
  }

  /// The tensor behind a source, when it is one.
  func tensor(_ source: Graph.Source) -> Tensor? {
    if case .tensor(let name) = source { self[name] } else { nil }
  }
}

extension TensorName {
  /// `a.{query,key,value}.weight` for `a.query.weight`, `a.key.weight`, `a.value.weight`: parts between dots that
  /// differ.
  static func joined(_ names: [TensorName]) -> TensorName {
    let parts = names.map { $0.text.split(separator: ".", omittingEmptySubsequences: false).map(String.init) }
    guard let first = parts.first, parts.allSatisfy({ $0.count == first.count }) else {
      return TensorName("{" + names.map(\.text).joined(separator: ",") + "}")
    }
    let joined = first.indices.map { index in
      let choices = parts.map { $0[index] }
      return choices.allSatisfy { $0 == first[index] } ? first[index] : "{" + choices.joined(separator: ",") + "}"
    }
    return TensorName(joined.joined(separator: "."))
  }
}
