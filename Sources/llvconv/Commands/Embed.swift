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
    .init("--fail-on-error", nil, "stop at the first bad item"), Command.profile, Command.force,
  ] + Command.modelOptions,
  discussion: """
    An item is a line {"id", "text", "images", "video", "instruction"}. Each gives a line {"id", "embedding": [...]} or,
    when it is bad, {"id", "error": {"code", "message"}}; the job goes on. In .npy output (float32, [items, width]) the
    row of a bad item is NaN. An embedding does not depend on the other items or on the number of threads.
    Images are JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF files; a video is MP4, QuickTime, Matroska, WebM, AVI, MPEG, Ogg,
    FLV, ASF or GIF. Paths start at the folder of the input file. A text says with
    <image> where each picture stands; an item without text gets MMEB's words.
    """
) { (arguments) throws(Failure) in
  let model = try LoadedModel(arguments.positionals[0], try .init(arguments))
  try model.check(prompt: arguments["--prompt"])
  let source = try LineSource(arguments["--input"])
  let sink = try VectorSink(arguments["--output"], width: model.embedder.width, isReplacing: arguments.has("--force"))
  guard !(arguments.has("--tokens") && arguments["--output"]?.hasSuffix(".npy") ?? false) else {
    throw Failure(.usage, "--tokens gives JSONL, not .npy")
  }
  var job = EmbedJob(
    model: model, prompt: arguments["--prompt"], folder: directory(of: arguments["--input"] ?? ""),
    stopsAtError: arguments.has("--fail-on-error"), isTokensOnly: arguments.has("--tokens"))
  let progress = Progress("embedding", of: source.byteCount)
  while let lines = try source.next(256) {
    for row in try job.embed(lines) { try sink.write(row) }
    try sink.flush()
    progress.show(source.bytesRead)
  }
  try sink.finish()
  Progress.clear()
  model.complain(ofCuts: job.cut, of: job.items)
  if job.bad > 0 { Output.complain("note: \(job.bad) of \(job.items) items were bad; their rows say why") }
  return 0
}

private struct EmbedJob {
  let model: LoadedModel
  let prompt: String?
  let folder: String
  let stopsAtError: Bool
  let isTokensOnly: Bool
  var items = 0
  var cut = 0
  var bad = 0

  mutating func embed(_ lines: [(number: Int, bytes: [UInt8])]) throws(Failure) -> [EmbeddedRow] {
    var rows: [EmbeddedRow] = []
    var good: [(row: Int, item: Item)] = []
    for line in lines {
      items += 1
      var row = EmbeddedRow(id: nil, result: .tokens([]))
      do throws(Failure) {
        let json = try JSON.parse(line.bytes, what: "line \(line.number)")
        row.id = try json.optional("id").map { (value) throws(Failure) in
          value.kind == .number ? String(try value.integer("id", in: .min ... .max)) : try value.string("id")
        }
        good.append((rows.count, try Item(json)))
      } catch { row.result = .failure(error) }
      rows.append(row)
    }
    if isTokensOnly {
      for (place, built) in zip(good, model.samples(good.map(\.item), prompt: prompt, folder: folder)) {
        switch built {
        case .failure(let failure): rows[place.row].result = .failure(failure)
        case .success(let built):
          rows[place.row].result = .tokens(built.sample.ids)
          cut += built.cut > 0 ? 1 : 0
        }
      }
    } else {
      let embedded = try model.embed(good.map(\.item), prompt: prompt, folder: folder)
      for (place, value) in zip(good, embedded) {
        cut += value.cut > 0 ? 1 : 0
        switch value.result {
        case .failure(let failure): rows[place.row].result = .failure(failure)
        case .success(let vector): rows[place.row].result = .embedding(vector[...])
        }
      }
    }
    for row in rows {
      guard case .failure(let failure) = row.result else { continue }
      if stopsAtError { throw failure }
      bad += 1
    }
    return rows
  }
}
