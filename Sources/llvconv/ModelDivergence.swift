import Bytes
import Calibration
import Fidelity
import Formats
import Inputs
import Passes
import Tensors

/// Where a candidate leaves its reference inside the model.
struct ModelDivergence {
  private static let items = 32

  /// - Parameters:
  ///   - reference: its file; it is fused as the candidate was.
  ///   - data: whose items some run through both.
  static func find(
    candidate: LoadedModel, path: String, reference: String, data: VerifyData, options: LoadedModel.Options
  ) throws(Failure) -> Divergence {
    var result = Divergence()
    let unfused = try Container.open(reference).model
    let names = linearWeights(candidate.contents.model)
    let isFused = !names.allSatisfy { unfused[$0] != nil }
    var passes = isFused ? Pass.fusions : []
    var base = unfused
    var notes: [String] = []
    try Pass.run(passes, on: &base, notes: &notes)
    // Columns that were scaled in the candidate are scaled in the reference too, which changes nothing it computes.
    let scales = try foldedScales(candidate.contents.model, base)
    if !scales.isEmpty {
      let fold = Pass.foldScales(scales)
      try Pass.run([fold], on: &base, notes: &notes)
      passes.append(fold)
    }
    result.settings = settings(try base.facts(), try candidate.contents.model.facts())
    result.weights = try weights(base, candidate.contents.model, threads: options.threads)
    let items = data.sample(ModelDivergence.items)
    let progress = Progress("comparing layers", of: 2 * items.count)
    func run(_ path: String, _ passes: [Pass], _ observer: LayerInputs) throws(Failure) {
      let model = try LoadedModel(path, options, passes: passes, observer: observer)
      let start = observer === own ? items.count : 0
      for case .failure(let failure) in try model.embed(
        items, folder: data.folder, progress: { progress.show(start + $0) }
      )
      .lazy.map(\.result) {
        throw failure
      }
    }
    let old = LayerInputs(base)
    let own = LayerInputs(base, comparedWith: old)
    try run(reference, passes, old)
    try run(path, [], own)
    let graphs = candidate.contents.model.graphs.map { ($0.name, Set($0.graph.tensors)) }
    result.layers = own.divergence { weight in graphs.first { $0.1.contains(weight) }?.0 }
    Progress.clear()
    return result
  }

  private static func foldedScales(_ candidate: Model, _ base: Model) throws(Failure) -> [TensorName: [Float]] {
    var scales: [TensorName: [Float]] = [:]
    for site in base.scaleSites {
      guard let tensor = candidate[site.tensorName], tensor.encoding == .plain(.F32) else { continue }
      scales[site.tensorName] = try tensor.floats().array(of: Float.self)
    }
    return scales
  }

  private static func linearWeights(_ model: Model) -> [TensorName] {
    model.graphs.flatMap(\.graph.nodes).compactMap { node in
      if case .linear = node.op, case .tensor(let name) = node.inputs[1] { name } else { nil }
    }
  }

  /// Those that both have and say differently.
  private static func settings(
    _ a: [(name: String, value: String)], _ b: [(name: String, value: String)]
  ) -> [Divergence.Setting] {
    let own = Dictionary(b.map { ($0.name, $0.value) }, uniquingKeysWith: { first, _ in first })
    return a.compactMap { name, value in
      guard let other = own[name], other != value else { return nil }
      return Divergence.Setting(name: name, reference: value, candidate: other)
    }
  }

  /// Tensors of both with one shape.
  private static func weights(_ a: Model, _ b: Model, threads: Int) throws(Failure) -> [Divergence.Weight] {
    var result: [Divergence.Weight] = []
    let progress = Progress("comparing weights", of: b.tensors.count)
    for (place, tensor) in b.tensors.enumerated() {
      progress.show(place)
      guard let other = a[tensor.name], other.shape == tensor.shape, tensor.count > 0 else { continue }
      if case .plain(let type) = tensor.encoding, !type.isWeight { continue }
      let difference = try TensorDifference(other, tensor, threads: threads)
      result.append(
        .init(
          name: tensor.name.text, encoding: tensor.encoding.text,
          bits: Double(tensor.byteCount * 8) / Double(tensor.count), bytes: tensor.byteCount,
          relativeError: difference.relativeError, cosine: difference.cosine))
    }
    return result
  }
}
