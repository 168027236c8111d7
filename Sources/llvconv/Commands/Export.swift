import Bytes
import Formats
import Passes
import Tensors

let exportCommand = Command(
  name: "export",
  abstract: "Writes a model as files that other programs load.",
  positionals: ["MODEL"],
  options: [
    .init("-o", "PATH", "where to write; appears whole or not at all", isRequired: true),
    .init("--to", "FORMAT", "gguf, hf, safetensors", isRequired: true),
    .init("--type", "TYPE", "type of the weights (default: as they are): F32 F16 BF16, and for GGUF \(GGUFExport.blockTypes)"),
    .init("--table", "TYPE", "GGUF: type of the token table (default: as --type, but no less than Q8_0)"),
    .init("--split", "MIB", "several files of about this size (default: one GGUF file; safetensors of 5 GB)"),
    .init("--names", "KIND", "hf: disk (as transformers writes, default) or memory (as its modules are called since 4.52)"),
    Command.force, Command.threads,
  ],
  discussion: """
    MODEL is a container that import wrote, or one that quantize --no-fuse wrote: other programs know no fused operations.
    A LLaVE model makes two GGUF files, NAME.gguf for text and NAME-mmproj.gguf for pictures.
    """
) { (arguments) throws(Failure) in
  let format = try arguments.required("--to")
  let path = try arguments.required("-o")
  let threads = try arguments.threads()
  let split = try arguments.integer("--split", in: 1...1 << 40).map { $0 << 20 }
  var model = try Container.open(arguments.positionals[0]).model
  switch format {
  case "gguf":
    let options = GGUFExport.Options(
      type: arguments["--type"], table: arguments["--table"], split: split)
    // Blocks need whole rows: 4,304 columns are no multiple of 32.
    var ignored: [String] = []
    if options.type != nil { try Pass.run([.padWidths, .dropUnused], on: &model, notes: &ignored) }
    let export = try GGUFExport(model, path: path, options)
    for note in export.notes { Output.complain("note: \(note)") }
    let files = try export.files()
    let progress = Progress("exporting", of: files.reduce(0) { $0 + $1.bytes })
    let losses = try export.write(isReplacing: arguments.has("--force"), threads: threads) { progress.show($0) }
    Progress.clear()
    let types = export.types.map { "\($0.tensors) \($0.name)" }.joined(separator: ", ")
    for file in files { Output.complain("\(file.path): \(Output.size(file.bytes))") }
    Output.complain("tensors: \(types)\(Output.worst(losses))")
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
    let export = try CheckpointExport(model, layout, type: type)
    for note in export.notes { Output.complain("note: \(note)") }
    let progress = Progress("exporting", of: export.byteCount)
    try export.write(path, shard: split, threads: threads) { progress.show($0) }
    Progress.clear()
    Output.complain("\(path): \(Output.size(export.byteCount))")
  default:
    throw Failure(.usage, "--to \(Failure.quoted(format)) is not written; gguf, hf and safetensors are")
  }
  return 0
}

extension Output {
  /// The tensor that lost most, for a summary; nothing when none lost anything.
  fileprivate static func worst(_ losses: [(name: String, loss: TensorLoss)]) -> String {
    guard let worst = losses.max(by: { $0.loss.relativeError < $1.loss.relativeError }) else { return "" }
    let mean = losses.reduce(0) { $0 + $1.loss.relativeError } / Double(losses.count)
    return "; relative error \(mean.fixed(4)) on average, most \(worst.loss.relativeError.fixed(4)) in \(worst.name)"
  }
}
