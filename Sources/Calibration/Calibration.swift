import Bytes
import Fidelity
import Passes
import Tensors

/// What was measured of a model on somebody's data: second moments of the inputs of each linear weight, by the weight's
/// name after the exact fusions.
public struct Calibration: Sendable {
  private var moments: Moments

  public init(_ tensors: [Tensor]) { moments = Moments(tensors) }

  /// Tensors by what feeds their weight: passes that change a weight's rows alone leave its inputs as they are.
  private struct Moments: Sendable {
    private var tensors: [TensorName: Tensor]

    init(_ tensors: [Tensor]) {
      self.tensors = Dictionary(tensors.map { ($0.name.ofInput, $0) }, uniquingKeysWith: { first, _ in first })
    }

    subscript(name: TensorName) -> Tensor? {
      get { tensors[name.ofInput] }
      set { tensors[name.ofInput] = newValue }
    }
  }

  /// How a measured weight becomes integers.
  public struct Method: Sendable {
    public enum Rounding: String, Sendable, CaseIterable {
      /// As without a calibration.
      case search
      /// Steps searched with each squared error weighted by its input's mean square.
      case weighted
      /// That, and errors made up for in later columns.
      case gptq
      /// Steps searched as `weighted` does, rounding trained by the signs of slopes.
      case signround
      /// GPTQ; then codes, steps and zeros one after the other, each the best while all others stay.
      case descent
    }

    public var rounding: Rounding
    /// Whether columns are scaled first, against what feeds them.
    public var folds: Bool

    public init(_ rounding: Rounding = .gptq, folds: Bool = false) { (self.rounding, self.folds) = (rounding, folds) }

    /// `gptq`, `fold+gptq`, ….
    public init?(_ text: String) {
      folds = text.hasPrefix("fold+")
      guard let rounding = Rounding(rawValue: folds ? String(text.dropFirst(5)) : text) else { return nil }
      self.rounding = rounding
    }

    public var text: String { (folds ? "fold+" : "") + rounding.rawValue }
    public static let all = [false, true].flatMap { folds in Rounding.allCases.map { Method($0, folds: folds) } }
  }

  /// Quantizes with `recipe`; weights that were measured by `method`, the others by search alone.
  ///
  /// - Parameter addsBiases: whether linear operations without a bias get one; otherwise only biases that are there
  ///   make up for what the mean input loses.
  /// - Throws: `usage` when nothing that is to be quantized was measured.
  public func quantize(_ recipe: QuantizeRecipe, _ method: Method = Method(), addsBiases: Bool = true) -> Pass {
    Pass(method.text) { (model, notes) throws(Failure) in
      guard model.tensors.contains(where: { moments[$0.name] != nil }) else {
        throw Failure(.usage, "the calibration is of another model: it has none of this one's weights")
      }
      var measured = self
      if method.folds {
        let scales = try scales(model, recipe)
        measured = scaled(scales, model)
        try Pass.foldScales(scales).apply(&model, &notes)
      }
      if method.rounding == .search {
        try Pass.quantize(recipe).apply(&model, &notes)
      } else {
        try measured.round(
          recipe, method.rounding, addsBiases: addsBiases, &model, &notes)
      }
    }
  }

  private func round(
    _ recipe: QuantizeRecipe, _ rounding: Method.Rounding, addsBiases: Bool, _ model: inout Model,
    _ notes: inout [String]
  ) throws(Failure) {
    let propagates = rounding == .gptq || rounding == .descent
    let biased = addsBiases ? nil : Set(model.linearNodes.filter { $0.inputs.count > 2 }.map { $0.inputs[1] })
    let done = Lock<[TensorName: GPTQ]>([:])
    let alone = Lock<Int>(0)
    let pass = Pass.quantize(recipe) { (tensor, grid) throws(Failure) in
      guard let second = moments[tensor.name] else { return nil }
      let isAlone = second.shape.count == 1
      if isAlone { alone.withLock { $0 += 1 } }
      let mean = biased?.contains(.tensor(tensor.name)) ?? true ? moments[SecondMoments.mean(tensor.name)] : nil
      let gptq = try GPTQ(
        tensor, grid, moments: second, mean: mean, propagates: propagates && !isAlone,
        refinement: isAlone ? .none : .init(rounding))
      if mean != nil { done.withLock { $0[tensor.name] = gptq } }
      return Tensor.Computation { (threads) throws(Failure) in try gptq.run(threads: threads) }
    }
    try pass.apply(&model, &notes)
    let squares = alone.withLock { $0 }
    if rounding != .weighted, squares > 0 {
      notes.append(
        "mean squares alone are known of the inputs of \(squares) weights: errors are weighed, not made up for")
    }
    let quantizers = done.withLock { $0 }
    for name in model.tensors.map(\.name) {
      if let gptq = quantizers[name] { shiftBias(of: name, gptq, &model) }
    }
  }

