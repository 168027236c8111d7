import Bytes
import Calibration
import Fidelity
import Formats
import Inputs
import Passes
import Tensors

/// Where a candidate leaves its reference inside the model.
package struct ModelDivergence {
  private static let items = 32

  /// - Parameters:
  ///   - reference: fused as the candidate was, under the candidate's names where it is of another layout.
  ///   - data: whose items some run through both.
  package static func find(
    candidate: LoadedModel, reference: ModelFile, data: VerifyData, options: LoadedModel.Options
  ) throws(Failure) -> Divergence {
    var result = Divergence()
    let (reference, file) = named(reference, candidate.file)
    var (base, own) = (reference.model, file.model)
    var (passes, ownPasses) = try ModelDivergence.passes(base, own)
    var notes: [String] = []
    try Pass.run(passes, on: &base, notes: &notes)
    try Pass.run(ownPasses, on: &own, notes: &notes)
    let names = linearWeights(own)
    // Columns that were scaled in the candidate are scaled in the reference too, which changes nothing it computes.
    let scales = try foldedScales(own, base)
    if !scales.isEmpty {
      let fold = Pass.foldScales(scales)
      try Pass.run([fold], on: &base, notes: &notes)
      passes.append(fold)
    }
    result.settings = try settings(base, own, data.items.map(\.item))
    result.weights = try weights(base, own, threads: options.threads)
    result.rounding = (
      try rounding(of: linearWeights(base), in: base, threads: options.threads),
      try rounding(of: names, in: own, threads: options.threads)
    )
    result.roundsInputs = own.graphs.flatMap(\.graph.nodes).contains { $0.op == .linear(.int8) }
    result.hasFewerTokens = !own.pictureLayout.isEmpty
    result.isIdentical =
      result.weights.allSatisfy { $0.relativeError == 0 } && result.settings.isEmpty
      && base.graphs.map(\.graph) == own.graphs.map(\.graph)
    let items = data.sample(ModelDivergence.items)
    let progress = Progress("comparing layers", of: 2 * items.count)
    func run(_ file: ModelFile, _ passes: [Pass], _ observer: LayerInputs) throws(Failure) {
      let model = try LoadedModel(file, options, passes: passes, observer: observer)
      let start = observer === new ? items.count : 0
      for case .failure(let failure) in try model.embed(
        items, folder: data.folder, progress: { progress.show(start + $0) }
      )
      .lazy.map(\.result) {
        throw failure
      }
    }
    let old = LayerInputs(base)
    let new = LayerInputs(base, comparedWith: old)
    try run(reference, passes, old)
    try run(file, ownPasses, new)
    let graphs = own.graphs.map { ($0.name, Set($0.graph.tensors)) }
    result.layers = new.divergence { weight in graphs.first { $0.1.contains(weight) }?.0 }
    Progress.clear()
    return result
  }

  /// What brings both to tensors of the same names and meaning: a reference is fused as its candidate is. A candidate
  /// that went out from a fused container and was imported again keeps gains in its weights, and its norms are ones.
  private static func passes(_ base: Model, _ own: Model) throws(Failure) -> (base: [Pass], own: [Pass]) {
    guard !own.isFused else { return (base.isFused ? [] : Target.fusions(of: own), []) }
    var (reduced, notes) = (own, [String]())
    try Pass.run([.dropNeutral], on: &reduced, notes: &notes)
    guard base.isFused || reduced.graphs.map(\.graph) != own.graphs.map(\.graph) else { return ([], []) }
    let undone = [Pass.unfuse(pixels: try Family.pixels(of: base)), .dropNeutral]
    return ((base.isFused ? [] : Pass.fusions) + undone, [.dropNeutral])
  }

  /// Both with names that go together: as they are, or the family's where they come from different layouts. (What
  /// passes made has names of its own, and `WEIGHT+gain` would be taken for a norm's.)
  private static func named(_ reference: ModelFile, _ candidate: ModelFile) -> (ModelFile, ModelFile) {
    let isAlike = linearWeights(candidate.model).allSatisfy { reference.model[$0] != nil }
    guard !isAlike, !reference.model.isFused, !candidate.model.isFused, let a = try? reference.model.underFamilyNames(),
      let b = try? candidate.model.underFamilyNames()
    else { return (reference, candidate) }
    var result = (reference, candidate)
    (result.0.model, result.1.model) = (a, b)
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

  /// What both say, and say differently: what is computed, and what texts become. Files that say it are listed too.
  private static func settings(_ a: Model, _ b: Model, _ items: [Item]) throws(Failure) -> [Divergence.Setting] {
    var (laidOut, notes) = (a, [String]())
    try Pass.run(b.pictureLayout.passes, on: &laidOut, notes: &notes)
    let asRecipe = Dictionary(try laidOut.facts().map { ($0.name, $0.value) }) { first, _ in first }
    let own = Dictionary(try b.facts().map { ($0.name, $0.value) }) { first, _ in first }
    var result: [Divergence.Setting] = []
    for (name, value) in try a.facts() {
      guard let other = own[name], other != value else { continue }
      let explanation =
        asRecipe[name] == other
        ? "as its recipe says" : name.hasPrefix("file ") ? "what it says is compared above and below" : nil
      result.append(.init(name: name, reference: value, candidate: other, explanation: explanation))
    }
    if let first = try tokenizer(a), let second = try tokenizer(b), first != second {
      result.append(tokenizers(first, second, items))
    }
    for name in missing(from: b, of: a) {
      result.append(.init(name: "tensor \(name.text)", reference: "used", candidate: "not used"))
    }
    return result
  }

  /// What a uses and b does not; a bias that calibration corrected has another name, and is there.
  private static func missing(from b: Model, of a: Model) -> [TensorName] {
    func biases(_ model: Model) -> [TensorName: TensorName] {
      var result: [TensorName: TensorName] = [:]
      for node in model.graphs.flatMap(\.graph.nodes) where node.inputs.count > 2 {
        if case .linear = node.op, case .tensor(let weight) = node.inputs[1], case .tensor(let bias) = node.inputs[2] {
          result[weight] = bias
        }
      }
      return result
    }
    let (used, others) = (Set(b.graphs.flatMap(\.graph.tensors)), biases(b))
    let corrected = Set(biases(a).filter { others[$0.key] != nil }.values)
    return a.graphs.flatMap(\.graph.tensors).filter { !used.contains($0) && !corrected.contains($0) }
  }

  private static func tokenizers(_ a: Tokenizer, _ b: Tokenizer, _ items: [Item]) -> Divergence.Setting {
    func shown(_ ids: [Int32]) -> String {
      ids.isEmpty ? "none" : ids.prefix(12).map(String.init).joined(separator: " ")
    }
    let (around, others) = (a.encode("", maximum: .max).ids, b.encode("", maximum: .max).ids)
    guard around == others else {
      return .init(name: "tokens around a text", reference: shown(around), candidate: shown(others))
    }
    for text in items.compactMap(\.text) {
      let (first, second) = (a.ids(text), b.ids(text))
      guard first != second else { continue }
      return .init(name: "tokens of \(Failure.quoted(text))", reference: shown(first), candidate: shown(second))
    }
    return .init(
      name: "tokenizer", reference: "\(a.vocabulary) tokens", candidate: "\(b.vocabulary) tokens with other rules",
      explanation: a.hasSameVocabulary(as: b) ? "though in none of these texts, and the vocabulary is the same" : nil)
  }

  private static func tokenizer(_ model: Model) throws(Failure) -> Tokenizer? {
    guard model.graph("text") != nil else { return nil }
    return try Tokenizer.load { (name) throws(Failure) in try model.file(name) }
  }

  /// `‖rounding errors‖ / ‖weights‖` of all of `names` together, as their encodings explain it.
  private static func rounding(of names: [TensorName], in model: Model, threads: Int) throws(Failure) -> Double {
    var (errors, squares) = (0.0, 0.0)
    for name in Set(names).sorted(by: { $0.text < $1.text }) {
      guard let tensor = model[name] else { continue }
      let rows = try TensorDifference(tensor, tensor, threads: threads).rows.map(\.squares)
      errors += try tensor.roundingErrors(squares: rows, threads: threads)?.reduce(0, +) ?? 0
      squares += rows.reduce(0, +)
    }
    return squares > 0 ? (errors / squares).squareRoot() : 0
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
      let explained = try tensor.roundingErrors(squares: difference.rows.map(\.squares), threads: threads)
      let judged = Divergence.judged(difference.rows, explained: explained)
      result.append(
        .init(
          name: tensor.name.text, encoding: tensor.encoding.text,
          bits: Double(tensor.byteCount * 8) / Double(tensor.count), bytes: tensor.byteCount,
          relativeError: difference.relativeError, cosine: difference.cosine, judged: judged))
    }
    return result
  }
}
