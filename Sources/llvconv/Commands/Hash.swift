import Bytes
import Formats
import LLVConv
import Tensors

let hashCommand = Command(
  name: "hash",
  abstract: "Prints hashes of weights that do not depend on the file's format.",
  positionals: ["FILE"],
  options: [
    .init("--mmproj", "FILE", "the GGUF file with the vision tower that belongs to a GGUF text model"), Command.json,
    Command.threads,
  ],
  discussion: """
    A tensor's hash is the SHA-256 of its shape and its values as Float32, whatever they are stored as. BF16 in
    safetensors, in GGUF and in a container agree, and so does a quantized tensor with its decoded values. The last line
    is the SHA-256 of all lines of tensors that an embedding reads, sorted by name. FILE is anything that import or
    inspect reads.
    """,
  examples: ["llvconv hash llave.gguf --mmproj llave-mmproj.gguf"]
) { (arguments) throws(Failure) in
  let threads = try arguments.threads()
  let subject = try NamedTensors(arguments.positionals[0], projector: arguments["--mmproj"])
  Output.notes(subject.notes)
  let progress = Progress("hashing", of: subject.tensors.reduce(0) { $0 + $1.count })
  var lines: [(name: TensorName, hash: String)] = []
  var done = 0
  for tensor in subject.tensors.sorted(by: { $0.name < $1.name }) {
    lines.append((tensor.name, try tensor.contentHash(threads: threads)))
    done += tensor.count
    progress.show(done)
  }
  Progress.clear()
  var whole = SHA256()
  for line in lines where !subject.unused.contains(line.name) { whole.update("\(line.hash)  \(line.name.text)\n") }
  let digest = whole.text()
  if arguments.has("--json") {
    Output.print([
      "file": .string(subject.path), "model": .string(digest),
      "tensors": .object(lines.map { ($0.name.text, .string($0.hash)) }),
      "unused": .array(subject.unused.sorted().map { .string($0.text) }),
    ])
    return 0
  }
  for line in lines {
    Output.print("\(line.hash)  \(line.name.text)\(subject.unused.contains(line.name) ? "  (unused)" : "")")
  }
  Output.print("\(digest)  model")
  return 0
}

extension Tensor {
  /// SHA-256 over the shape as text, then the values as little-endian Float32; the bytes themselves for types that no
  /// weight has.
  fileprivate func contentHash(threads: Int) throws(Failure) -> String {
    var hash = SHA256()
    hash.update(shape.map(String.init).joined(separator: "x") + "\n")
    if case .plain(let type) = encoding, !type.isWeight {
      try load(threads: threads).withBytes { hash.update($0) }
    } else {
      // One thread: a hash takes the values in order.
      let reader = try rowReader(threads: threads)
      let step = max(1, (1 << 18) / max(1, columns))
      let memory = try Buffer(count: min(step, rows) * columns * 4)
      for start in stride(from: 0, to: count > 0 ? rows : 0, by: step) {
        let span = start..<min(rows, start + step)
        try memory.with(Float.self) { (values) throws(Failure) in
          guard let target = values.baseAddress else { return }
          try reader.read(span, into: target)
          hash.update(UnsafeRawBufferPointer(start: target, count: span.count * columns * 4))
        }
      }
      try reader.finish(isComplete: true)
    }
    return hash.text()
  }
}
