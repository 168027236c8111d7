import Bytes
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
  if job.cut > 0 {
    Output.complain(
      "note: \(job.cut) of \(job.items) items were longer than \(model.configuration.maximumTokens) tokens and were cut"
    )
  }
  if job.bad > 0 { Output.complain("note: \(job.bad) of \(job.items) items were bad; their rows say why") }
  return 0
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
