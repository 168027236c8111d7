import Bytes
import Fidelity
import Formats
import Gradients
import Inference
import Inputs
import LLVConv
import Tensors

let tuneCommand = Command(
  name: "tune",
  abstract: "Trains scales, zeros, biases and norms of a quantized model towards its reference, on your data.",
  positionals: ["CANDIDATE.llv"],
  options: [
    .init(
      "--reference", "REF.llv", "the model that the candidate was quantized from, or any that import takes",
      isRequired: true),
    .init("--data", "X.jsonl", "items, or labelled pairs of items, like those the model will meet", isRequired: true),
    Command.output,
    .init("--check", "X.jsonl", "items that it must not get worse on, and is not trained on", isRepeated: true),
    .init("--held-out", "SHARE", "of the data that is not trained on and judges (default 0.1)"),
    .init("--steps", "N", "steps of training (default: eight times over the data, 60 to 2000)"),
    .init("--minutes", "N", "end after N minutes; the result then depends on the machine's speed"),
    .init("--batch", "N", "items of a step (default 64)"),
    .init("--rate", "X", "how far a step moves each number, in parts of its size (default 0.001)"),
    .init("--contrast", "X", "what the contrastive loss counts beside 1 - cosine (default 0.05)"),
    .init("--alpha", "X", "how much hard negatives count in it (default 9)"),
    .init("--temperature", "X", "of its softmax (default 0.02)"),
    .init(
      "--targets", "reference|labels",
      "what is right of pairs: what the reference finds (default), or their labels, which want a smaller --contrast"),
    .init("--seed", "N", "of the order of items (default 1)"),
    Command.strict, Command.force, Command.json, Command.threads,
    .init("--max-tokens", "N", "cut inputs after N tokens, in the place of the model's own limit"),
  ],
  discussion: """
    Codes stay; what they are multiplied with moves, so the file keeps its size and runs everywhere as before. The loss
    is 1 - cosine to the reference's vector, and the hardness-weighted contrastive loss of finding the right one among
    the reference's own document vectors, which stay as they are: an index made by the reference stays valid. Items
    without labels suffice; what the reference finds is right, unless --targets labels says otherwise.
    A part of the data is held out. The model is judged on it as it will be stored, and on what --check gives: cosines,
    and what new queries find in the reference's index. The best one is kept that is worse than untuned in none of
    these; where there is none, nothing is written and the exit code is 1.
    Work that is stopped is kept in OUTPUT.partial/ and gone on with by the same command.
    """
) { (arguments) throws(Failure) in
  let started = ContinuousClock.now
  let job = try TuneJob(arguments)
  var tuning = try job.tuning()
  let work = job.work
  try work.keeping { () throws(Failure) in try job.train(&tuning, work, since: started) }
  Progress.clear()
  let seconds = (ContinuousClock.now - started) / .seconds(1)
  let bytes = try work.keeping { () throws(Failure) in try job.write(tuning) }
  if arguments.has("--json") {
    Output.print(job.json(tuning, bytes: bytes, seconds: seconds))
  } else {
    Output.print(job.text(tuning, seconds: seconds))
  }
  work.removeAll()
  guard bytes != nil else { return 1 }
  Output.next(
    "llvconv verify \(arguments["-o"] ?? "") --reference \(try arguments.required("--reference")) --data PAIRS.jsonl")
  return 0
}

/// What is asked for, and how it is told.
private struct TuneJob {
  private let arguments: Arguments
  private let candidate: LoadedModel
  private let reference: LoadedModel
  private let output: OutputFile
  private let device: CPUDevice
  private let loss: (hardness: Hardness, contrast: Double)
  let options: Tuning.Options
  let minutes: Double?
  private let data: TuneData
  private let others: [TuneData]

