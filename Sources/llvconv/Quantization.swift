import Bytes
import Calibration
import Fidelity
import Formats
import Passes
import Tensors

/// A container's model on its way to integers: what `quantize` does and `plan` tries.
struct Quantization {
  let source: Container.Contents
  let calibration: Container.Contents?
  private let method: Calibration.Method
  let fusions: [Pass]
  /// After the fusions.
  let fused: Model
  private let notes: [String]

  init(_ arguments: Arguments, method: Calibration.Method = .init()) throws(Failure) {
    let path = arguments.positionals[0]
    source = try Container.open(path)
    fusions = arguments.has("--no-fuse") ? [] : Pass.fusions
    var (model, notes) = (source.model, [String]())
    do throws(Failure) { try Pass.run(fusions, on: &model, notes: &notes) } catch { throw error.inFile(path) }
    (fused, self.notes) = (model, notes)
    guard let file = arguments["--calibration"] else {
      (calibration, self.method) = (nil, method)
      return
    }
    guard FileKind(file) == .gguf else {
      (calibration, self.method) = (try Quantization.calibration(file, of: source), method)
      return
    }
    guard method.rounding != .gptq || !arguments.has("--method") else {
      throw Failure(
        .usage, "an importance matrix holds mean squares alone; --method gptq needs the second moments that llvconv "
          + "measure keeps, weighted does not", file: file)
    }
    let (contents, unmeasured) = try Imatrix.calibration(file, of: source.model, fused: fused)
    (calibration, self.method) = (contents, .init(.weighted, folds: method.folds))
    if unmeasured > 0 {
      Output.note("note: \(file): says nothing of \(unmeasured) linear weights, which are searched without it")
    }
  }

  /// What `measure` found, held to be of this very model.
  private static func calibration(
    _ path: String, of source: Container.Contents
  ) throws(Failure) -> Container.Contents {
    let calibration = try Container.open(path)
    guard let step = calibration.model.history.last, step["step"] == "measure" else {
      throw Failure(.malformed, "not made by llvconv measure", file: path)
    }
    guard step["model"] == .string(String(source.checksum, radix: 16)) else {
      throw Failure(.usage, "measured on another model; run llvconv measure on this one", file: path)
    }
    return calibration
  }

  /// Weights that are integers already would lose twice.
  ///
  /// - Throws: `usage` when no weight is left to be quantized; some are said aloud.
  func refuseQuantized(_ path: String) throws(Failure) {
    var names = Set<TensorName>()
    for node in fused.graphs.flatMap(\.graph.nodes) {
      if case .linear = node.op, case .tensor(let name) = node.inputs[1] { names.insert(name) }
    }
    let quantized = names.compactMap { source.model[$0] ?? fused[$0] }.filter { !$0.encoding.isPlain }
    guard let first = quantized.min(by: { $0.name.text < $1.name.text }) else { return }
    guard quantized.count < names.count else {
      throw Failure(
        .usage,
        "its weights are integers already (\(first.name.text): \(first.encoding.text)), and rounding twice loses twice: "
          + "start from the model that import wrote of the full checkpoint", file: path)
    }
    Output.note("note: \(quantized.count) of \(names.count) linear weights are integers already and stay as they are")
  }

  /// The pass that carries a recipe out on the fused model.
  func pass(_ recipe: QuantizeRecipe) -> Pass {
    calibration.map { Calibration($0.model.tensors).quantize(recipe, method) } ?? .quantize(recipe)
  }

  /// - Parameter recipe: nil where weights stay as they are; nothing is fused then, so that the result can be exported.
  func quantized(
    _ recipe: QuantizeRecipe?, _ layout: PictureLayout, notes: inout [String]
  ) throws(Failure) -> Model {
    var model = source.model
    if recipe != nil {
      model = fused
      notes += self.notes
    }
    try Pass.run((recipe.map { [pass($0)] } ?? []) + layout.passes, on: &model, notes: &notes)
    return model
  }

