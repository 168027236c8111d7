import Bytes
import Fidelity
import Passes
import Tensors

/// Finds what each weight should become so that a model of a given size loses least: what rounding each of them costs,
/// by measured sensitivity, and the best of all combinations.
public struct Planner: Sendable {
  /// A weight whose input's rounding costs more than this share of everything takes its input as floats.
  static let inputShare = 0.1

  private struct Weight: Sendable {
    let name: TensorName
    var options: [(choice: WeightChoice, bytes: Int, cost: Double, relativeError: Double)] = []
    /// What rounding its input costs.
    var inputCost = 0.0
    var count = 0
    /// Squared relative errors of what sensitivities were measured with.
    var measuredCost = 0.0, measuredInputCost = 0.0
  }

  private var weights: [Weight] = []
  /// Bytes of all tensors that stay as they are.
  public let otherBytes: Int
  private let model: String
  private let input: Op.LinearInput
  private let objective: Objective
  private let target: Target
  /// Whether costs were measured, or all relative errors count the same.
  public let isMeasured: Bool

  /// - Parameters:
  ///   - model: after the fusions that quantizing starts with.
  ///   - checksum: of its container.
  ///   - calibration: where sensitivities were measured; without, all weights' relative errors count the same.
  ///   - input: whether inputs are rounded to 8 bits.
  ///   - target: whose files count, and what they can hold.
  ///   - kept: weights that stay as they are.
  ///   - progress: called with the share done.
  public init(
    _ model: Model, checksum: String, calibration: Calibration?, objective: Objective, input: Op.LinearInput,
    target: Target = .llv, keeping kept: Set<TensorName> = [], threads: Int, progress: (Double) -> Void = { _ in }
  ) throws(Failure) {
    (self.model, self.objective, self.input, self.target) = (checksum, objective, input, target)
    let tables = model.tableNames
    let names = try Pass.quantizableWeights(of: model, for: target).filter {
      !kept.contains($0)
    }
    let losses = try calibration?.losses(of: names, objective)
    isMeasured = losses != nil
    let quantizable = Set(names)
    otherBytes = model.tensors.reduce(0) { $0 + (quantizable.contains($1.name) ? 0 : $1.byteCount) }
    var rounded: [WeightChoice: Model] = [:]
    for choice in Set(target.choices + [Sensitivity.weightChoice, Sensitivity.inputChoice]) {
      var (copy, notes) = (model, [String]())
      let recipe = QuantizeRecipe(linear: choice, table: choice, input: .float, target: target)
      try Pass.run([.quantize(recipe)], on: &copy, notes: &notes)
      rounded[choice] = copy
    }
    for (place, name) in names.enumerated() {
      progress(Double(place) / Double(names.count))
      guard let tensor = model[name] else { continue }
      var weight = Weight(name: name, count: tensor.count)
      let columns = try calibration?.meanSquares(name)
      guard columns?.count ?? tensor.columns == tensor.columns else {
        throw Failure(.malformed, "moments of other columns", thing: "tensor \(name.quoted)")
      }
      func error(_ choice: WeightChoice) throws(Failure) -> Double {
        guard let other = rounded[choice]?[name] else { throw Failure(.internal, "no rounded weight") }
        let error = try TensorDifference(tensor, other, weights: columns, threads: threads).relativeError
        guard error.isFinite else {
          throw Failure(.malformed, "has no finite rounding error", thing: "tensor \(name.quoted)")
        }
        return error
      }
      for choice in target.choices {
        let bytes = target.bytes(of: choice, plain: tensor.encoding, tensor.shape, input: input)
        guard target.objection(to: choice, columns: tensor.columns, isTable: tables.contains(name)) == nil,
          target != .llv || !weight.options.contains(where: { $0.bytes == bytes })
        else { continue }
        let error = try error(choice)
        weight.options.append((choice, bytes, error * error, error))
      }
      if losses != nil {
        func cost(_ choice: WeightChoice) throws(Failure) -> Double {
          if let known = weight.options.first(where: { $0.choice == choice }) { return known.cost }
          let error = try error(choice)
          return error * error
        }
        weight.measuredCost = try cost(Sensitivity.weightChoice)
        weight.measuredInputCost = input == .int8 ? try cost(Sensitivity.inputChoice) : 0
      }
      guard !weight.options.isEmpty else { continue }
      weights.append(weight)
    }
    if let losses { try weigh(losses) }
  }

