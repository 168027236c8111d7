import Bytes
import Formats
import Inputs
import Synchronization
import Tensors

let importCommand = Command(
  name: "import",
  abstract: "Turns a checkpoint into an .llv container, losslessly.",
  positionals: ["SOURCE"],
  options: [
    Command.output, Command.force,
    .init(
      "--tokenizer", "FILE",
      "a tokenizer.json, or a GGUF file with tokenizer keys, in the place of the checkpoint's own"),
    .init("--mmproj", "FILE", "the GGUF file with the vision tower that goes with a GGUF text model"),
    .init("--adapter", "DIR", "a low-rank adapter of PEFT (LoRA), merged into the weights that it was trained for"),
    .init("--config", "FILE", "JSON whose members take the place of the checkpoint's own config.json's"),
    .init("--drop-unused", nil, "leave out tensors that no graph reads"), Command.threads,
  ],
  discussion: """
    SOURCE is a model directory as hubs lay it out (config.json, model.safetensors or its index, tokenizer files), a
    .safetensors file in such a directory, a *.index.json, or a GGUF file (any part of a split one). Docs/MODELS.md
    lists what is read: BERT and its kin, ModernBERT, Nomic BERT, Qwen, Llama, Mistral and Gemma as text embedders,
    SigLIP towers, and the LLaVE family (LLaVA-OneVision). inspect says whether a checkpoint can be imported. Every
    tensor keeps its name, type and bytes; the container records the SHA-256 of each source file.
    """
) { (arguments) throws(Failure) in
  var notes: [String] = []
  let output = try arguments.requiredOutput("-o")
  var checkpoint = try Checkpoint.open(
    arguments.positionals[0], projector: arguments["--mmproj"], config: arguments["--config"])
  if let adapter = arguments["--adapter"] { try checkpoint.merge(adapter: adapter) }
  let source = checkpoint
  var model = try Import.model(checkpoint, tokenizer: arguments["--tokenizer"], notes: &notes)
  try checkTokenizer(model, of: checkpoint)
  let unused = Set(model.unused)
  if arguments.has("--drop-unused") { model.removeTensors { unused.contains($0.name) } }
  let threads = try arguments.threads()
  let writer = try ContainerWriter(output, threads: threads)
  // SHA-256 takes about as long as copying: side by side they cost the time of one.
  let provenance = Mutex<JSONText>(.null)
  let box = WriterBox(writer)
  let frozen = model
  let total = frozen.tensors.reduce(0) { $0 + $1.byteCount }
  let progress = Progress("importing", of: total)
  try parallel(2, threads: min(2, threads)) { (task) throws(Failure) in
    if task == 0 {
      try box.writer.writeData(frozen) { progress.show($0) }
    } else {
      let value = try Import.provenance(source)
      provenance.withLock { $0 = value }
    }
  }
  model.history = [provenance.withLock { $0 }]
  try writer.finish(model, program: "llvconv \(Program.version)")
  try writer.commit()
  Progress.clear()
  Output.notes(notes)
  let kept =
    unused.isEmpty
    ? "" : arguments.has("--drop-unused") ? ", \(unused.count) unused dropped" : ", \(unused.count) of them unused"
  Output.note(
    "\(output.path): \(model.configuration.architecture), \(model.tensors.count) tensors\(kept), \(Output.size(writer.byteCount))"
  )
  let isQuantized = model.tensors.contains { !$0.encoding.isPlain }
  Output.next(
    isQuantized
      ? "llvconv verify \(output.path) --reference FULL.llv --data PAIRS.jsonl"
      : "llvconv quantize \(output.path) --bits 4 -o OUT.llv")
  return 0
}

/// Refuses a model whose texts could not be read, before it is written.
func checkTokenizer(_ model: Model, of checkpoint: Checkpoint) throws(Failure) {
  guard model.graph("text") != nil else { return }
  do throws(Failure) {
    _ = try Tokenizer.load { (name) throws(Failure) in try model.file(name) }
  } catch {
    // Without a tokenizer weights can still be quantized and compared.
    guard error.kind == .missing else { throw error.inFile(checkpoint.directory) }
  }
}

/// The writer is used by one task only; the other reads source files.
private struct WriterBox: @unchecked Sendable {
  let writer: ContainerWriter
  init(_ writer: ContainerWriter) { self.writer = writer }
}
