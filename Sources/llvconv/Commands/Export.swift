import Bytes
import Formats
import LLVConv
import Passes
import Tensors

let exportCommand = Command(
  name: "export",
  abstract: "Writes a model as files that other programs load.",
  positionals: ["MODEL"],
  options: [
    .init("-o", "PATH", "where to write; appears whole or not at all", isRequired: true),
    .init("--to", "gguf|hf|safetensors|compressed-tensors|mlx", "the format", isRequired: true),
    .init(
      "--type", "TYPE",
      "type of the weights (default: as they are): F32 F16 BF16, and for GGUF \(GGUFExport.blockTypes)"),
    .init("--table", "TYPE", "GGUF: type of the token table (default: as --type, but no less than Q8_0)"),
    .init(
      "--weights", "CHOICE",
      "for weights that are not quantized yet: of compressed-tensors W4A16 (default), W4A16_ASYM, W8A16, W8A8, W4A8; "
        + "of mlx 4:g64:affine (default); or as quantize --weights has them"),
    .init("--tower", nil, "quantize the vision tower and projector too, which --weights leaves alone"),
    .init("--split", "MIB", "several files of about this size (default: one GGUF file; safetensors of 5 GB)"),
    .init(
      "--names", "disk|memory",
      "hf: as transformers writes (default), or as its modules are called since 4.52"),
    Command.force, Command.dryRun, Command.threads,
  ],
  discussion: """
    MODEL is a container that import or quantize wrote. What quantize fused is taken apart again, codes as they are. A
    LLaVE model makes two GGUF files, NAME.gguf for text and NAME-mmproj.gguf for pictures.
    """,
  examples: [
    "llvconv export llave-gguf.llv --to gguf -o llave.gguf",
    "llvconv export bert-w4a16.llv --to compressed-tensors -o bert-w4a16/",
  ]
) { (arguments) throws(Failure) in
  let format = try arguments.required("--to")
  try refuseIdle(arguments, format)
  let path = try arguments.required("-o")
  try arguments.refuseInput(at: path, of: "-o")
  let threads = try arguments.threads()
  let split = try arguments.integer("--split", in: 1...1 << 40).map { $0 << 20 }
  var model = try checkpointModel(
    arguments.positionals[0], format, isPadded: format == "gguf" && arguments.has("--type"))
  switch format {
  case "gguf":
    let options = GGUFExport.Options(
      type: arguments["--type"], table: arguments["--table"], split: split)
    let export = try GGUFExport(model, path: path, options)
    Output.notes(export.notes)
    let files = try export.files()
    let progress = Progress("exporting", of: files.reduce(0) { $0 + $1.bytes })
    let losses = try export.write(isReplacing: arguments.has("--force"), threads: threads) { progress.show($0) }
    Progress.clear()
    let types = export.types.map { "\($0.tensors) \($0.name)" }.joined(separator: ", ")
    for file in files { Output.note("\(file.path): \(Output.size(file.bytes))") }
    Output.note("tensors: \(types)\(Output.worst(losses))")
  case "hf", "safetensors":
    let names = arguments["--names"] ?? "disk"
    guard ["disk", "memory"].contains(names) else { throw Failure(.usage, "--names must be disk or memory") }
    let type = try arguments["--type"].map { (name) throws(Failure) -> DType in
      guard let type = DType(rawValue: name), [.F32, .F16, .BF16].contains(type) else {
        throw Failure(.usage, "type \(Failure.quoted(name)) is not written; F32, F16 and BF16 are")
      }
      return type
    }
    let layout: CheckpointExport.Layout = format == "hf" ? .transformers(inMemory: names == "memory") : .own
    try write(try CheckpointExport(model, layout, type: type), path, split, threads)
  case "compressed-tensors", "mlx":
    let kind: QuantizedLayout = format == "mlx" ? .mlx : .compressedTensors
    if !model.tensors.contains(where: { if case .grouped = $0.encoding { true } else { false } })
      || arguments["--weights"] != nil
    {
      var notes: [String] = []
      try Pass.run([.quantize(try weightRecipe(arguments, model, kind))], on: &model, notes: &notes)
      Output.notes(notes)
    }
    try write(try CheckpointExport(model, .quantized(kind)), path, split, threads)
  default:
    throw Failure(
      .usage, "--to \(Failure.quoted(format)) is not written; gguf, hf, safetensors, compressed-tensors and mlx are")
  }
  Output.next("llvconv diff \(arguments.positionals[0]) \(path); Docs/how-to says how other programs load it")
  return 0
}