  /// Makes squared relative errors costs: by what each weight cost when it was measured, and in between by its like in
  /// other layers.
  private mutating func weigh(_ losses: [TensorName: (rounded: Double, withInput: Double?)]) throws(Failure) {
    var (units, inputs) = ([TensorName: Double](), [TensorName: Double]())
    for weight in weights {
      guard let loss = losses[weight.name] else { continue }
      let unit = weight.measuredCost > 0 ? loss.rounded / weight.measuredCost : 0
      units[weight.name] = unit
      guard let both = loss.withInput else { continue }
      inputs[weight.name] = max(0, both - weight.measuredInputCost * unit)
    }
    for place in weights.indices {
      let name = weights[place].name
      guard let unit = units[name] ?? Sensitivity.interpolated(name, units) else {
        throw Failure(.malformed, "the calibration lacks the sensitivity of weight \(name.quoted); measure again")
      }
      for index in weights[place].options.indices { weights[place].options[index].cost *= unit }
      guard weights[place].options.allSatisfy(\.cost.isFinite), inputs[name]?.isFinite ?? true else {
        throw Failure(.malformed, "the calibration's sensitivity of weight \(name.quoted) is not a number")
      }
      if input == .int8 {
        weights[place].inputCost = inputs[name] ?? Sensitivity.interpolated(name, inputs) ?? 0
      }
    }
  }

  private func bitsPerWeight(_ bytes: Int) -> Double {
    Double(bytes * 8) / Double(max(1, weights.reduce(0) { $0 + $1.count }))
  }

  /// Bytes of the weights at so many bits each on average, scales included.
  public func bytes(bits: Double) -> Int { Int(bits * Double(weights.reduce(0) { $0 + $1.count }) / 8) }

  /// The smallest and the largest that can be planned.
  public var range: ClosedRange<Int> {
    let (least, most) = (
      weights.reduce(0) { $0 + ($1.options.map(\.bytes).min() ?? 0) },
      weights.reduce(0) { $0 + ($1.options.map(\.bytes).max() ?? 0) }
    )
    return least...max(least, most)
  }

  /// The plan that costs least where all weights together take at most `bytes`.
  ///
  /// - Throws: `usage` when they cannot.
  public func plan(bytes: Int) throws(Failure) -> Plan {
    guard
      let best = Allocation.best(
        weights.map { $0.options.map { .init(bytes: $0.bytes, cost: $0.cost) } }, budget: bytes)
    else {
      throw Failure(
        .usage,
        "the weights take at least \(range.lowerBound) bytes, \(bitsPerWeight(range.lowerBound).fixed(2)) bits each; "
          + "the "
          + "budget leaves them \(max(0, bytes)), \(bitsPerWeight(max(0, bytes)).fixed(2)) each")
    }
    var entries: [Plan.Entry] = []
    var (used, cost) = (0, 0.0)
    for (weight, place) in zip(weights, best) {
      let option = weight.options[place]
      used += option.bytes
      cost += option.cost
      entries.append(
        .init(
          name: weight.name, choice: option.choice, hasFloatInput: false, cost: option.cost,
          relativeError: option.relativeError))
    }
    cost += weights.reduce(0) { $0 + $1.inputCost }
    for place in weights.indices.sorted(by: { weights[$0].inputCost > weights[$1].inputCost })
    where weights[place].inputCost > Planner.inputShare * cost {
      entries[place].hasFloatInput = true
      cost -= weights[place].inputCost
    }
    for place in entries.indices where !entries[place].hasFloatInput {
      entries[place].cost? += weights[place].inputCost
    }
    var plan = Plan(model: model, input: input, target: target, entries: entries)
    plan.weightBytes = used
    plan.notes = [
      ("objective", .string(isMeasured ? objective.text : "relative errors of weights, unmeasured")),
      ("predicted_cost", .number(cost)), ("weight_bytes", .int(used)),
      ("bits_per_weight", .number(bitsPerWeight(used))),
    ]
    return plan
  }
}
