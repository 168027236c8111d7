import Bytes
import Formats
import Inputs
import Tensors

/// A checkpoint on its way to a container: what `import` does.
package struct ImportJob {
  private let arguments: Arguments

  package init(_ arguments: Arguments) { self.arguments = arguments }

  package struct Result {
    package let path: String
    package let model: Model
    package let bytes: Int
    package let notes: [String]
    /// Tensors that no graph reads.
    package let unused: Int
    package let dropsUnused: Bool
  }

  /// Writes the container, whole or not at all.
  package func run() throws(Failure) -> Result {
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
    let provenance = Lock<JSONText>(.null)
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
    try writer.finish(model, program: Release.program)
    try writer.commit()
    Progress.clear()
    return Result(
      path: output.path, model: model, bytes: writer.byteCount, notes: notes, unused: unused.count,
      dropsUnused: arguments.has("--drop-unused"))
  }
}

/// Refuses a model whose texts could not be read, before it is written.
package func checkTokenizer(_ model: Model, of checkpoint: Checkpoint) throws(Failure) {
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
