import Bytes
import Calibration
import Fidelity
import Formats
import Passes
import Tensors

/// A container on its way to a smaller one: what `quantize` does.
package struct QuantizeJob {
  private let arguments: Arguments
  package let threads: Int
  private let started = ContinuousClock.now
  private let quantization: Quantization
  private let recipe: QuantizeRecipe?
  private let layout: PictureLayout
  /// What it will be, of tensors that are computed as they are written.
  package let model: Model
  package let notes: [String]
  package var source: Container.Contents { quantization.source }
  package var target: Target { quantization.target }

  /// Decides what becomes of each weight; nothing is rounded yet.
  package init(_ arguments: Arguments) throws(Failure) {
    self.arguments = arguments
    threads = try arguments.threads()
    let budget = try WeightBudget(arguments)
    guard !arguments.has("--method") || arguments.has("--calibration") else {
      throw Failure(.usage, "--method is for --calibration")
    }
    quantization = try Quantization(arguments, method: try method(arguments))
    var (model, notes) = (quantization.source.model, [String]())
    var (recipe, layout): (QuantizeRecipe?, PictureLayout) = (nil, try PictureLayout(arguments))
    do throws(Failure) {
      switch budget {
      case .none: break
      case .uniform:
        try quantization.refuseQuantized(arguments.positionals[0])
        recipe = try quantizeRecipe(arguments, quantization)
      case .planned:
        if !arguments.has("--plan") { try quantization.refuseQuantized(arguments.positionals[0]) }
        let plan = try plan(arguments, quantization, threads: threads)
        recipe = plan.changesWeights ? plan.recipe : nil
        if !plan.layout.isEmpty {
          guard layout.isEmpty else {
            throw Failure(
              .usage, "--views and --pool-pictures are up to the plan, which says how pictures are laid out")
          }
          layout = plan.layout
        }
      }
      if let form = try arguments.choice("--attention", ["float", "8"]) {
        guard recipe != nil else { throw Failure(.usage, "--attention is for a plan that changes weights") }
        recipe?.attention = form == "8" ? .int8 : .float
      }
      if let recipe { try quantization.check(recipe) }
      model = try quantization.quantized(recipe, layout, notes: &notes)
    } catch { throw error.kind == .usage ? error : error.inFile(arguments.positionals[0]) }
    (self.model, self.notes, self.recipe, self.layout) = (model, notes, recipe, layout)
  }

  /// What the model comes to in the files of another program; nil where it is for ours.
  package func targetFiles() throws(Failure)
    -> (target: Target, bytes: Int, parts: [(choice: WeightChoice, count: Int, bytes: Int)])?
  {
    guard target != .llv, let recipe else { return nil }
    let files = try TargetFiles(quantization)
    return (target, try files.bytes(recipe), try files.parts(recipe))
  }

  package struct Written {
    package let path: String
    package let bytes: Int
    package let losses: [TensorLoss]
    package let seconds: Double
    package var worstError: Double { losses.map(\.relativeError).max() ?? 0 }
    package var clamped: Int { losses.reduce(0) { $0 + $1.clamped } }
    package var vanishedGroups: Int { losses.reduce(0) { $0 + $1.vanishedGroups } }
  }

  /// Rounds the weights and writes the container, whole or not at all.
  package func run() throws(Failure) -> Written {
    var model = model
    let writer = try ContainerWriter(try arguments.requiredOutput("-o"), usesPanels: true, threads: threads)
    let progress = Progress("quantizing", of: model.tensors.reduce(0) { $0 + $1.byteCount })
    do throws(Failure) {
      try writer.writeData(model) { progress.show($0) }
    } catch { throw error.inFile(arguments.positionals[0]) }
    model.history.append(quantization.event(recipe, layout, writer.losses.map { ($0.name, $0.loss) }))
    try writer.finish(model, program: Release.program)
    try writer.commit()
    Progress.clear()
    return Written(
      path: try arguments.required("-o"), bytes: writer.byteCount, losses: writer.losses.map(\.loss),
      seconds: (ContinuousClock.now - started) / .seconds(1))
  }
}

private func method(_ arguments: Arguments) throws(Failure) -> Calibration.Method {
  let name = try arguments.choice("--method", Calibration.Method.all.map(\.text))
  return name.flatMap(Calibration.Method.init) ?? Calibration.Method()
}

/// The plan that was given, or that fits the budget.
private func plan(_ arguments: Arguments, _ quantization: Quantization, threads: Int) throws(Failure) -> Plan {
  if let path = arguments["--plan"] {
    guard !arguments.has("--activations") else { throw Failure(.usage, "--activations is up to the plan") }
    let plan: Plan
    do throws(Failure) {
      plan = try Plan(try JSON.parse(try InputFile(path).all(limit: Limits.manifest, what: "plan"), what: "plan"))
    } catch { throw error.inFile(path) }
    guard plan.model == String(quantization.source.checksum, radix: 16) else {
      throw Failure(.usage, "planned for another model; run llvconv plan on this one", file: path)
    }
    guard plan.target == quantization.target else {
      throw Failure(
        .usage, "planned --for \(plan.target.rawValue); found --for \(quantization.target.rawValue)", file: path)
    }
    return plan
  }
  let input: Op.LinearInput = try arguments.choice("--activations", ["float", "8"]) == "8" ? .int8 : .float
  guard let budget = try Budget(bits: arguments["--bits"], size: arguments["--size"]) else {
    throw Failure(.internal, "no budget")
  }
  return try quantization.plan(try quantization.planner(arguments, input: input, threads: threads), budget)
}