  /// Makes the moments of a weight's inputs those of inputs divided by `scales`.
  mutating func divide(_ weight: TensorName, by scales: [Float]) {
    let inverse = scales.map { 1 / $0 }
    if let old = moments[weight], SecondMoments.isShape(old.shape), old.rows == scales.count {
      let block = old.columns
      let content = Tensor.Computation { (threads) throws(Failure) in
        let (source, result) = (try old.floats(threads: threads), try Buffer(count: old.count * 4))
        source.with(Float.self) { source in
          result.with(Float.self) { result in
            for row in 0..<old.rows {
              let first = row / block * block
              for column in 0..<min(block, old.rows - first) {
                result[row * block + column] = source[row * block + column] * inverse[row] * inverse[first + column]
              }
              for column in min(block, old.rows - first)..<block { result[row * block + column] = 0 }
            }
          }
        }
        return (result, nil)
      }
      moments[weight] = Tensor(weight, shape: old.shape, encoding: old.encoding, content: .computed(content))
    }
    let mean = SecondMoments.mean(weight)
    if let old = moments[mean], old.count == scales.count {
      let content = Tensor.Computation { (threads) throws(Failure) in
        let (source, result) = (try old.floats(threads: threads), try Buffer(count: old.count * 4))
        source.with(Float.self) { source in
          result.with(Float.self) { for column in inverse.indices { $0[column] = source[column] * inverse[column] } }
        }
        return (result, nil)
      }
      moments[mean] = Tensor(mean, shape: old.shape, encoding: old.encoding, content: .computed(content))
    }
  }

  /// Mean squares of the inputs of a weight, `[columns]`; nil for one that was not measured.
  public func meanSquares(_ weight: TensorName) throws(Failure) -> [Float]? {
    guard let tensor = moments[weight] else { return nil }
    if tensor.shape.count == 1, tensor.encoding == .plain(.F32) { return try tensor.floats().array(of: Float.self) }
    guard SecondMoments.isShape(tensor.shape), tensor.encoding == .plain(.F32) else {
      throw Failure(.malformed, "second moments of \(tensor.shape)", thing: "tensor \(weight.quoted)")
    }
    let (columns, block) = (tensor.rows, tensor.columns)
    return try tensor.floats().with(Float.self) { values in
      (0..<columns).map { values[$0 * block + $0 % block] }
    }
  }

  /// Means of the inputs of a weight, `[columns]`; nil for one that was not measured.
  public func means(_ weight: TensorName) throws(Failure) -> [Float]? {
    guard let tensor = moments[SecondMoments.mean(weight)] else { return nil }
    guard tensor.encoding == .plain(.F32) else {
      throw Failure(.malformed, "means in \(tensor.encoding.text)", thing: "tensor \(tensor.name.quoted)")
    }
    return try tensor.floats().array(of: Float.self)
  }

  /// Largest magnitudes of the inputs of a weight, `[columns]`; nil for one that was not measured.
  func largest(_ weight: TensorName) throws(Failure) -> [Float]? {
    guard let tensor = moments[SecondMoments.channels(weight)], tensor.rows == 4 else { return nil }
    let columns = tensor.columns
    return try tensor.floats().with(Float.self) { values in
      (0..<columns).map { max(values[columns + $0], values[3 * columns + $0]) }
    }
  }

