import Bytes
import Calibration
import Fidelity
import Formats
import Passes
import Tensors

let quantizeCommand = Command(
  name: "quantize",
  abstract: "Makes a model's weights 8- or 4-bit integers, or BF16, and pictures fewer tokens.",
  positionals: ["MODEL.llv"],
  options: [
    .init(
      "--bits", "16|8|4|X",
      "bits of the weights of linear operations; 16 is BF16; another number: per weight on average, scales included, each weight as it pays"
    ),
    .init(
      "--size", "BYTES", "in the place of --bits: of the file, a number, or with KB, MB, GB; each weight as it pays"),
    .init("--plan", "PLAN.json", "in the place of --bits: what llvconv plan found, perhaps changed"),
    .init("-o", "FILE", "where to write; appears whole or not at all (not needed with --dry-run)"),
    .init(
      "--group", "N|channel",
      "weights that share a scale: 16 (default for 4 bits), 32 (default for 8), 64, 128, …, or a whole row"),
    .init("--symmetric", nil, "codes around zero (default for 8 bits)"),
    .init("--affine", nil, "a scale and a zero in half precision for each group"),
    .init(
      "--two-level", nil,
      "for each group a whole step and a whole zero, one byte together, under a scale a row (default for 4 bits)"),
    .init(
      "--activations", "float|16|8",
      "multiply float inputs (default), or round them to BF16 (with --bits 16), or to 8-bit integers per token and group"
    ),
    .init(
      "--attention", "float|8",
      "what attention is computed with: 8-bit integers (default with --activations 8), or floats (default otherwise)"),
    .init(
      "--table", "CHOICE",
      "for token tables: keep, 16, 8, 4, with :gN, :channel, :affine, :symmetric, :two-level (default: like the rest, but 8:channel at 4 bits)"
    ),
    .init(
      "--tensor", "PATTERN=CHOICE", "override for weights by name, e.g. '*.output.dense.weight=8'; may be repeated",
      isRepeated: true),
    .init(
      "--calibration", "C",
      "what llvconv measure found on your data: rounding errors are weighed and made up for (GPTQ); or an importance "
        + "matrix of llama.cpp (GGUF): they are weighed alone"),
    .init(
      "--method", "search|weighted|gptq",
      "with --calibration: what is done with it (default gptq); with fold+ before it, columns are scaled against what feeds them"
    ),
    .init(
      "--views", "N",
      "views of a picture at most, the whole picture's included: N - 1 tiles beside it; 1 is the whole picture alone"),
    .init(
      "--pool-pictures", "2", "pool the features of pictures 2 x 2, as those of videos are: a quarter of the tokens"),
    .init("--no-fuse", nil, "leave the graph as it is"),
    .init("--dry-run", nil, "print size, bits per weight, memory, time and fallbacks; write nothing"), Command.force,
    Command.json,
    Command.threads,
  ] + Command.objectiveOptions,
  discussion: """
    Exact fusions come first (query, key and value as one product, constants folded, unused tensors dropped). Each group's
    scale is searched for the least squared error; no data is needed. Norms, biases and small tables stay as they are.
    With --calibration, weights of linear operations are quantized by GPTQ, which takes longer and loses less.
    --size, and --bits with a number between, give each weight what pays most, as llvconv plan does.
    --views and --pool-pictures trade fidelity for speed. They go with any of these; alone they leave weights and graph
    as they are.
    """
) { (arguments) throws(Failure) in
  let started = ContinuousClock.now
  let threads = try arguments.threads()
  let budget = try WeightBudget(arguments)
  guard !arguments.has("--method") || arguments.has("--calibration") else {
    throw Failure(.usage, "--method is for --calibration")
  }
  let quantization = try Quantization(arguments, method: try method(arguments))
  let source = quantization.source
  var (model, notes) = (source.model, [String]())
  var (recipe, layout): (QuantizeRecipe?, PictureLayout) = (nil, try PictureLayout(arguments))
  do throws(Failure) {
    switch budget {
    case .none: break
    case .uniform:
      try quantization.refuseQuantized(arguments.positionals[0])
      recipe = try quantizeRecipe(arguments)
    case .planned:
      if !arguments.has("--plan") { try quantization.refuseQuantized(arguments.positionals[0]) }
      let plan = try plan(arguments, quantization, threads: threads)
      recipe = plan.changesWeights ? plan.recipe : nil
      if !plan.layout.isEmpty {
        guard layout.isEmpty else {
          throw Failure(.usage, "--views and --pool-pictures are up to the plan, which says how pictures are laid out")
        }
        layout = plan.layout
      }
    }
    if let form = try arguments.choice("--attention", ["float", "8"]) {
      guard recipe != nil else { throw Failure(.usage, "--attention is for a plan that changes weights") }
      recipe?.attention = form == "8" ? .int8 : .float
    }
    model = try quantization.quantized(recipe, layout, notes: &notes)
  } catch { throw error.kind == .usage ? error : error.inFile(arguments.positionals[0]) }
  let summary = QuantizeSummary(before: source.model, after: model)
  if arguments.has("--dry-run") {
    try summary.printDry(notes, threads: threads, asJSON: arguments.has("--json"))
    return 0
  }
  guard let output = try arguments.output("-o") else {
    throw Failure(.usage, "quantize needs -o FILE, or --dry-run")
  }
  let writer = try ContainerWriter(output, usesPanels: true, threads: threads)
  let progress = Progress("quantizing", of: summary.bytesAfter)
  do throws(Failure) {
    try writer.writeData(model) { progress.show($0) }
  } catch { throw error.inFile(arguments.positionals[0]) }
  model.history.append(quantization.event(recipe, layout, writer.losses.map { ($0.name, $0.loss) }))
  try writer.finish(model, program: "llvconv \(Program.version)")
  try writer.commit()
  Progress.clear()
  Output.notes(notes)
  let elapsed = ContinuousClock.now - started
  summary.summarize(
    output.path, fileBytes: writer.byteCount, writer.losses.map(\.loss), elapsed, asJSON: arguments.has("--json"))
  Output.next("llvconv verify \(output.path) --reference \(arguments.positionals[0]) --data PAIRS.jsonl")
  return 0
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
    return plan
  }
  let input: Op.LinearInput = try arguments.choice("--activations", ["float", "8"]) == "8" ? .int8 : .float
  guard let budget = try Budget(bits: arguments["--bits"], size: arguments["--size"]) else {
    throw Failure(.internal, "no budget")
  }
  return try quantization.plan(try quantization.planner(arguments, input: input, threads: threads), budget)
}