/// The container's model with what passes fused undone.
///
/// - Parameter isPadded: whether rows are filled up to whole blocks: 4,304 columns are no multiple of 32.
private func checkpointModel(_ path: String, _ format: String, isPadded: Bool) throws(Failure) -> Model {
  var (model, notes, ignored) = (try Container.open(path).model, [String](), [String]())
  do throws(Failure) {
    if isPadded { try Pass.run([.padWidths, .dropUnused], on: &model, notes: &ignored) }
    // Blocks of 32 need the rows that were filled up.
    let unfuse = Pass.unfuse(pixels: try Family.pixels(of: model), keepsPadding: format == "gguf")
    try Pass.run([unfuse], on: &model, notes: &notes)
    try Family(model).refuseForeignBiases(model, format: format)
  } catch { throw error.inFile(path) }
  Output.notes(notes)
  return model
}

/// Options that mean nothing for a format would be ignored in silence.
private func refuseIdle(_ arguments: Arguments, _ format: String) throws(Failure) {
  let formats = [
    "--type": ["gguf", "hf", "safetensors"], "--table": ["gguf"], "--names": ["hf"],
    "--weights": ["compressed-tensors", "mlx"], "--tower": ["compressed-tensors", "mlx"], "--force": ["gguf"],
  ]
  for (option, meant) in formats.sorted(by: { $0.key < $1.key }) where arguments.has(option) && !meant.contains(format)
  {
    throw Failure(.usage, "\(option) means nothing for --to \(format); it does for \(meant.joined(separator: ", "))")
  }
}

private func write(_ export: CheckpointExport, _ path: String, _ split: Int?, _ threads: Int) throws(Failure) {
  Output.notes(export.notes)
  let progress = Progress("exporting", of: export.byteCount)
  try export.write(path, shard: split, threads: threads) { progress.show($0) }
  Progress.clear()
  Output.note("\(path): \(Output.size(export.byteCount))")
}

/// What --weights means for a model that is not quantized yet.
private func weightRecipe(
  _ arguments: Arguments, _ model: Model, _ kind: QuantizedLayout
) throws(Failure) -> QuantizeRecipe {
  let name = arguments["--weights"] ?? (kind == .mlx ? "4:g64:affine" : "W4A16")
  let scheme = kind == .compressedTensors ? CompressedScheme.named(name) : nil
  guard let choice = scheme?.choice ?? WeightChoice(name) else {
    throw Failure(
      .usage,
      "--weights must be one of \(CompressedScheme.names.joined(separator: ", ")), or \(WeightChoice.grammar); "
        + "found \(Failure.quoted(name))")
  }
  var overrides = model.sharedWeights.sorted().map { (pattern: $0.text, choice: WeightChoice.keep) }
  if !arguments.has("--tower") {
    // Kernels of other programs want widths that 1152 and 4304 are not.
    for node in ["vision", "projector"].compactMap({ model.graph($0) }).flatMap(\.nodes) {
      guard case .linear = node.op, case .tensor(let name) = node.inputs[1] else { continue }
      overrides.append((name.text, .keep))
    }
  }
  return QuantizeRecipe(
    linear: choice, table: .keep, input: scheme?.roundsInputs ?? false ? .int8 : .float, overrides: overrides)
}

extension Output {
  /// The tensor that lost most, for a summary; nothing when none lost anything.
  fileprivate static func worst(_ losses: [(name: String, loss: TensorLoss)]) -> String {
    guard let worst = losses.max(by: { $0.loss.relativeError < $1.loss.relativeError }) else { return "" }
    let mean = losses.reduce(0) { $0 + $1.loss.relativeError } / Double(losses.count)
    return "; relative error \(mean.fixed(4)) on average, most \(worst.loss.relativeError.fixed(4)) in \(worst.name)"
  }
}
