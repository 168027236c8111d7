import Bytes
import Calibration
import Fidelity
import Formats
import LLVConv
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
    Command.target,
    .init(
      "--weights", "CHOICE",
      "in the place of --bits: one choice for all, as --tensor has them; with --for gguf one of its types, like Q4_K; with --for compressed-tensors also W4A16, W4A16_ASYM, W8A16, W8A8, W4A8"
    ),
    .init("--tower", nil, "with --for compressed-tensors: the vision tower and projector too"),
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
      "what attention is computed with: 8-bit integers (default with --activations 8), or floats (default otherwise, and with --for)"
    ),
    .init(
      "--table", "CHOICE",
      "for token tables: keep, 16, 8, 4, with :gN, :channel, :affine, :symmetric, :two-level (default: like the rest, but 8:channel at 4 bits; --for gguf: Q8_0, --for compressed-tensors: keep)"
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
    --for makes what another program's files can hold, so that llvconv export writes exactly what llvconv verify measured:
    only its types and groups, no bias where the model has none, no fusion that its files cannot say. --size and --bits
    then mean its files.
    --views and --pool-pictures trade fidelity for speed. They go with any of these; alone they leave weights and graph
    as they are.
    """
) { (arguments) throws(Failure) in
  let job = try QuantizeJob(arguments)
  var summary = QuantizeSummary(before: job.source.model, after: job.model)
  summary.target = try job.targetFiles()
  if arguments.has("--dry-run") {
    try summary.printDry(job.notes, threads: job.threads, asJSON: arguments.has("--json"))
    return 0
  }
  guard arguments.has("-o") else { throw Failure(.usage, "quantize needs -o FILE, or --dry-run") }
  let written = try job.run()
  Output.notes(job.notes)
  summary.summarize(
    written.path, fileBytes: written.bytes, written.losses, written.elapsed, asJSON: arguments.has("--json"))
  let export =
    job.target == .llv
    ? "" : "; llvconv export \(written.path) --to \(job.target.rawValue) -o OUT then writes its files"
  Output.next("llvconv verify \(written.path) --reference \(arguments.positionals[0]) --data PAIRS.jsonl\(export)")
  return 0
}

/// What quantizing changes, from names and shapes alone.
private struct QuantizeSummary {
  let before, after: Model
  let bytesBefore, bytesAfter: Int
  /// What the model comes to in the files that it is for.
  var target: (target: Target, bytes: Int, parts: [(choice: WeightChoice, count: Int, bytes: Int)])?
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

  private var targetText: String? {
    target.map { target, bytes, parts in
      let count = parts.reduce(0) { $0 + $1.count }
      let average = Double(parts.reduce(0) { $0 + $1.bytes } * 8) / Double(max(1, count))
      let shares = parts.prefix(6).map { "\($0.choice.text) \(($0.count * 100 + count / 2) / max(1, count)) %" }
      return "\(bytes) bytes at most, \(average.fixed(2)) bits per weight (\(shares.joined(separator: ", ")))"
    }
  }

  private var targetJSON: [(String, JSONText)] {
    guard let target else { return [] }
    return [("for", .string(target.target.rawValue)), ("target_bytes", .int(target.bytes))]
  }

  func printDry(_ notes: [String], threads: Int, asJSON: Bool) throws(Failure) {
    let seconds = try estimate(threads: threads)
    let largest = after.tensors.map { $0.byteCount }.max() ?? 0
    let memory = largest + (64 << 20)
    if asJSON {
      let members: [(String, JSONText)] = [
        ("bytes_before", .int(bytesBefore)), ("bytes_after", .int(bytesAfter)),
        ("bits_per_weight", .number(bitsPerWeight)), ("memory_bytes", .int(memory)), ("seconds", .number(seconds)),
        ("notes", .array(notes.map(JSONText.string))),
        (
          "tensors",
          .array(
            after.tensors.map {
              ["name": .string($0.name.text), "encoding": .string($0.encoding.text), "bytes": .int($0.byteCount)]
            })
        ),
      ]
      Output.print(.object(targetJSON + members))
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
    if let target, let targetText { Output.print("as \(target.target.rawValue.padded(13)) \(targetText)") }
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
      let members: [(String, JSONText)] = [
        ("file", .string(path)), ("file_bytes", .int(fileBytes)), ("bytes_before", .int(bytesBefore)),
        ("bytes_after", .int(bytesAfter)), ("bits_per_weight", .number(bitsPerWeight)),
        ("largest_relative_error", .number(worst)), ("clamped", .int(clamped)), ("vanished_groups", .int(vanished)),
        ("seconds", .number(seconds)),
      ]
      Output.print(.object(targetJSON + members))
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
    if let target, let targetText { Output.note("as \(target.target.rawValue): \(targetText)") }
  }
}