  /// The step for the container's history.
  func event(
    _ recipe: QuantizeRecipe?, _ layout: PictureLayout, _ losses: [(name: TensorName, loss: TensorLoss)]
  ) -> JSONText {
    let passes = (recipe.map { fusions + [pass($0)] } ?? []) + layout.passes
    let measured = recipe.flatMap { _ in calibration }.map { JSONText.string(String($0.checksum, radix: 16)) }
    var members: [(String, JSONText)] = [
      ("step", "quantize"), ("recipe", recipe?.json ?? .null), ("calibration", measured ?? .null),
    ]
    if measured != nil, let sketch = calibration?.model.history.last?["sketch"] { members.append(("sketch", sketch)) }
    members += layout.json
    members.append(("passes", .array(passes.map { .string($0.name) })))
    members.append(("losses", .object(losses.map { ($0.name.text, $0.loss.json) })))
    return .object(members)
  }

  // MARK: Plans

  func planner(_ arguments: Arguments, input: Op.LinearInput, threads: Int) throws(Failure) -> Planner {
    let progress = Progress("rounding errors", of: 1_000)
    let planner = try Planner(
      fused, checksum: String(source.checksum, radix: 16),
      calibration: calibration.map { Calibration($0.model.tensors) }, objective: try Objective(arguments), input: input,
      threads: threads
    ) { progress.show(Int($0 * 1_000)) }
    Progress.clear()
    if !planner.isMeasured {
      Output.note(
        "note: no sensitivities were measured, so all weights' relative errors count the same; see measure --sensitivity"
      )
    }
    return planner
  }

  /// The plan that makes all weights alike; tables of 4-bit models stay at 8 bits a row, as without a plan. nil where
  /// every weight is quantized already, unless all are to stay as they are.
  func plan(_ linear: WeightChoice, _ input: Op.LinearInput) throws(Failure) -> Plan? {
    let names = try Pass.quantizableWeights(of: fused)
    guard !names.isEmpty || linear == .keep else { return nil }
    var table = linear
    if case .integers(bits: 4, _, _) = linear { table = .integers(bits: 8, group: nil, form: .symmetric) }
    var tables = Set<TensorName>()
    for node in fused.graphs.flatMap(\.graph.nodes) {
      if case .embedding = node.op, case .tensor(let name) = node.inputs[0] { tables.insert(name) }
    }
    return Plan(
      model: String(source.checksum, radix: 16), input: input,
      entries: names.map { .init(name: $0, choice: tables.contains($0) ? table : linear) })
  }

  /// The plan that costs least within a budget.
  func plan(_ planner: Planner, _ budget: Budget) throws(Failure) -> Plan {
    guard case .size(let size) = budget else {
      guard case .bits(let bits) = budget else { throw Failure(.internal, "a budget of nothing") }
      return try planner.plan(bytes: planner.bytes(bits: bits))
    }
    let smallest = try planner.plan(bytes: planner.range.lowerBound)
    let least = try fileBytes(smallest.recipe)
    guard size >= least else {
      throw Failure(
        .usage,
        "--size \(size) is too small: the smallest file of this model has \(least) bytes (\(Output.size(planner.otherBytes)) "
          + "of them stay as they are); try --size \(least)")
    }
    // What a file holds beside the weights depends a little on the plan.
    var room = size - planner.otherBytes
    for _ in 0..<6 {
      let plan = try planner.plan(bytes: max(planner.range.lowerBound, room))
      let excess = try fileBytes(plan.recipe) - size
      if excess <= 0 { return plan }
      room = plan.weightBytes - excess
    }
    return smallest
  }

  /// What a container will have at most.
  func fileBytes(_ recipe: QuantizeRecipe?, _ layout: PictureLayout = .init()) throws(Failure) -> Int {
    var notes: [String] = []
    var model = try quantized(recipe, layout, notes: &notes)
    let loss = TensorLoss(
      relativeError: 1.2345678901234567e-10, largestError: 1.2345678901234567e-10, clamped: 9_999_999, vanishedGroups: 0
    )
    model.history.append(event(recipe, layout, recipe.map { $0.choices.keys.map { ($0, loss) } } ?? []))
    return ContainerWriter.expectedBytes(model, usesPanels: true, program: "llvconv \(Program.version)")
  }
}
