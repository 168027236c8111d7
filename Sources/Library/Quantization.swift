import Bytes
import Calibration
import Fidelity
import Formats
import Passes
import Tensors

/// A container's model on its way to integers: what `quantize` does and `plan` tries.
package struct Quantization {
  package let source: Container.Contents
  package let calibration: Container.Contents?
  private let method: Calibration.Method
  /// The program whose files the model is for.
  package let target: Target
  /// Whether weights of the vision tower and projector stay as they are.
  package let keepsTower: Bool
  package let fusions: [Pass]
  /// After the fusions.
  package let fused: Model
  private let notes: [String]

  package init(_ arguments: Arguments, method: Calibration.Method = .init()) throws(Failure) {
    let path = arguments.positionals[0]
    source = try Container.open(path)
    let container = source
    target = try arguments.target
    guard target == .llv || !arguments.has("--no-fuse") else {
      throw Failure(.usage, "--no-fuse does not go with --for, which fuses what the files can hold")
    }
    let matrix = arguments["--calibration"].flatMap { FileKind($0) == .gguf ? $0 : nil }
    let measured: Container.Contents? =
      if matrix == nil, let file = arguments["--calibration"] {
        try Quantization.calibration(file, of: container)
      } else { nil }
    keepsTower =
      switch target {
      case .llv: false
      // Its files are two, and what was measured on texts says nothing about pictures.
      case .gguf: if let measured { try !measured.model.sawPictures(of: container.model) } else { matrix != nil }
      // Kernels of other programs want widths that a tower's are not.
      case .compressedTensors: !arguments.has("--tower")
      // Has no class for it.
      case .mlx: true
      }
    if keepsTower, target == .gguf, source.model.graph("vision") != nil {
      Output.note("note: the calibration saw no pictures: the vision tower and projector stay as they are")
    }
    fusions = arguments.has("--no-fuse") ? [] : target.fusions(withTower: !keepsTower)
    var (model, notes) = (source.model, [String]())
    do throws(Failure) { try Pass.run(fusions, on: &model, notes: &notes) } catch { throw error.inFile(path) }
    (fused, self.notes) = (model, notes)
    guard let matrix else {
      (calibration, self.method) = (measured, method)
      return
    }
    guard method.rounding != .gptq || !arguments.has("--method") else {
      throw Failure(
        .usage,
        "an importance matrix holds mean squares alone; --method gptq needs the second moments that llvconv "
          + "measure keeps, weighted does not", file: matrix)
    }
    let (contents, unmeasured) = try Imatrix.calibration(matrix, of: source.model, fused: fused)
    (calibration, self.method) = (contents, .init(.weighted, folds: method.folds))
    if unmeasured > 0 {
      Output.note("note: \(matrix): says nothing of \(unmeasured) linear weights, which are searched without it")
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
  package func refuseQuantized(_ path: String) throws(Failure) {
    var names = Set<TensorName>()
    for node in fused.graphs.flatMap(\.graph.nodes) {
      if case .linear = node.op, case .tensor(let name) = node.inputs[1] { names.insert(name) }
    }
    let quantized = names.compactMap { source.model[$0] ?? fused[$0] }.filter { !$0.encoding.isPlain }
    guard let first = quantized.min(by: { $0.name.text < $1.name.text }) else { return }
    guard quantized.count < names.count else {
      throw Failure(
        .usage,
        "its weights are integers already (\(first.name.text): \(first.encoding.text)), and rounding twice loses "
          + "twice: "
          + "start from the model that import wrote of the full checkpoint", file: path)
    }
    Output.note("note: \(quantized.count) of \(names.count) linear weights are integers already and stay as they are")
  }

  /// Holds a recipe to what the target's files can hold.
  ///
  /// - Throws: `usage` naming the first weight that they cannot.
  package func check(_ recipe: QuantizeRecipe) throws(Failure) {
    var ignored: [String] = []
    let (choices, tables) = (try recipe.resolved(fused, &ignored), fused.tableNames)
    for (name, choice) in choices.sorted(by: { $0.key < $1.key }) {
      guard let tensor = fused[name] else { continue }
      let fitted = choice.fitted(to: tensor, &ignored)
      guard let objection = target.objection(to: fitted, columns: tensor.columns, isTable: tables.contains(name))
      else { continue }
      throw Failure(.usage, "\(fitted.text) \(objection)", thing: "weight \(name.quoted)")
    }
    guard recipe.input == .float || target == .llv || target == .compressedTensors else {
      throw Failure(
        .usage, "--activations does not go with --for \(target.rawValue): that program decides about inputs")
    }
    guard recipe.attention == .float || target == .llv else {
      throw Failure(.usage, "--attention 8 does not go with --for \(target.rawValue): that program has it in floats")
    }
  }

  /// The pass that carries a recipe out on the fused model.
  package func pass(_ recipe: QuantizeRecipe) -> Pass {
    guard let calibration else { return .quantize(recipe) }
    return Calibration(calibration.model.tensors).quantize(recipe, method, addsBiases: target.hasBiasEverywhere)
  }

  /// - Parameter recipe: nil where weights stay as they are; nothing is fused then, so that the result can be exported.
  package func quantized(
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
  package func event(
    _ recipe: QuantizeRecipe?, _ layout: PictureLayout, _ losses: [(name: TensorName, loss: TensorLoss)]
  ) -> JSONText {
    let passes = (recipe.map { fusions + [pass($0)] } ?? []) + layout.passes
    let measured = recipe.flatMap { _ in calibration }.map { JSONText.string(String($0.checksum, radix: 16)) }
    var members: [(String, JSONText)] = [
      ("step", "quantize"), ("recipe", recipe?.json ?? .null), ("calibration", measured ?? .null),
    ]
    if target != .llv { members.append(("for", .string(target.rawValue))) }
    if measured != nil, let sketch = calibration?.model.history.last?["sketch"] { members.append(("sketch", sketch)) }
    members += layout.json
    members.append(("passes", .array(passes.map { .string($0.name) })))
    members.append(("losses", .object(losses.map { ($0.name.text, $0.loss.json) })))
    return .object(members)
  }

  // MARK: Plans

  package func planner(_ arguments: Arguments, input: Op.LinearInput, threads: Int) throws(Failure) -> Planner {
    let progress = Progress("rounding errors", of: 1_000)
    let planner = try Planner(
      fused, checksum: String(source.checksum, radix: 16),
      calibration: calibration.map { Calibration($0.model.tensors) }, objective: try Objective(arguments), input: input,
      target: target, keeping: kept(in: fused), threads: threads
    ) { progress.show(Int($0 * 1_000)) }
    Progress.clear()
    if !planner.isMeasured {
      Output.note(
        "note: no sensitivities were measured, so all weights' relative errors count the same; see measure "
          + "--sensitivity"
      )
    }
    return planner
  }

  /// The plan that makes all weights alike; tables of models of at most 4 bits stay at 8 bits a row, as without a plan.
  /// nil where every weight is quantized already, unless all are to stay as they are.
  package func plan(_ linear: WeightChoice, _ input: Op.LinearInput) throws(Failure) -> Plan? {
    let names = try Pass.quantizableWeights(of: fused, for: target)
    guard !names.isEmpty || linear == .keep else { return nil }
    var table = linear
    if case .integers(bits: 2...4, _, _) = linear { table = .integers(bits: 8, group: nil, form: .symmetric) }
    let tables = fused.tableNames
    return Plan(
      model: String(source.checksum, radix: 16), input: input, target: target,
      entries: names.map { .init(name: $0, choice: tables.contains($0) ? table : linear) })
  }

  /// The plan that costs least within a budget.
  package func plan(_ planner: Planner, _ budget: Budget) throws(Failure) -> Plan {
    guard case .size(let size) = budget else {
      guard case .bits(let bits) = budget else { throw Failure(.internal, "a budget of nothing") }
      return try planner.plan(bytes: planner.bytes(bits: bits))
    }
    let smallest = try planner.plan(bytes: planner.range.lowerBound)
    let files = try TargetFiles(self)
    let least = try files.bytes(smallest.recipe)
    guard size >= least else {
      throw Failure(
        .usage,
        "--size \(size) is too small: the smallest file of this model has \(least) bytes "
          + "(\(Output.size(least - smallest.weightBytes)) "
          + "of them stay as they are); try --size \(least)")
    }
    // What a file holds beside the weights depends a little on the plan.
    var room = size - (least - smallest.weightBytes)
    for _ in 0..<6 {
      let plan = try planner.plan(bytes: max(planner.range.lowerBound, room))
      let excess = try files.bytes(plan.recipe) - size
      if excess <= 0 { return plan }
      room = plan.weightBytes - excess
    }
    return smallest
  }

  /// What a container will have at most.
  package func fileBytes(_ recipe: QuantizeRecipe?, _ layout: PictureLayout = .init()) throws(Failure) -> Int {
    var notes: [String] = []
    var model = try quantized(recipe, layout, notes: &notes)
    let loss = TensorLoss(
      relativeError: 1.2345678901234567e-10, largestError: 1.2345678901234567e-10, clamped: 9_999_999, vanishedGroups: 0
    )
    model.history.append(event(recipe, layout, recipe.map { $0.choices.keys.map { ($0, loss) } } ?? []))
    return ContainerWriter.expectedBytes(model, usesPanels: true, program: Release.program)
  }

  /// Weights that no plan touches.
  package func kept(in model: Model) -> Set<TensorName> {
    let tower = keepsTower ? ["vision", "projector"].compactMap { model.graph($0) }.flatMap(\.nodes) : []
    let names = tower.compactMap { node -> TensorName? in
      if case .linear = node.op, case .tensor(let name) = node.inputs[1] { name } else { nil }
    }
    return Set(names).union(target.holdsTables ? [] : model.tableNames)
      .union(target == .compressedTensors ? model.sharedWeights : [])
  }
}

/// How large a recipe's files are, in the program that they are for.
package struct TargetFiles {
  private let quantization: Quantization
  /// Weights that are planned; counted apart from everything else.
  private let weights: [Tensor]
  /// Of everything else, where the target is another program; an upper bound.
  private let others: Int

  package init(_ quantization: Quantization) throws(Failure) {
    self.quantization = quantization
    let fused = quantization.fused
    let kept = quantization.kept(in: fused)
    weights = try Pass.quantizableWeights(of: fused, for: quantization.target).filter { !kept.contains($0) }.compactMap
    { fused[$0] }
    guard quantization.target != .llv else {
      others = 0
      return
    }
    var (model, ignored) = (quantization.source.model, [String]())
    let isGGUF = quantization.target == .gguf
    let isPadded = isGGUF && !quantization.keepsTower
    let named = Pass.unfuse(pixels: nil, keepsPadding: true)
    try Pass.run((isPadded ? [.padWidths] : []) + [.dropUnused, named], on: &model, notes: &ignored)
    let keptOnes = quantization.kept(in: model)
    let planned = try Pass.quantizableWeights(of: model, for: quantization.target)
      .filter { !keptOnes.contains($0) }.compactMap { model[$0] }
    let own = planned.reduce(0) { $0 + $1.byteCount }
    // Every tensor of a GGUF file starts at a multiple of 32 bytes.
    others =
      isGGUF
      ? try GGUFExport(model, path: "model.gguf", .init()).fileBytes() - own + 32 * model.tensors.count
      : try CheckpointExport.expectedBytes(model, isMLX: quantization.target == .mlx) - own
  }

  /// Elements and bytes of the weights of each choice, in the target's files.
  package func parts(_ recipe: QuantizeRecipe) throws(Failure) -> [(choice: WeightChoice, count: Int, bytes: Int)] {
    var ignored: [String] = []
    let choices = try recipe.resolved(quantization.fused, &ignored)
    var parts: [WeightChoice: (count: Int, bytes: Int)] = [:]
    for tensor in weights {
      let choice = (choices[tensor.name] ?? .keep).fitted(to: tensor, &ignored)
      let bytes = quantization.target.bytes(of: choice, plain: tensor.encoding, tensor.shape, input: recipe.input)
      parts[choice, default: (0, 0)].count += tensor.count
      parts[choice, default: (0, 0)].bytes += bytes
    }
    return parts.map { ($0.key, $0.value.count, $0.value.bytes) }
      .sorted { ($1.count, $0.choice.text) < ($0.count, $1.choice.text) }
  }

  package func bytes(_ recipe: QuantizeRecipe) throws(Failure) -> Int {
    guard quantization.target != .llv else { return try quantization.fileBytes(recipe) }
    return others + (try parts(recipe).reduce(0) { $0 + $1.bytes })
  }
}

extension Arguments {
  /// What `--for` says.
  package var target: Target {
    get throws(Failure) {
      let name = try choice("--for", Target.allCases.map(\.rawValue))
      return name.flatMap(Target.init) ?? .llv
    }
  }
}

extension Model {
  /// Whether a calibration's tensors are those of the vision tower of `model` too.
  fileprivate func sawPictures(of model: Model) throws(Failure) -> Bool {
    var (fused, ignored) = (model, [String]())
    try Pass.run(Pass.fusions, on: &fused, notes: &ignored)
    return fused.graph("vision")?.tensors.contains { self[$0] != nil } ?? true
  }
}

extension Target {
  /// The fusions that made a quantized model what it is.
  package static func fusions(of model: Model) -> [Pass] {
    guard let step = model.history.last(where: { $0["step"] == "quantize" }), case .string(let name)? = step["for"],
      let target = Target(rawValue: name)
    else { return Pass.fusions }
    let tower = model.graph("vision")?.tensors ?? []
    return target.fusions(withTower: tower.contains { $0.text.contains("+gain") })
  }
}
