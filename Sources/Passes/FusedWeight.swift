import Bytes
import Tensors

/// A weight of a linear operation after the exact fusions, and where it comes from: which weights of the model before
/// them it holds, and what a norm did to their input that the fused weight does itself.
public struct FusedWeight: Sendable {
  public let name: TensorName
  /// All of them see one input.
  public let members: [TensorName]
  /// `[columns]`: the members see `gain · x + shift` of what the fused weight sees; nil for 1 and for 0.
  private let gain: Tensor?
  /// How much larger the gain is than its tensor says.
  private let gainOffset: Float
  private let shift: Tensor?

  /// The linear weights of `fused`, each once, in the order in which they run.
  ///
  /// - Parameter unfused: the same model before the passes; it may be `fused` itself.
  public static func all(of fused: Model, from unfused: Model) -> [FusedWeight] {
    var norms: [TensorName: Graph.Node] = [:]
    for graph in unfused.graphs.map(\.graph) {
      for node in graph.nodes {
        guard case .linear = node.op, case .tensor(let weight) = node.inputs[1], case .node(let below) = node.inputs[0],
          case .norm = graph.nodes[below].op
        else { continue }
        norms[weight] = graph.nodes[below]
      }
    }
    var seen = Set<TensorName>()
    return fused.graphs.flatMap(\.graph.nodes).compactMap { node in
      guard case .linear = node.op, case .tensor(let name) = node.inputs[1], seen.insert(name).inserted else {
        return nil
      }
      let members = (name.base.members ?? [name]).map(\.base).filter { unfused[$0] != nil }
      let norm = name.text.contains("+gain") ? members.first.flatMap { norms[$0] } : nil
      let inputs = norm?.inputs ?? []
      let offset: Float = if case .norm(let kind, _, _) = norm?.op { kind.gainOffset } else { 0 }
      return FusedWeight(
        name: name, members: members, gain: inputs.count > 1 ? unfused.tensor(inputs[1]) : nil, gainOffset: offset,
        shift: inputs.count > 2 ? unfused.tensor(inputs[2]) : nil)
    }
  }

  /// Mean squares of what the members see, `g² x² + 2 g h x + h²`.
  ///
  /// - Parameters:
  ///   - squares, means: of each column of what this weight sees. Columns of zeros that widened it have no member's.
  ///   - columns: the members'.
  /// - Rounding: in double, rounded once; never below zero.
  /// - Throws: `malformed` where the lengths do not go together.
  public func squaresBefore(_ squares: [Float], means: [Float], columns: Int) throws(Failure) -> [Float] {
    guard columns <= squares.count, means.count == squares.count else {
      throw Failure(
        .malformed, "\(squares.count) and \(means.count) columns were measured, the weight has \(columns)",
        thing: "tensor \(name.quoted)")
    }
    let (gain, shift) = (try values(gain, columns)?.map { gainOffset + $0 }, try values(shift, columns))
    return (0..<columns).map { column in
      let (g, h) = (Double(gain?[column] ?? 1), Double(shift?[column] ?? 0))
      return Float(max(0, g * g * Double(squares[column]) + 2 * g * h * Double(means[column]) + h * h))
    }
  }

  /// The way back: mean squares of what this weight sees, `[columns]`, from those of what the members see. Columns that
  /// a gain of zero hides, and columns of zeros that widened the weight, get zero: nothing depends on their errors.
  ///
  /// - Returns: nil where a shift was added, which mean squares alone cannot take back.
  public func squaresAfter(_ squares: [Float], columns: Int) throws(Failure) -> [Float]? {
    guard shift == nil else { return nil }
    guard squares.count <= columns else {
      throw Failure(
        .malformed, "\(squares.count) columns were measured, the weight has \(columns)",
        thing: "tensor \(name.quoted)")
    }
    let gain = try values(gain, squares.count)?.map { gainOffset + $0 }
    let own = squares.indices.map { column in
      let g = Double(gain?[column] ?? 1)
      return g == 0 ? 0 : Float(Double(squares[column]) / (g * g))
    }
    return own + [Float](repeating: 0, count: columns - squares.count)
  }

  private func values(_ tensor: Tensor?, _ columns: Int) throws(Failure) -> [Float]? {
    guard let tensor else { return nil }
    guard tensor.count == columns else {
      throw Failure(
        .malformed, "a norm of \(tensor.count) before a weight of \(columns) columns",
        thing: "tensor \(tensor.name.quoted)")
    }
    return try tensor.floats().array(of: Float.self)
  }
}
