import Bytes
import Fidelity
import Inputs
import LLVConv
import Tensors

let embedCommand = Command(
  name: "embed",
  abstract: "Embeds items, one vector each, in order.",
  positionals: ["MODEL"],
  options: [
    .init("--input", "X.jsonl", "items to read (default: standard input)"),
    .init("--output", "Y.npy", "where to write: .npy or .jsonl (default: standard output, JSONL)"),
    .init("--prompt", "NAME", "one of the model's prompts, put before texts without an instruction"),
    .init("--batch", "N", "items read and embedded at a time, at most (default 256; 32 for a model of pictures)"),
    .init("--shard", "I/N", "embed every Nth line alone, from line I on, 0 to N - 1: all N shards have each line once"),
  ] + Command.formOptions + [
    .init("--ranges", "REF.npy", "of int8: the reference's vectors of documents, or their ranges (default: its own)"),
    .init("--tokens", nil, "give {\"id\", \"tokens\": [...]} instead: the token ids that the model sees"),
    .init("--keep-going", nil, "exit code 0 although items are bad"),
    .init("--fail-on-error", nil, "stop at the first bad item"),
    .init("--strict", nil, "an item with a key that is not known is bad"),
    Command.profile, Command.projector, Command.force, Command.dryRun,
  ] + Command.modelOptions,
  discussion: """
    MODEL is an .llv container, or what import takes: a model folder, a .safetensors or a GGUF file, imported in memory
    on the way.

    An item is a line {"id", "text", "images", "video", "instruction"}, or a text in quotes. Each gives a line {"id",
    "embedding": [...]} or, when it is bad, {"id", "error": {"code", "message"}}. The job goes on, and its exit code is
    then that of the first bad item. An output .npy (float32, [rows, width]) has no row for a bad item. Beside it
    OUTPUT.npy.ids says, a line a row, which items are there, by their id or as "line N". When the input pauses, what
    has come is embedded and written at once. An embedding does not depend on the other items or on the number of
    threads.

    Images are JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF files. A video is MP4, QuickTime, Matroska, WebM, AVI, MPEG, Ogg,
    FLV, ASF or GIF. Paths start at the folder of the input file. A text says with <image> where each picture stands. An
    item without text gets MMEB's words.

    A dry run reads and checks all items, pictures and videos included, and does not run the model. The size that it
    says of a .jsonl file is about right, that of a .npy file exact.
    """,
  examples: [
    "llvconv embed llave-4bit.llv --input items.jsonl --output vectors.npy",
    #"echo '"a red fox"' | llvconv embed llave-4bit.llv"#,
  ]
) { (arguments) throws(Failure) in
  let batch = try arguments.integer("--batch", in: 1...100_000)
  guard !(arguments.has("--keep-going") && arguments.has("--fail-on-error")) else {
    throw Failure(.usage, "--keep-going does not go with --fail-on-error")
  }
  let shard = try arguments["--shard"].map(Shard.init) ?? .all
  let model = try LoadedModel(
    ModelFile(arguments.positionals[0], projector: arguments["--mmproj"]), try .init(arguments))
  try model.check(prompt: arguments["--prompt"])
  let source = try LineSource(arguments["--input"])
  let form = try arguments.vectorForm()
  let ranges = try arguments["--ranges"].map { (path) throws(Failure) in
    try ColumnRanges(numPy: path, width: form.width)
  }
  guard ranges == nil || form.precision == .int8 else { throw Failure(.usage, "--ranges are for --precision int8") }
  let sink = try VectorSink(
    arguments["--output"], width: model.embedder.width, form: form, ranges: ranges,
    isReplacing: arguments.has("--force"))
  guard !(arguments.has("--tokens") && sink.isNumPy) else {
    throw Failure(.usage, "--tokens gives JSONL, not .npy")
  }
  var job = EmbedJob(
    model: model, prompt: arguments["--prompt"], folder: directory(of: arguments["--input"] ?? ""),
    stopsAtError: arguments.has("--fail-on-error"), isTokensOnly: arguments.has("--tokens"),
    refusal: sink.refusal, keys: KeyRule(isStrict: arguments.has("--strict")))
  let progress = Progress("embedding", of: source.byteCount)
  while let lines = try source.next((batch ?? min(256, model.itemsPerChunk)) * shard.count) {
    for row in try job.embed(lines.filter { shard.has(line: $0.number) }) { try sink.write(row) }
    try sink.flush()
    progress.show(source.bytesRead)
  }
  try sink.finish()
  Progress.clear()
  model.complain(ofCuts: job.cut, of: job.items)
  job.keys.complain(of: arguments["--input"] ?? "standard input")
  if sink.isNumPy, let path = arguments["--output"] {
    Output.next("for another encoder: llvconv compare --index \(path) --queries NEW.npy --reference-queries OLD.npy")
  }
  guard let first = job.bad.first else { return 0 }
  if sink.isNumPy {
    Output.note("note: \(job.bad.count) of \(job.items) items were bad and have no row:")
    for row in job.bad.prefix(10) { Output.note("  \(row.description)") }
    if job.bad.count > 10 { Output.note("  and \(job.bad.count - 10) more") }
  } else {
    Output.note("note: \(job.bad.count) of \(job.items) items were bad; their rows say why")
  }
  return arguments.has("--keep-going") ? 0 : first.exitCode
}