private func quantizeRecipe(_ arguments: Arguments) throws(Failure) -> QuantizeRecipe {
  let bits = try arguments.choice("--bits", ["16", "8", "4"]) ?? "8"
  var text = bits
  if let group = arguments["--group"] { text += group == "channel" ? ":channel" : ":g\(group)" }
  let forms = ["--symmetric", "--affine", "--two-level"].filter(arguments.has)
  guard forms.count < 2 else { throw Failure(.usage, "\(forms.joined(separator: " and ")) exclude each other") }
  if bits == "16", arguments["--group"] != nil || !forms.isEmpty {
    throw Failure(.usage, "--group, --symmetric, --affine and --two-level are for --bits 8 and 4")
  }
  guard bits == "4" || forms.first != "--two-level" else { throw Failure(.usage, "--two-level is for --bits 4") }
  if let form = forms.first { text += ":\(form.dropFirst(2))" }
  guard let linear = WeightChoice(text) else {
    if forms.first == "--two-level" {
      throw Failure(.usage, "--two-level needs a --group that is a multiple of 8; found \(arguments["--group"] ?? "")")
    }
    throw Failure(
      .usage, "--group must be a whole number above 0, or channel; found \(Failure.quoted(arguments["--group"] ?? ""))")
  }
  let tableText = arguments["--table"] ?? (bits == "4" ? "8:channel" : linear.text)
  guard let table = WeightChoice(tableText) else {
    throw Failure(
      .usage,
      "--table must be keep, 16, or 8 or 4 with :gN, :channel, :affine, :symmetric or :two-level; found \(Failure.quoted(tableText))"
    )
  }
  let input = try arguments.choice("--activations", ["float", "16", "8"]) ?? "float"
  guard input == "float" || (input == "16") == (bits == "16") else {
    throw Failure(.usage, "--activations \(input) does not go with --bits \(bits): 16 with 16, 8 with 8 and 4")
  }
  var overrides: [(pattern: String, choice: WeightChoice)] = []
  for text in arguments.all("--tensor") {
    guard let equals = text.lastIndex(of: "="), let choice = WeightChoice(String(text[text.index(after: equals)...]))
    else {
      throw Failure(
        .usage, "--tensor must be PATTERN=CHOICE, like '*.dense.weight=8:g64'; found \(Failure.quoted(text))")
    }
    overrides.append((String(text[..<equals]), choice))
  }
  return QuantizeRecipe(
    linear: linear, table: table, input: input == "8" ? .int8 : input == "16" ? .bfloat16 : .float, overrides: overrides
  )
}

/// What quantizing changes, from names and shapes alone.
private struct QuantizeSummary {
  let before, after: Model
  let bytesBefore, bytesAfter: Int
  /// Elements and stored bits of the tensors that become integers.
  let weights, weightBits: Int

  init(before: Model, after: Model) {
    self.before = before
    self.after = after
    let unused = Set(before.unused)
    bytesBefore = before.tensors.filter { !unused.contains($0.name) }.reduce(0) { $0 + $1.byteCount }
    bytesAfter = after.tensors.reduce(0) { $0 + $1.byteCount }
    let quantized = after.tensors.filter { tensor in
      !tensor.encoding.isPlain || tensor.encoding == .plain(.BF16) && before[tensor.name]?.encoding != tensor.encoding
    }
    weights = quantized.reduce(0) { $0 + $1.count }
    weightBits = quantized.reduce(0) { $0 + $1.byteCount * 8 }
  }

