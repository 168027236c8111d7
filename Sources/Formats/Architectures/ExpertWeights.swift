import Bytes
import Tensors

/// The weights of a layer's experts, each of which is an operation's: checkpoints have all of them in one tensor, as
/// megablocks does, and the second transposed; GGUF files have a dimension for the expert.
struct ExpertWeights {
  let count: Int
  /// What stands before a layer's number in names.
  let head: String

  static let (widening, narrowing) = ("mlp.experts.mlp.w1", "mlp.experts.mlp.w2")

  /// `HEAD3.mlp.experts.mlp.w1.5.weight`, without the layer's part and the ending.
  static func name(_ kind: String, _ expert: Int) -> String { "\(kind).\(expert)" }

  /// - Throws: `malformed` for rows that are not the same number for each expert.
  func apart(_ tensors: [Tensor]) throws(Failure) -> [Tensor] {
    var result: [Tensor] = []
    for tensor in tensors {
      guard let (stem, kind, isOfGGUF) = whole(tensor.name.text) else {
        result.append(tensor)
        continue
      }
      let width = tensor.columns
      guard tensor.shape.count == (isOfGGUF ? 3 : 2), !isOfGGUF || tensor.shape[0] == count, tensor.rows > 0,
        tensor.rows % count == 0
      else {
        throw Failure(
          .malformed, "has shape \(tensor.shape), rows for \(count) experts expected",
          thing: "tensor \(tensor.name.quoted)")
      }
      let (all, rows) = (tensor.reshaped([tensor.rows, width]), tensor.rows / count)
      for expert in 0..<count {
        let name = TensorName("\(stem)\(ExpertWeights.name(kind, expert)).weight")
        let part = try all.part(expert * rows..<(expert + 1) * rows, named: name)
        result.append(kind == ExpertWeights.narrowing && !isOfGGUF ? part.transposed() : part)
      }
    }
    return result
  }

  /// What a tensor of all experts is called: in front of its kind, the kind, and whether it is a GGUF file's.
  private func whole(_ name: String) -> (stem: String, kind: String, isOfGGUF: Bool)? {
    guard name.hasPrefix(head) else { return nil }
    for kind in [ExpertWeights.widening, ExpertWeights.narrowing] {
      for (ending, isOfGGUF) in [("", false), (".weight", true)] where name.hasSuffix(kind + ending) {
        return (String(name.dropLast((kind + ending).utf8.count)), kind, isOfGGUF)
      }
    }
    return nil
  }

  /// - Throws: `unsupported` where the experts of a layer are not of one encoding.
  func together(_ tensors: [Tensor], layers: [Int], forGGUF: Bool) throws(Failure) -> [Tensor] {
    var result = tensors
    for layer in layers {
      for kind in [ExpertWeights.widening, ExpertWeights.narrowing] {
        let stem = "\(head)\(layer)."
        let names = (0..<count).map { TensorName("\(stem)\(ExpertWeights.name(kind, $0)).weight") }
        var parts = names.compactMap { name in result.first { $0.name == name } }
        guard parts.count == count, let place = result.firstIndex(where: { $0.name == names[0] }) else { continue }
        if kind == ExpertWeights.narrowing, !forGGUF { parts = parts.map { $0.transposed() } }
        let all = try Tensor.stacked(parts, named: TensorName(stem + kind + (forGGUF ? ".weight" : "")))
        result[place] = forGGUF ? all.reshaped([count, all.rows / count, all.columns]) : all
        let gone = Set(names.dropFirst())
        result.removeAll { gone.contains($0.name) }
      }
    }
    return result
  }
}