  init(_ arguments: Arguments) throws(Failure) {
    self.arguments = arguments
    let models = try LoadedModel.Options(arguments, on: .cpu)
    device = CPUDevice(threads: models.threads)
    let share = try arguments.number("--held-out", in: 0.01...0.9) ?? 0.1
    let alpha = try arguments.number("--alpha", in: 0...100) ?? 9
    let temperature = try arguments.number("--temperature", in: 0.001...10) ?? 0.02
    loss = (Hardness(scale: 1 / temperature, alpha: alpha), try arguments.number("--contrast", in: 0...1_000) ?? 0.05)
    minutes = try arguments.number("--minutes", in: 0.01...100_000)
    let usesLabels = try arguments.choice("--targets", ["reference", "labels"]) == "labels"
    let (path, referencePath) = (arguments.positionals[0], try arguments.required("--reference"))
    let file = try ModelFile(container: path)
    try TuneJob.check(file)
    candidate = try LoadedModel(file, models)
    reference = try LoadedModel(ModelFile(referencePath), models)
    guard candidate.embedder.width == reference.embedder.width else {
      throw Failure(
        .usage,
        "has vectors of \(candidate.embedder.width) columns, the reference of \(reference.embedder.width)", file: path)
    }
    output = try arguments.requiredOutput("-o")
    let isStrict = arguments.has("--strict")
    let dataPath = try arguments.required("--data")
    data = try TuneData(
      dataPath, candidate, reference, share: share, usesLabels: usesLabels, isStrict: isStrict)
    var others: [TuneData] = []
    for path in arguments.all("--check") {
      others.append(
        try TuneData(path, candidate, reference, share: 1, usesLabels: false, isStrict: isStrict))
    }
    self.others = others
    let batch = try arguments.integer("--batch", in: 1...65_536) ?? min(64, data.trained.count)
    let steps = try arguments.integer("--steps", in: 1...1_000_000)
    options = Tuning.Options(
      steps: steps ?? max(60, min(2_000, 8 * data.trained.count / batch)), itemsPerStep: batch,
      rate: try arguments.number("--rate", in: 1e-7...1) ?? 1e-3,
      seed: try arguments.integer("--seed", in: 0...1 << 40) ?? 1)
  }

  /// - Throws: `usage` for a model that is not quantized, or whose numbers another program's files could not hold.
  private static func check(_ file: ModelFile) throws(Failure) {
    let isQuantized = Tuning.trained(file.model).contains { !(file.model[$0]?.encoding.isPlain ?? true) }
    guard isQuantized else {
      throw Failure(
        .usage, "no weight of it is quantized: tune takes what llvconv quantize made", file: file.path)
    }
    let step = file.model.history.last { $0["step"] == "quantize" }
    guard case .string(let target)? = step?["for"], target != "mlx" else { return }
    throw Failure(
      .usage, "quantized --for \(target), whose files cannot hold scales that were tuned", file: file.path)
  }

  func tuning() throws(Failure) -> Tuning {
    let keys = data.keyDocuments.map { data.documents[$0] }
    var loss = RecoveryLoss(keys: try Floats(data.references.rows(at: keys), columns: data.references.width))
    (loss.hardness, loss.contrastWeight) = (self.loss.hardness, self.loss.contrast)
    return try Tuning(candidate.file.model, data, others: others, loss, options, on: device)
  }

  /// All steps, from where an earlier run stopped.
  func train(_ tuning: inout Tuning, _ work: PartialWork, since started: ContinuousClock.Instant) throws(Failure) {
    if let known = try work.open("state"), tuning.resume(at: known.stage, known.tensors) {
      Output.note("going on after step \(tuning.step) of \(options.steps)")
    } else {
      tell(try tuning.judge(), at: tuning)
    }
    let targets = try tuning.data.targets()
    let progress = Progress("tuning", of: options.steps)
    while !tuning.isDone {
      let spent = (ContinuousClock.now - started) / .seconds(60)
      let share = minutes.map { spent / $0 }
      _ = try tuning.advance(targets, timeShare: share)
      progress.show(tuning.step)
      let isOver = share.map { $0 >= 1 } ?? false
      if tuning.step % options.stepsPerJudgement == 0 || tuning.step == options.steps || isOver {
        tell(try tuning.judge(), at: tuning)
        try work.save("state", try tuning.state(), stage: tuning.step)
      }
      if isOver { break }
    }
  }

  // MARK: What is kept