  private var bitsPerWeight: Double { weights > 0 ? Double(weightBits) / Double(weights) : 0 }

  /// Why an average is what it is, where weights differ: bits of each encoding and how much of the weights it has.
  private var breakdown: String {
    var kinds: [String: (count: Int, bytes: Int)] = [:]
    for tensor in after.tensors where !tensor.encoding.isPlain {
      kinds[tensor.encoding.text, default: (0, 0)].count += tensor.count
      kinds[tensor.encoding.text, default: (0, 0)].bytes += tensor.byteCount
    }
    guard kinds.count > 1 else { return "" }
    let parts = kinds.sorted { ($1.value.count, $0.key) < ($0.value.count, $1.key) }.prefix(4).map { name, kind in
      "\((Double(kind.bytes * 8) / Double(kind.count)).fixed(2)) in \(kind.count * 100 / max(1, weights)) % (\(name))"
    }
    return " (\(parts.joined(separator: ", ")))"
  }

  func printDry(_ notes: [String], threads: Int, asJSON: Bool) throws(Failure) {
    let seconds = try estimate(threads: threads)
    let largest = after.tensors.map { $0.byteCount }.max() ?? 0
    let memory = largest + (64 << 20)
    if asJSON {
      Output.print([
        "bytes_before": .int(bytesBefore), "bytes_after": .int(bytesAfter), "bits_per_weight": .number(bitsPerWeight),
        "memory_bytes": .int(memory), "seconds": .number(seconds), "notes": .array(notes.map(JSONText.string)),
        "tensors": .array(
          after.tensors.map {
            ["name": .string($0.name.text), "encoding": .string($0.encoding.text), "bytes": .int($0.byteCount)]
          }),
      ])
      return
    }
    let width = after.tensors.map(\.name.text.count).max() ?? 0
    for tensor in after.tensors {
      Output.print(
        "\(tensor.name.text.padded(width))  \(String(describing: tensor.shape).padded(14))  \(tensor.encoding.text.padded(18))  \(Output.size(tensor.byteCount))"
      )
    }
    for note in Output.collapsed(notes) { Output.print("note: \(note)") }
    Output.print("")
    if let pictures = after.configuration.vision?.summary { Output.print("pictures         \(pictures)") }
    Output.print("tensors          \(Output.size(bytesBefore)) -> \(Output.size(bytesAfter))")
    Output.print("bits per weight  \(bitsPerWeight.fixed(2))\(breakdown) over \(weights) quantized weights")
    Output.print("memory           about \(Output.size(memory))")
    Output.print("time             about \(seconds.fixed(1)) s with \(threads) threads")
  }

  /// Measured on one quantized tensor of middling size, and scaled.
  private func estimate(threads: Int) throws(Failure) -> Double {
    let quantized = after.tensors.filter { if case .grouped = $0.encoding { true } else { false } }.sorted {
      $0.count < $1.count
    }
    guard let sample = quantized.isEmpty ? nil : quantized[quantized.count / 2] else { return 0 }
    let started = ContinuousClock.now
    _ = try sample.evaluate(threads: threads)
    let (seconds, attoseconds) = (ContinuousClock.now - started).components
    return (Double(seconds) + Double(attoseconds) / 1e18) * Double(weights) / Double(max(1, sample.count))
  }

  func summarize(_ path: String, fileBytes: Int, _ losses: [TensorLoss], _ elapsed: Duration, asJSON: Bool) {
    let clamped = losses.reduce(0) { $0 + $1.clamped }
    let vanished = losses.reduce(0) { $0 + $1.vanishedGroups }
    let worst = losses.map(\.relativeError).max() ?? 0
    let seconds = Double(elapsed.components.seconds) + Double(elapsed.components.attoseconds) / 1e18
    if asJSON {
      Output.print([
        "file": .string(path), "file_bytes": .int(fileBytes), "bytes_before": .int(bytesBefore),
        "bytes_after": .int(bytesAfter),
        "bits_per_weight": .number(bitsPerWeight), "largest_relative_error": .number(worst), "clamped": .int(clamped),
        "vanished_groups": .int(vanished), "seconds": .number(seconds),
      ])
      return
    }
    if after.configuration.vision != before.configuration.vision, let pictures = after.configuration.vision?.summary {
      Output.note("pictures: \(pictures)")
    }
    let weights =
      losses.isEmpty
      ? "weights as they were"
      : "\(bitsPerWeight.fixed(2)) bits per weight\(breakdown); weights' relative error at most "
        + "\((worst * 100).fixed(2)) %, \(clamped) clamped, \(vanished) groups vanished"
    Output.note("\(path): \(Output.size(fileBytes)), \(weights); \(seconds.fixed(1)) s")
  }
}
