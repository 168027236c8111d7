import Bytes
import Glibc
import Inputs
import Tensors

let embedCommand = Command(
  name: "embed",
  abstract: "Embeds items, one vector each, in order.",
  positionals: ["MODEL.llv"],
  options: [
    .init("--input", "X.jsonl", "items to read (default: standard input)"),
    .init("--output", "Y", "where to write: .jsonl or .npy (default: standard output, JSONL)"),
    .init("--prompt", "NAME", "one of the model's prompts, put before texts without an instruction"),
    .init("--tokens", nil, "give {\"id\", \"tokens\": [...]} instead: the token ids that the model sees"),
    .init("--fail-on-error", nil, "stop at the first bad item"), Command.force, Command.threads,
  ],
  discussion: """
    An item is a line {"id", "text", "images", "video", "instruction"}. Each gives a line {"id", "embedding": [...]} or,
    when it is bad, {"id", "error": {"code", "message"}}; the job goes on. In .npy output (float32, [items, width]) the
    row of a bad item is NaN. An embedding does not depend on the other items or on the number of threads.
    """
) { (arguments) throws(Failure) in
  let model = try LoadedModel(arguments.positionals[0], threads: try arguments.threads())
  try model.check(prompt: arguments["--prompt"])
  let source = try LineSource(arguments["--input"])
  let sink = try VectorSink(arguments["--output"], width: model.embedder.width, isReplacing: arguments.has("--force"))
  guard !(arguments.has("--tokens") && arguments["--output"]?.hasSuffix(".npy") ?? false) else {
    throw Failure(.usage, "--tokens gives JSONL, not .npy")
  }
  var job = EmbedJob(
    model: model, prompt: arguments["--prompt"], stopsAtError: arguments.has("--fail-on-error"),
    isTokensOnly: arguments.has("--tokens"))
  let progress = Progress("embedding", of: source.byteCount)
  while let lines = try source.next(256) {
    for row in try job.embed(lines) { try sink.write(row) }
    try sink.flush()
    progress.show(source.bytesRead)
  }
  try sink.finish()
  Progress.clear()
  if job.cut > 0 { Output.complain("note: \(job.cut) of \(job.items) items were longer than \(model.configuration.maximumTokens) tokens and were cut") }
  if job.bad > 0 { Output.complain("note: \(job.bad) of \(job.items) items were bad; their rows say why") }
  return 0
}

/// One row of the result.
private struct EmbeddedRow {
  enum Result {
    case embedding(ArraySlice<Float>)
    case tokens([Int32])
    case failure(Failure)
  }

  var id: String?
  var result: Result
}

private struct EmbedJob {
  let model: LoadedModel
  let prompt: String?
  let stopsAtError: Bool
  let isTokensOnly: Bool
  var items = 0
  var cut = 0
  var bad = 0

  mutating func embed(_ lines: [(number: Int, bytes: [UInt8])]) throws(Failure) -> [EmbeddedRow] {
    var rows: [EmbeddedRow] = []
    var lists: [[Int32]] = []
    for line in lines {
      items += 1
      var id: String?
      do throws(Failure) {
        let json = try JSON.parse(line.bytes, what: "line \(line.number)")
        id = try json.optional("id").map { (value) throws(Failure) in
          value.kind == .number ? String(try value.integer("id", in: .min ... .max)) : try value.string("id")
        }
        let encoding = try model.encode(try Item(json), prompt: prompt)
        if encoding.cut > 0 { cut += 1 }
        lists.append(encoding.ids)
        rows.append(EmbeddedRow(id: id, result: .tokens(encoding.ids)))
      } catch {
        if stopsAtError { throw error }
        bad += 1
        rows.append(EmbeddedRow(id: id, result: .failure(error)))
      }
    }
    if isTokensOnly { return rows }
    let vectors = try model.embedder.embed(lists)
    var next = 0
    for index in rows.indices {
      guard case .tokens = rows[index].result else { continue }
      rows[index].result = .embedding(vectors[next * model.embedder.width..<(next + 1) * model.embedder.width])
      next += 1
    }
    return rows
  }
}

/// Lines of a file or of standard input, a batch at a time, in bounded memory.
private final class LineSource {
  private let descriptor: Int32
  private var pending: [UInt8] = []
  private var isAtEnd = false
  private var number = 0
  private(set) var bytesRead = 0
  /// Size of the input, 0 when it is not known.
  let byteCount: Int
  private let name: String