  private var facts: [(String, JSONText)] {
    [
      ("step", "tune"), ("model", .string(String(candidate.file.checksum, radix: 16))),
      ("reference", .string(String(reference.file.checksum, radix: 16))), ("items", .int(data.trained.count)),
      ("held_out", .int(data.held.count)), ("steps", .int(options.steps)), ("batch", .int(options.itemsPerStep)),
      ("rate", .number(options.rate)), ("alpha", .number(loss.hardness.alpha)),
      ("temperature", .number(1 / loss.hardness.scale)), ("contrast", .number(loss.contrast)),
      ("targets", .string(arguments["--targets"] ?? "reference")), ("seed", .int(options.seed)),
      ("sketch", ItemSketch(data.trained.map { data.items[$0] }).json),
    ]
  }

  var work: PartialWork {
    let judged = ([data] + others).map { data in
      JSONText.string(String(fingerprint(data.samples), radix: 16))
    }
    return PartialWork(
      beside: arguments["-o"] ?? "", key: .object(facts + [("data", .array(judged))]), candidate.configuration,
      threads: device.threads)
  }

  /// Writes the best model that is worse than untuned nowhere.
  ///
  /// - Returns: its bytes; nil where there is none.
  func write(_ tuning: Tuning) throws(Failure) -> Int? {
    guard let best = tuning.best else { return nil }
    var model = try tuning.tuned(best.moves)
    let judgement = tuning.judgements[best.judgement]
    model.history.append(
      .object(
        facts + [
          ("best_step", .int(judgement.step)), ("before", tuning.judgements[0].all[0].json),
          ("after", judgement.all[0].json),
        ]))
    let writer = try ContainerWriter(output, usesPanels: true, threads: device.threads)
    try writer.writeData(model)
    try writer.finish(model, program: Release.program)
    try writer.commit()
    return writer.byteCount
  }

  // MARK: What is said

  private static func line(_ all: [TuneData.Judgement]) -> String {
    all.map { one in
      "1 - cosine \((1 - one.cosine).fixed(5)), mixed overlap@10 \(one.overlap.fixed(4))"
        + (one.first.map { ", mixed P@1 \($0.fixed(4))" } ?? "")
    }.joined(separator: "; ")
  }

  func tell(_ all: [TuneData.Judgement], at tuning: Tuning) {
    let place = tuning.step == 0 ? "untuned" : "step \(tuning.step) of \(options.steps)"
    Output.note("\(place): held out \(TuneJob.line(all))")
  }

  func text(_ tuning: Tuning, seconds: Double) -> String {
    let untuned = tuning.judgements[0].all
    guard let best = tuning.best else {
      return "tuning made nothing better without making something worse: nothing is written\n"
        + "untuned: \(TuneJob.line(untuned))"
    }
    let judgement = tuning.judgements[best.judgement]
    return """
      \(arguments["-o"] ?? ""): \(tuning.count) numbers tuned in \(tuning.step) steps, \(Int(seconds)) s; the best is \
      of step \(judgement.step)\(tuning.stopped.map { " (\($0))" } ?? "")
      untuned: \(TuneJob.line(untuned))
      tuned:   \(TuneJob.line(judgement.all))
      """
  }

  func json(_ tuning: Tuning, bytes: Int?, seconds: Double) -> JSONText {
    func judged(_ all: [TuneData.Judgement]) -> JSONText {
      .array(
        zip([data] + others, all).map { data, one in
          .object([("data", .string(data.name)), ("held_out", .int(data.held.count)), ("judged", one.json)])
        })
    }
    var members: [(String, JSONText)] = [
      ("file", bytes == nil ? .null : .string(arguments["-o"] ?? "")), ("file_bytes", bytes.map { .int($0) } ?? .null),
      ("tuned", .bool(bytes != nil)), ("numbers", .int(tuning.count)), ("steps", .int(tuning.step)),
      ("seconds", .number(seconds)), ("before", judged(tuning.judgements[0].all)),
    ]
    if let best = tuning.best {
      let judgement = tuning.judgements[best.judgement]
      members += [("best_step", .int(judgement.step)), ("after", judged(judgement.all))]
    }
    members.append(
      (
        "judgements",
        .array(tuning.judgements.map { .object([("step", .int($0.step)), ("all", judged($0.all))]) })
      ))
    return .object(members)
  }
}