  /// What rounding each of these weights costs, alone and with its input rounded too; nil where sensitivities were not
  /// measured.
  ///
  /// - Throws: `malformed` for tensors that `measure` does not write.
  func losses(
    of candidates: [TensorName], _ objective: Objective
  ) throws(Failure) -> [TensorName: (rounded: Double, withInput: Double?)]? {
    guard let reference = moments["embeddings"], let positives = moments["positives"] else { return nil }
    guard reference.shape.count == 2, reference.encoding == .plain(.F32), reference.count > 0,
      positives.encoding == .plain(.I32), positives.count < reference.rows
    else { throw Failure(.malformed, "embeddings of \(reference.shape)", thing: "tensor \(reference.name.quoted)") }
    let (width, queries) = (reference.columns, positives.count)
    let places = try positives.load().array(of: Int32.self).map(Int.init)
    func sides(_ tensor: Tensor) throws(Failure) -> (queries: Embeddings, documents: Embeddings) {
      guard tensor.shape == reference.shape, tensor.encoding == .plain(.F32) else {
        throw Failure(.malformed, "embeddings of \(tensor.shape)", thing: "tensor \(tensor.name.quoted)")
      }
      let values = try tensor.load().array(of: Float.self)
      let documents = Embeddings(width: width, values: Array(values[(queries * width)...]))
      return (
        queries == 0 ? documents : Embeddings(width: width, values: Array(values[..<(queries * width)])), documents
      )
    }
    let before = try sides(reference)
    guard places.allSatisfy({ (0..<before.documents.count).contains($0) }) else {
      throw Failure(.malformed, "a place without a document", thing: "tensor \(positives.name.quoted)")
    }
    let labels = queries == 0 ? try Objective.Labels(nearest: before.documents) : Objective.Labels(positives: places)
    var result: [TensorName: (rounded: Double, withInput: Double?)] = [:]
    // Tables were rounded too, though they have no moments.
    for name in candidates {
      guard let moved = moments[Sensitivity.moved(name)] else { continue }
      let rounded = try objective.cost(reference: before, moved: try sides(moved), labels: labels)
      var withInput: Double?
      if let both = moments[Sensitivity.movedByInput(name)] {
        withInput = try objective.cost(reference: before, moved: try sides(both), labels: labels)
      }
      result[name] = (rounded, withInput)
    }
    return result
  }

  /// Gives every linear operation with this weight the bias that makes up for what the mean input loses.
  private func shiftBias(of weight: TensorName, _ gptq: GPTQ, _ model: inout Model) {
    var replaced = Set<TensorName>()
    for index in model.graphs.indices {
      for (place, node) in model.graphs[index].graph.nodes.enumerated() {
        guard case .linear = node.op, node.inputs[1] == .tensor(weight), let outputs = model[weight]?.rows else {
          continue
        }
        var old: Tensor?
        if node.inputs.count > 2, case .tensor(let name) = node.inputs[2] { old = model[name] }
        if let old { replaced.insert(old.name) }
        let before = old
        let bias = Tensor(
          weight.made("bias"), shape: [outputs], encoding: .plain(.F32),
          content: .computed(
            .init { (threads) throws(Failure) in
              let shift = try gptq.biasShift(threads: threads)
              let result = try Buffer(count: outputs * 4)
              let start = try before?.floats(threads: threads)
              result.with(Float.self) { result in
                for output in 0..<outputs { result[output] = shift[output] }
                start?.with(Float.self) { start in for output in 0..<outputs { result[output] += start[output] } }
              }
              return (result, nil)
            }))
        model.set(bias)
        model.graphs[index].graph.replace(
          place, with: .init(node.op, [node.inputs[0], node.inputs[1], .tensor(bias.name)]))
      }
    }
    let unused = Set(model.unused)
    model.removeTensors { replaced.contains($0.name) && unused.contains($0.name) }
  }
}

extension Model {
  fileprivate var linearNodes: [Graph.Node] {
    graphs.flatMap(\.graph.nodes).filter { if case .linear = $0.op { true } else { false } }
  }
}

extension TensorName {
  /// The name without the marks of passes that leave a weight's input as it is: `a.{q,k}.{weight+scaled,weight}` is
  /// `a.{q,k}.weight`.
  fileprivate var ofInput: TensorName {
    guard bytes.contains(UInt8(ascii: "+")) else { return self }
    var parts: [String] = []
    for part in text.split(separator: ".", omittingEmptySubsequences: false) {
      guard part.hasPrefix("{"), let end = part.lastIndex(of: "}") else {
        parts.append(TensorName.unmarked(part))
        continue
      }
      let members = part[part.index(after: part.startIndex)..<end].split(separator: ",").map(TensorName.unmarked)
      let joined = Set(members).count == 1 ? members[0] : "{" + members.joined(separator: ",") + "}"
      parts.append(joined + TensorName.unmarked(part[part.index(after: end)...]))
    }
    return TensorName(parts.joined(separator: "."))
  }

  private static func unmarked(_ part: Substring) -> String {
    let marks = part.split(separator: "+", omittingEmptySubsequences: false)
    let kept = marks.dropFirst().filter { mark in
      mark != "scaled" && mark != "pixels" && !(mark.hasPrefix("row") && mark.dropFirst(3).allSatisfy(\.isNumber))
    }
    return ([marks[0]] + kept).joined(separator: "+")
  }
}