  init(_ path: String?) throws(Failure) {
    name = path ?? "standard input"
    guard let path, path != "-" else {
      descriptor = 0
      byteCount = 0
      return
    }
    byteCount = try InputFile(path).count
    descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw Failure(.missing, "cannot be opened", file: path) }
  }

  deinit { if descriptor > 0 { close(descriptor) } }

  /// Up to `most` lines that are not blank; nil at the end.
  func next(_ most: Int) throws(Failure) -> [(number: Int, bytes: [UInt8])]? {
    var lines: [(number: Int, bytes: [UInt8])] = []
    var start = 0
    while lines.count < most {
      guard let end = pending[start...].firstIndex(of: UInt8(ascii: "\n")) else {
        pending.removeFirst(start)
        start = 0
        if try !fill() {
          if !pending.isEmpty { take(pending[...], &lines) }
          pending = []
          break
        }
        continue
      }
      take(pending[start..<end], &lines)
      start = end + 1
    }
    pending.removeFirst(start)
    return lines.isEmpty ? nil : lines
  }

  private func take(_ line: ArraySlice<UInt8>, _ lines: inout [(number: Int, bytes: [UInt8])]) {
    number += 1
    if !line.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0D }) { lines.append((number, Array(line))) }
  }

  private func fill() throws(Failure) -> Bool {
    guard !isAtEnd else { return false }
    guard pending.count <= Limits.itemLine else {
      throw Failure(.limit, "line longer than \(Limits.itemLine) bytes", file: name, place: "line \(number + 1)")
    }
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    var got = read(descriptor, &chunk, chunk.count)
    while got < 0 && errno == EINTR { got = read(descriptor, &chunk, chunk.count) }
    guard got >= 0 else { throw Failure(.io, "reading failed", file: name) }
    isAtEnd = got == 0
    pending += chunk[..<got]
    bytesRead += got
    return got > 0
  }
}

/// Where rows go: standard output or a file that appears when it is complete, as JSONL or NumPy's `.npy` version 1.
private final class VectorSink {
  private let file: OutputFile?
  private let isNumPy: Bool
  private let width: Int
  private var rows = 0
  private var pending: [UInt8] = []
  private static let headerCount = 128

  init(_ path: String?, width: Int, isReplacing: Bool) throws(Failure) {
    self.width = width
    isNumPy = path?.hasSuffix(".npy") ?? false
    guard let path, path != "-" else {
      file = nil
      return
    }
    guard isNumPy || path.hasSuffix(".jsonl") || path.hasSuffix(".json") else {
      throw Failure(.usage, "the name of --output must end in .jsonl or .npy; found \(Failure.quoted(path))")
    }
    file = try OutputFile(path, isReplacing: isReplacing)
    if isNumPy { try file?.write([UInt8](repeating: 0, count: VectorSink.headerCount)) }
  }

  func write(_ row: EmbeddedRow) throws(Failure) {
    rows += 1
    if isNumPy {
      let values: [Float] =
        if case .embedding(let vector) = row.result { Array(vector) } else { [Float](repeating: .nan, count: width) }
      values.withUnsafeBytes { pending += $0 }
      return
    }
    var line = "{\"id\":\(row.id.map { JSONText.string($0).text() } ?? "null"),"
    switch row.result {
    case .tokens(let ids): line += "\"tokens\":[" + ids.map(String.init).joined(separator: ",") + "]}\n"
    case .embedding(let vector):
      line += "\"embedding\":[" + vector.map { $0.isFinite ? $0.description : "null" }.joined(separator: ",") + "]}\n"
    case .failure(let failure):
      let error: JSONText = ["code": .string(failure.kind.rawValue), "message": .string(failure.description)]
      line += "\"error\":\(error.text())}\n"
    }
    pending += line.utf8
  }

  func flush() throws(Failure) {
    if let file { try file.write(pending) } else { Output.write(pending, to: 1) }
    pending.removeAll(keepingCapacity: true)
  }

  func finish() throws(Failure) {
    if isNumPy, let file {
      let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (\(rows), \(width)), }"
      let room = VectorSink.headerCount - 10
      let header = [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(room & 255), UInt8(room >> 8)]
      try file.overwrite(header + Array((text.padded(room - 1) + "\n").utf8), at: 0)
    }
    try file?.commit()
  }
}