private func quantizeRecipe(_ arguments: Arguments, _ quantization: Quantization) throws(Failure) -> QuantizeRecipe {
  let target = quantization.target
  let (linear, isInputRounded) = try weightChoice(arguments, target)
  let bits: Int? =
    switch linear {
    case .integers(let bits, _, _): bits
    case .bfloat16: 16
    default: nil
    }
  let standard = tableChoice(target, linear)
  guard
    let table = try arguments["--table"].map({ (text) throws(Failure) in
      guard let table = WeightChoice(text) else {
        throw Failure(.usage, "--table must be \(WeightChoice.grammar); found \(Failure.quoted(text))")
      }
      return table
    }) ?? standard
  else { throw Failure(.internal, "no choice for tables") }
  let input = try arguments.choice("--activations", ["float", "16", "8"]) ?? "float"
  guard input == "float" || (input == "16") == (bits == 16) else {
    throw Failure(
      .usage, "--activations \(input) does not go with weights of \(linear.text): 16 with 16 bits, 8 with fewer")
  }
  var overrides = quantization.kept(in: quantization.fused).subtracting(quantization.fused.tableNames)
    .sorted().map { (pattern: $0.text, choice: WeightChoice.keep) }
  for text in arguments.all("--tensor") {
    guard let equals = text.lastIndex(of: "="), let choice = WeightChoice(String(text[text.index(after: equals)...]))
    else {
      throw Failure(
        .usage, "--tensor must be PATTERN=CHOICE, like '*.dense.weight=8:g64'; found \(Failure.quoted(text))")
    }
    overrides.append((String(text[..<equals]), choice))
  }
  return QuantizeRecipe(
    linear: linear, table: table,
    input: input == "8" || isInputRounded ? .int8 : input == "16" ? .bfloat16 : .float, overrides: overrides,
    target: target)
}

/// What all linear weights become, and whether the choice's name says that inputs are rounded to 8 bits.
private func weightChoice(_ arguments: Arguments, _ target: Target) throws(Failure) -> (WeightChoice, Bool) {
  let forms = ["--symmetric", "--affine", "--two-level"].filter(arguments.has)
  if let name = arguments["--weights"] {
    guard forms.isEmpty, !arguments.has("--group") else {
      throw Failure(.usage, "--group, --symmetric, --affine and --two-level are part of what --weights says")
    }
    let scheme = target == .compressedTensors ? CompressedScheme.named(name) : nil
    guard let choice = scheme?.choice ?? WeightChoice(name) else {
      throw Failure(.usage, "--weights must be \(WeightChoice.grammar); found \(Failure.quoted(name))")
    }
    return (choice, scheme?.roundsInputs ?? false)
  }
  let bits = try arguments.choice("--bits", ["16", "8", "4", "3", "2"]) ?? "8"
  var text = bits
  if let group = arguments["--group"] { text += group == "channel" ? ":channel" : ":g\(group)" }
  guard forms.count < 2 else { throw Failure(.usage, "\(forms.joined(separator: " and ")) exclude each other") }
  if bits == "16", arguments["--group"] != nil || !forms.isEmpty {
    throw Failure(.usage, "--group, --symmetric, --affine and --two-level are for --bits 8, 4, 3 and 2")
  }
  guard bits != "8" || forms.first != "--two-level" else {
    throw Failure(.usage, "--two-level is for --bits 4, 3 and 2")
  }
  if let form = forms.first { text += ":\(form.dropFirst(2))" }
  if bits != "16" {
    // What each program's own quantizer takes where nothing is said.
    switch target {
    case .llv, .gguf: break
    case .compressedTensors:
      if arguments["--group"] == nil { text += bits == "8" ? ":channel" : ":g128" }
      if forms.isEmpty { text += ":symmetric" }
    case .mlx:
      if arguments["--group"] == nil { text += ":g64" }
      if forms.isEmpty { text += ":affine" }
    }
  }
  guard let linear = WeightChoice(text) else {
    if forms.first == "--two-level" {
      throw Failure(.usage, "--two-level needs a --group that is a multiple of 8; found \(arguments["--group"] ?? "")")
    }
    throw Failure(
      .usage, "--group must be a whole number above 0, or channel; found \(Failure.quoted(arguments["--group"] ?? ""))")
  }
  return (linear, false)
}

/// What token tables become where nobody says.
private func tableChoice(_ target: Target, _ linear: WeightChoice) -> WeightChoice? {
  switch target {
  case .llv: if case .integers(bits: 2...4, _, _) = linear { WeightChoice("8:channel") } else { linear }
  // Errors in the token table reach every layer.
  case .gguf: if case .block = linear { WeightChoice("Q8_0") } else { linear }
  case .compressedTensors: .keep
  case .mlx: linear
  }
}
