import Bytes
import Tensors

/// Experts of some layers: what a configuration says of them, their weights and their part of the graph.
///
/// Each weight is an operation's. Checkpoints have those of all experts in one tensor, as megablocks does, and the
/// second transposed; GGUF files have a dimension for the expert.
struct ExpertWeights {
  /// Experts of a layer, and how many of them a token goes through.
  let count, top: Int
  /// Of so many layers the second has experts.
  let every: Int

  static let (widening, narrowing) = ("mlp.experts.mlp.w1", "mlp.experts.mlp.w2")

  /// nil for a model without experts.
  init?(_ config: JSON) throws(Failure) {
    guard let value = config.optional("num_experts"), config.optional("moe_every_n_layers") != nil else { return nil }
    count = try value.integer("num_experts", in: 0...256)
    every = try config.size("moe_every_n_layers")
    top = try config.size("moe_top_k", or: 1)
    if count == 0 { return nil }
    guard top <= count else { throw config.failure("moe_top_k \(top) of \(count) experts") }
    try config.require("moe_normalize_expert_weights", false)
    try config.require("expert_choice_router", false)
    if let value = config.optional("num_shared_experts"), try value.integer("num_shared_experts", in: 0...256) > 0 {
      throw value.failure("experts that all tokens share are not supported", .unsupported)
    }
  }

  func has(_ layer: Int) -> Bool { layer % every == 1 }

  // MARK: Rules and graph

  /// - Parameter head: in front of a layer's names, with `{layer}`.
  func rules(_ head: String, layers: Set<Int>, width: String, intermediate: String) -> [Architecture.Rule] {
    let own = (0..<count).flatMap { expert -> [Architecture.Rule] in
      [
        .init("\(head)\(ExpertWeights.widening).\(expert).weight", [intermediate, width]),
        .init("\(head)\(ExpertWeights.narrowing).\(expert).weight", [width, intermediate]),
      ]
    }
    let router = Architecture.Rule(head + "mlp.router.layer.weight", ["experts", width])
    let shared = Architecture.Rule(head + "mlp.experts.bias", [width], .optional, folded: .init(value: 0))
    return (own + [router, shared]).map { $0.only(in: layers) }
  }

  /// Two products for each expert, over the rows that go to it.
  func append(
    _ x: Graph.Source, _ layer: String, _ activation: Op.Activation, _ body: inout BodyGraph
  ) -> Graph.Source {
    let shares = body.append(.route(top: top), body.linear(x, layer + "mlp.router.layer"))
    let made = (0..<count).map { expert in
      let rows = body.append(.routed(expert: expert), x, shares)
      let wide = body.linear(rows, "\(layer)\(ExpertWeights.widening).\(expert)")
      return body.linear(
        body.append(.activation(activation), wide), "\(layer)\(ExpertWeights.narrowing).\(expert)")
    }
    let mixed = body.append(.mix, [shares] + made)
    let bias = layer + "mlp.experts.bias"
    return body.has(bias) ? body.append(.add, mixed, body.tensor(bias)) : mixed
  }

  // MARK: Tensors of all experts

  /// - Throws: `malformed` for rows that are not the same number for each expert.
  func apart(_ tensors: [Tensor]) throws(Failure) -> [Tensor] {
    var result: [Tensor] = []
    for tensor in tensors {
      guard let (stem, isNarrowing, isOfGGUF) = whole(tensor.name.text) else {
        result.append(tensor)
        continue
      }
      guard tensor.shape.count == (isOfGGUF ? 3 : 2), !isOfGGUF || tensor.shape[0] == count, tensor.rows > 0,
        tensor.rows % count == 0
      else {
        throw Failure(
          .malformed, "has shape \(tensor.shape), rows for \(count) experts expected",
          thing: "tensor \(tensor.name.quoted)")
      }
      let (all, rows) = (tensor.reshaped([tensor.rows, tensor.columns]), tensor.rows / count)
      for expert in 0..<count {
        let part = try all.part(expert * rows..<(expert + 1) * rows, named: TensorName("\(stem).\(expert).weight"))
        result.append(isNarrowing && !isOfGGUF ? part.transposed() : part)
      }
    }
    return result
  }

  /// What stands before the expert in the names of its own tensors, for a tensor of all experts; nil for any other.
  private func whole(_ name: String) -> (stem: String, isNarrowing: Bool, isOfGGUF: Bool)? {
    let isOfGGUF = name.hasSuffix(".weight")
    let stem = isOfGGUF ? String(name.dropLast(".weight".utf8.count)) : name
    guard stem.hasSuffix(ExpertWeights.widening) || stem.hasSuffix(ExpertWeights.narrowing) else { return nil }
    return (stem, stem.hasSuffix(ExpertWeights.narrowing), isOfGGUF)
  }

  /// - Parameter head: in front of a layer's number.
  /// - Throws: `unsupported` where the experts of a layer are not of one encoding.
  func together(_ tensors: [Tensor], head: String, layers: Int, forGGUF: Bool) throws(Failure) -> [Tensor] {
    var result = tensors
    for layer in 0..<layers where has(layer) {
      for kind in [ExpertWeights.widening, ExpertWeights.narrowing] {
        let stem = "\(head)\(layer).\(kind)"
        let names = (0..<count).map { TensorName("\(stem).\($0).weight") }
        var parts = names.compactMap { name in result.first { $0.name == name } }
        guard parts.count == count, let place = result.firstIndex(where: { $0.name == names[0] }) else { continue }
        if kind == ExpertWeights.narrowing, !forGGUF { parts = parts.map { $0.transposed() } }
        let all = try Tensor.stacked(parts, named: TensorName(stem + (forGGUF ? ".weight" : "")))
        result[place] = forGGUF ? all.reshaped([count, all.rows / count, all.columns]) : all
        let gone = Set(names.dropFirst())
        result.removeAll { gone.contains($0.name) }
      }
    }
    return result
  }
}
