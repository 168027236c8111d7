import Bytes
import Calibration
import Fidelity
import Formats
import LLVConv
import Passes
import Tensors

let quantizeCommand = Command(
  name: "quantize",
  abstract: "Makes a model's weights integers of 8 to 2 bits, or BF16, and pictures fewer tokens.",
  positionals: ["MODEL.llv"],
  options: [
    .init(
      "--bits", "16|8|4|3|2|X",
      "bits of the weights of linear operations; 16 is BF16; another number is an average per weight, scales included, "
        + "with more bits for sensitive weights"),
    .init(
      "--size", "BYTES",
      "instead of --bits: size of the file, a number, or with KB, MB, GB; more bits for sensitive weights"),
    .init("--plan", "PLAN.json", "instead of --bits: what llvconv plan found, perhaps changed"),
    Command.target,
    .init(
      "--weights", "CHOICE",
      "instead of --bits: one choice for all, as --tensor has them; with --for gguf one of its types, like Q4_K; with "
        + "--for compressed-tensors also W4A16, W4A16_ASYM, W8A16, W8A8, W4A8"),
    .init("--tower", nil, "with --for compressed-tensors: the vision tower and projector too"),
    .init("-o", "FILE", "where to write; appears whole or not at all (not needed with --dry-run)"),
    .init(
      "--group", "N|channel",
      "weights that share a scale: 16 (default for 4 bits), 32 (default for others), 64, 128, …, or a whole row"),
    .init("--symmetric", nil, "codes around zero (default for 8 bits)"),
    .init("--affine", nil, "a scale and a zero in half precision for each group"),
    .init(
      "--two-level", nil,
      "for each group a whole step and a whole zero, one byte together, under a scale a row (default for 4 bits and "
        + "fewer)"
    ),
    .init(
      "--activations", "float|16|8",
      "multiply float inputs (default), or round them to BF16 (with --bits 16), or to 8-bit integers per token and "
        + "group"),
    .init(
      "--attention", "float|8",
      "compute attention with 8-bit integers (default with --activations 8), or with floats (default otherwise, and "
        + "with --for)"),
    .init(
      "--table", "CHOICE",
      "for token tables: keep, 16, 8, 4, 3, 2, with :gN, :channel, :affine, :symmetric, :two-level (default: like the "
        + "rest, but 8:channel at 4 bits and fewer; --for gguf: Q8_0, --for compressed-tensors: keep)"),
    .init(
      "--tensor", "PATTERN=CHOICE", "override for weights by name, e.g. '*.output.dense.weight=8'; may be repeated",
      isRepeated: true),
    .init(
      "--calibration", "C.llv",
      "what llvconv measure found on your data: rounding errors are weighed and made up for (GPTQ); or an importance "
        + "matrix of llama.cpp (GGUF), with which errors are weighed only"),
    .init(
      "--method", "search|weighted|gptq|signround|descent",
      "with --calibration: how it is used (default gptq); with fold+ before it, columns are first scaled against what "
        + "feeds them"),
    .init(
      "--views", "N",
      "views of a picture at most, the whole picture's included: N - 1 tiles beside it; 1 is the whole picture alone"),
    .init(
      "--pool-pictures", "2", "pool the features of pictures 2 x 2, as those of videos are: a quarter of the tokens"),
    .init("--no-fuse", nil, "leave the graph as it is"),
    .init(
      "--dry-run", nil, "say size, bits per weight, memory, time and what cannot be done as asked; write nothing"),
    Command.force, Command.json, Command.threads,
  ] + Command.objectiveOptions,
  discussion: """
    Exact fusions come first: query, key and value as one product, constants folded, unused tensors dropped. Each
    group's scale is searched for the least squared error, which needs no data. Norms, biases and small tables stay as
    they are. With --calibration, weights of linear operations are quantized by GPTQ, which takes longer and loses less.

    --size, and --bits with a number between, give sensitive weights more bits, as llvconv plan does.

    --for makes what another program's files can hold, so that llvconv export writes exactly what llvconv verify
    measured: only its types and groups, no bias where the model has none, no fusion that its files cannot express.
    --size and --bits then mean its files.

    --views and --pool-pictures trade fidelity for speed. They go with any of these. Alone they leave weights and graph
    as they are.
    """,
  examples: [
    "llvconv quantize llave.llv --bits 4 --calibration measured.llv -o llave-4bit.llv",
    "llvconv quantize llave.llv --size 400MB --calibration measured.llv -o llave-400mb.llv",
    "llvconv quantize llave.llv --for gguf --weights Q4_K --calibration measured.llv -o llave-gguf.llv",
  ]
) { (arguments) throws(Failure) in
  let job = try QuantizeJob(arguments)
  let summary = try QuantizeSummary(job)
  if arguments.has("--dry-run") {
    // Refuses what could not be written.
    _ = try arguments.output("-o")
    try summary.printDry(job.notes, threads: job.threads, asJSON: arguments.has("--json"))
    return 0
  }
  guard arguments.has("-o") else { throw Failure(.usage, "quantize needs -o FILE, or --dry-run") }
  let written = try job.run()
  Output.notes(job.notes)
  summary.summarize(written, asJSON: arguments.has("--json"))
  let export =
    job.target == .llv
    ? "" : "; llvconv export \(written.path) --to \(job.target.rawValue) -o OUT then writes its files"
  Output.next("llvconv verify \(written.path) --reference \(arguments.positionals[0]) --data PAIRS.jsonl\(export)")
  return 0
}

extension QuantizeSummary {
  func printDry(_ notes: [String], threads: Int, asJSON: Bool) throws(Failure) {
    let seconds = try estimate(threads: threads)
    if asJSON { return Output.print(dryJSON(notes, seconds: seconds)) }
    let width = after.tensors.map(\.name.text.count).max() ?? 0
    for tensor in after.tensors {
      let (shape, encoding) = (String(describing: tensor.shape).padded(14), tensor.encoding.text.padded(18))
      Output.print("\(tensor.name.text.padded(width))  \(shape)  \(encoding)  \(Output.size(tensor.byteCount))")
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

  func summarize(_ written: QuantizeJob.Written, asJSON: Bool) {
    if asJSON { return Output.print(json(written)) }
    if after.configuration.vision != before.configuration.vision, let pictures = after.configuration.vision?.summary {
      Output.note("pictures: \(pictures)")
    }
    let weights =
      written.losses.isEmpty
      ? "weights as they were"
      : "\(bitsPerWeight.fixed(2)) bits per weight\(breakdown); weights' relative error at most "
        + "\((written.worstError * 100).fixed(2)) %, \(written.clamped) clamped, \(written.vanishedGroups) groups "
        + "vanished"
    Output.note("\(written.path): \(Output.size(written.bytes)), \(weights); \(written.seconds.fixed(1)) s")
    if let target, let targetText { Output.note("as \(target.target.rawValue): \(targetText)") }
  }
}