/// A part of the input's lines: those whose number, counted from 0, is `place` when divided by `count`.
private struct Shard {
  let place, count: Int
  static let all = Shard(place: 0, count: 1)

  private init(place: Int, count: Int) { (self.place, self.count) = (place, count) }

  init(_ text: String) throws(Failure) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false).map { Int($0) }
    guard parts.count == 2, let place = parts[0], let count = parts[1], (1...100_000).contains(count),
      (0..<count).contains(place)
    else { throw Failure(.usage, "--shard must be I/N, like 0/8 to 7/8; found \(Failure.quoted(text))") }
    self.init(place: place, count: count)
  }

  func has(line number: Int) -> Bool { (number - 1) % count == place }
}

private struct EmbedJob {
  let model: LoadedModel
  let prompt: String?
  let folder: String
  let stopsAtError: Bool
  let isTokensOnly: Bool
  /// What keeps an item with an id out of the output.
  let refusal: (String?) -> Failure?
  var keys: KeyRule
  var items = 0
  var cut = 0
  var bad: [Failure] = []

  mutating func embed(_ lines: [(number: Int, bytes: [UInt8])]) throws(Failure) -> [EmbeddedRow] {
    var rows: [EmbeddedRow] = []
    var good: [(row: Int, item: Item)] = []
    for line in lines {
      items += 1
      var row = EmbeddedRow(line: line.number, result: .tokens([]))
      do throws(Failure) {
        let json = try JSON.parse(line.bytes, what: "line \(line.number)")
        row.id = try json.optional("id").map { (value) throws(Failure) in try Item.identifier(value) }
        good.append((rows.count, try item(json, row.id)))
      } catch { row.result = .failure(error) }
      rows.append(row)
    }
    if isTokensOnly || DryRun.isOn {
      for (place, built) in zip(good, model.samples(good.map(\.item), prompt: prompt, folder: folder)) {
        switch built {
        case .failure(let failure): rows[place.row].result = .failure(failure)
        case .success(let built):
          rows[place.row].result = isTokensOnly ? .tokens(built.sample.ids) : .embedding(standIn)
          cut += built.cut > 0 ? 1 : 0
        }
      }
    } else {
      let embedded = try model.embed(good.map(\.item), prompt: prompt, folder: folder)
      for (place, value) in zip(good, embedded) {
        cut += value.cut > 0 ? 1 : 0
        switch value.finite {
        case .success(let vector): rows[place.row].result = .embedding(vector[...])
        case .failure(let failure): rows[place.row].result = .failure(failure)
        }
      }
    }
    for row in rows {
      guard case .failure(let failure) = row.result else { continue }
      if stopsAtError { throw failure }
      bad.append(failure.about(row.id.map { "item \(Failure.quoted($0))" } ?? "line \(row.line)"))
    }
    return rows
  }

  /// As wide as a vector of the model, and about as long as one in JSON.
  private var standIn: ArraySlice<Float> { [Float](repeating: -0.012_345_678, count: model.embedder.width)[...] }

  private mutating func item(_ json: JSON, _ id: String?) throws(Failure) -> Item {
    defer { keys.endLine() }
    if let refusal = refusal(id) { throw refusal }
    return try Item(embedding: json, &keys)
  }
}
