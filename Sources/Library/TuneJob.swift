import Bytes
import Fidelity
import Formats
import Gradients
import Inference
import Inputs
import Passes
import Tensors

/// A quantized candidate on its way nearer to its reference: what `tune` does.
package struct TuneJob {
  private let arguments: Arguments
  private let started = ContinuousClock.now
  private let candidate: LoadedModel
  private let reference: LoadedModel
  private let output: OutputFile
  private let device: CPUDevice
  private let loss: (hardness: Hardness, contrast: Double)
  package let options: Tuning.Options
  private let minutes: Double?
  package let data: TuneData
  package let others: [TuneData]

  package init(_ arguments: Arguments) throws(Failure) {
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
      codeRate: try TuneJob.codeRate(arguments), seed: try arguments.integer("--seed", in: 0...1 << 40) ?? 1)
  }

  private static func codeRate(_ arguments: Arguments) throws(Failure) -> Double? {
    let rate = try arguments.number("--code-rate", in: 1e-6...1)
    guard arguments.has("--codes") else {
      guard rate == nil else { throw Failure(.usage, "--code-rate is for --codes") }
      return nil
    }
    return rate ?? 5e-4
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

  private func tuning() throws(Failure) -> Tuning {
    let keys = data.keyDocuments.map { data.documents[$0] }
    var loss = RecoveryLoss(keys: try Floats(data.references.rows(at: keys), columns: data.references.width))
    (loss.hardness, loss.contrastWeight) = (self.loss.hardness, self.loss.contrast)
    let model = candidate.file.model
    var (before, notes) = (reference.file.model, [String]())
    // Only names and numbers of weights count: a reference of another kind just has none of them.
    if options.codeRate != nil { try Pass.run(Target.fusions(of: model), on: &before, notes: &notes) }
    return try Tuning(model, towards: before, data, others: others, loss, options, on: device)
  }

  // MARK: Running

  package struct Result {
    package let tuning: Tuning
    /// Of the container that was written; nil where nothing was better, and nothing was written.
    package let bytes: Int?
    package let seconds: Double
  }

  /// Trains, from where an earlier run of the same work stopped, and writes the best model that is worse than untuned
  /// nowhere.
  ///
  /// - Parameter judged: is called after each judgement.
  package func run(judged: (Tuning) -> Void) throws(Failure) -> Result {
    var tuning = try tuning()
    let work = work
    let bytes = try work.keeping { () throws(Failure) in
      try train(&tuning, work, judged: judged)
      Progress.clear()
      return try write(tuning)
    }
    work.removeAll()
    return Result(tuning: tuning, bytes: bytes, seconds: (ContinuousClock.now - started) / .seconds(1))
  }

  /// All steps, from where an earlier run stopped.
  private func train(_ tuning: inout Tuning, _ work: PartialWork, judged: (Tuning) -> Void) throws(Failure) {
    if let known = try work.open("state"), tuning.resume(at: known.stage, known.tensors) {
      Output.note("going on after step \(tuning.step) of \(options.steps)")
    } else {
      try tuning.judge()
      judged(tuning)
    }
    let targets = try data.targets()
    let progress = Progress("tuning", of: options.steps)
    while !tuning.isDone {
      let share = minutes.map { (ContinuousClock.now - started) / .seconds(60) / $0 }
      _ = try tuning.advance(targets, timeShare: share)
      progress.show(tuning.step)
      let isOver = share.map { $0 >= 1 } ?? false
      if tuning.step % options.stepsPerJudgement == 0 || tuning.step == options.steps || isOver {
        try tuning.judge()
        judged(tuning)
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
      ("rate", .number(options.rate)), ("code_rate", options.codeRate.map { .number($0) } ?? .null),
      ("alpha", .number(loss.hardness.alpha)),
      ("temperature", .number(1 / loss.hardness.scale)), ("contrast", .number(loss.contrast)),
      ("targets", .string(arguments["--targets"] ?? "reference")), ("seed", .int(options.seed)),
      ("sketch", ItemSketch(data.trained.map { data.items[$0] }).json),
    ]
  }

  private var work: PartialWork {
    let judged = ([data] + others).map { data in
      JSONText.string(String(fingerprint(data.samples), radix: 16))
    }
    return PartialWork(
      beside: arguments["-o"] ?? "", key: .object(facts + [("data", .array(judged))]), candidate.configuration,
      threads: device.threads)
  }

  /// - Returns: the bytes of what was written; nil where nothing is better.
  private func write(_ tuning: Tuning) throws(Failure) -> Int? {
    guard let best = tuning.best else { return nil }
    var model = try tuning.tuned(best.places)
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
}
