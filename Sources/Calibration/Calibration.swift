import Bytes
import Passes
import Tensors

/// What was measured of a model on somebody's data: second moments of the inputs of each linear weight, by the weight's name after
/// the exact fusions.
public struct Calibration: Sendable {
  private let moments: [TensorName: Tensor]

  public init(_ tensors: [Tensor]) {
    moments = Dictionary(tensors.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
  }

  /// Quantizes with `recipe`; weights that were measured by GPTQ, the others by search alone.
  ///
  /// - Throws: `usage` when nothing that is to be quantized was measured.
  public func quantize(_ recipe: QuantizeRecipe) -> Pass {
    let all = Pass.quantize(recipe) { (tensor, integers) throws(Failure) in
      guard let moments = moments[tensor.name] else { return nil }
      let gptq = try GPTQ(tensor, integers, moments: moments)
      return Tensor.Computation { (threads) throws(Failure) in try gptq.run(threads: threads) }
    }
    return Pass("gptq") { (model, notes) throws(Failure) in
      guard model.tensors.contains(where: { moments[$0.name] != nil }) else {
        throw Failure(.usage, "the calibration is of another model: it has none of this one's weights")
      }
      try all.apply(&model, &notes)
    }
  }
}
