import Bytes
import Calibration
import Formats
import Inference
import Inputs
import LLVConv
import Passes
import Tensors

let measureCommand = Command(
  name: "measure",
  abstract: "Calibrates: measures the inputs of a model's weights on your data, for quantize --calibration.",
  positionals: ["MODEL.llv"],
  options: [
    .init("--data", "X.jsonl", "items, or labelled pairs of items, like those the model will meet", isRequired: true),
    Command.output,
    .init("--sensitivity", nil, "also measure how far embeddings move when each weight alone is rounded, for plan"),
    .init(
      "--activations", "8",
      "with --sensitivity: also when a weight's input is rounded to 8 bits, for plan --activations 8"),
    .init(
      "--sensitivity-tokens", "N",
      "tokens and patches that sensitivity is measured on (default: fewer for larger models)"),
    .init(
      "--sensitivity-every", "N",
      "measure every Nth layer and the last, and interpolate (default 1; 4 for more than 200 million weights)"),
    .init(
      "--picture-weight", "X", "what a picture's token counts in a text model's moments; others count 1 (default 1)"),
    .init(
      "--imatrix", "OUT.gguf",
      "also write the mean squares as llama.cpp's importance matrix, for llama-quantize --imatrix"),
    .init("--no-fuse", nil, "for quantize --no-fuse"), Command.strict, Command.force, Command.dryRun,
  ] + Command.modelOptions,
  discussion: """
    The model runs over all items, layer by layer, with the fusions that quantize makes. For each weight of a linear
    operation the second moments of its inputs are kept. A few hundred items are enough. Do not measure on the data that
    you verify with. The file belongs to this model.

    Bad items are left out and listed. A run that was stopped keeps its work in OUTPUT.partial/, and the same command
    goes on from there. What was measured already of the same model on the same data is not measured again. A dry run
    reads all items and does not run the model.
    """,
  examples: ["llvconv measure llave.llv --data pairs.jsonl --sensitivity -o measured.llv"]
) { (arguments) throws(Failure) in
  let options = try LoadedModel.Options(arguments)
  let dataPath = try arguments.required("--data")
  let outputPath = try arguments.required("-o")
  let imatrix = try arguments.output("--imatrix")
  let withInputs = try arguments.choice("--activations", ["8"]) != nil
  guard arguments.has("--sensitivity") || !withInputs else {
    throw Failure(.usage, "--activations is for --sensitivity")
  }
  let pictureWeight = try arguments.number("--picture-weight", in: 0...1_000) ?? 1
  let isStrict = arguments.has("--strict")
  let file = try DataFile.open(dataPath, isStrict: isStrict)
  let items = file.items
  let passes = arguments.has("--no-fuse") ? [] : Pass.fusions
  let model = try LoadedModel(
    ModelFile(container: arguments.positionals[0]), options, passes: passes, isMeasured: true)
  var samples: [Sample] = []
  var cut = 0
  var skipped = SkippedItems(of: items.count, isStrict: isStrict)
  for (item, built) in zip(items, model.samples(items, prompt: nil, folder: directory(of: dataPath))) {
    switch built {
    case .success(let built):
      samples.append(built.sample)
      cut += built.cut > 0 ? 1 : 0
    case .failure(let failure): try skipped.add(item.name, failure)
    }
  }
  try skipped.check(left: samples.count)
  skipped.complain()
  Output.notes(skipped.notes)
  model.complain(ofCuts: cut, of: items.count)
  var facts: [(String, JSONText)] = [
    ("step", "measure"), ("model", .string(String(model.file.checksum, radix: 16))), ("items", .int(samples.count)),
    ("data", .string(String(fingerprint(samples), radix: 16))), ("passes", .array(passes.map { .string($0.name) })),
    ("picture_weight", .number(pictureWeight)), ("sketch", ItemSketch(items).json),
  ]
  if !(options.device is CPUDevice) { facts.append(("device", .string(options.device.identity))) }
  if !skipped.items.isEmpty { facts.append(("skipped", .int(skipped.items.count))) }
  // Moments do not depend on what follows, so those of a stopped run serve other sensitivities too.
  let momentsKey = JSONText.object(facts)
  var (chosen, every): (SensitivitySamples?, Int) = (nil, 1)
  if arguments.has("--sensitivity") {
    let tokens = try arguments.integer("--sensitivity-tokens", in: 1...1 << 30) ?? defaultTokens(model.prepared)
    every =
      try arguments.integer("--sensitivity-every", in: 1...10_000)
      ?? (linearWeights(model.prepared) > 200_000_000 ? 4 : 1)
    chosen = try SensitivitySamples(model, file, tokens: tokens)
    facts += [
      ("sensitivity_tokens", .int(tokens)), ("sensitivity_every", .int(every)), ("inputs", .bool(withInputs)),
      ("tables", "all"),
    ]
  }
  let key = JSONText.object(facts)
  func work(_ key: JSONText) -> PartialWork {
    PartialWork(beside: outputPath, key: key, model.configuration, threads: options.threads)
  }
  if let known = try? Container.open(outputPath).model, known.history.last == key {
    Output.note("\(outputPath) is that measurement already")
    // Of a run that was killed after it had written.
    if !DryRun.isOn { work(key).removeAll() }
    if let imatrix { try Imatrix.write(imatrix, Calibration(known.tensors), of: model, samples, data: dataPath) }
    return 0
  }
  let output = try arguments.requiredOutput("-o")
  guard !DryRun.isOn else {
    Output.print(
      "would measure \(samples.count) items, and write \(outputPath): about "
        + Output.size(momentBytes(model.prepared)) + (chosen == nil ? "" : " and what sensitivity takes"))
    return 0
  }
  var result = Model(configuration: model.configuration)
  try work(key).keeping { () throws(Failure) in
    for tensor in try moments(model, samples, Float(pictureWeight), work(momentsKey), threads: options.threads) {
      result.set(tensor)
    }
    if let chosen {
      for tensor in try sensitivity(model, chosen, Calibration(result.tensors), every, withInputs, work(key)) {
        result.set(tensor)
      }
    }
    Progress.clear()
    result.history = model.file.model.history + [key]
    let writer = try ContainerWriter(output, threads: options.threads)
    try writer.writeData(result)
    try writer.finish(result, program: Release.program)
    try writer.commit()
  }
  work(key).removeAll()
  if let imatrix { try Imatrix.write(imatrix, Calibration(result.tensors), of: model, samples, data: dataPath) }
  Output.next("llvconv quantize \(arguments.positionals[0]) --bits 4 --calibration \(outputPath) -o OUT.llv")
  return 0
}

/// Second moments of the inputs of all weights, layer by layer.
private func moments(
  _ model: LoadedModel, _ samples: [Sample], _ pictureWeight: Float, _ work: PartialWork, threads: Int
) throws(Failure) -> [Tensor] {
  var seen = Set<Sample>()
  var walk = Walk(model.embedder, samples.filter { seen.insert($0).inserted })
  var done: [[Tensor]] = []
  if let state = try work.open("state") {
    for stage in 0..<state.stage { if let known = try work.open("moments-\(stage)") { done.append(known.tensors) } }
    if done.count == state.stage, (try? walk.resume(at: state.stage, state.tensors)) != nil {
      Output.note("going on after stage \(state.stage) of \(walk.stageCount)")
    } else {
      done = []
    }
  }
  let progress = Progress("measuring", of: walk.stageCount)
  while !walk.isDone {
    progress.show(walk.stage)
    let moments = SecondMoments(threads: threads, pictureWeight: pictureWeight)
    try walk.advance(observer: moments)
    try work.save("moments-\(done.count)", try moments.tensors(), stage: done.count)
    // From the file, so that memory holds one stage's.
    guard let kept = try work.open("moments-\(done.count)") else {
      throw Failure(.io, "what was measured cannot be read back")
    }
    done.append(kept.tensors)
    try work.save("state", try walk.carried(), stage: walk.stage)
  }
  return done.flatMap { $0 }
}

/// Where embeddings go when single weights are rounded, and what they are and belong to.
private func sensitivity(
  _ model: LoadedModel, _ chosen: SensitivitySamples, _ calibration: Calibration, _ every: Int, _ withInputs: Bool,
  _ work: PartialWork
) throws(Failure) -> [Tensor] {
  var measured = Sensitivity(model.embedder, of: model.prepared, chosen.samples, calibration)
  let embeddings = try measured.embeddings()
  var tensors = try chosen.tensors(embeddings, width: model.embedder.width)
  var count = 0
  while let known = try work.open("moved-\(count)") {
    tensors += known.tensors
    count += 1
  }
  let known = Set(tensors.map(\.name))
  let wanted = Sensitivity.spread(try Pass.quantizableWeights(of: model.prepared, for: .gguf), every: every)
  let progress = Progress("rounding weights one by one", of: 1_000)
  try measured.measure(
    embeddings, withInputs: withInputs,
    isWanted: { !known.contains(Sensitivity.moved($0)) && wanted.contains($0) }
  ) { (moved, share) throws(Failure) in
    progress.show(Int(share * 1_000))
    guard !moved.isEmpty else { return }
    try work.save("moved-\(count)", moved, stage: count)
    tensors += moved
    count += 1
  }
  return tensors
}

/// What the second moments of all weights' inputs take.
private func momentBytes(_ model: Model) -> Int {
  var names = Set<TensorName>()
  for node in model.graphs.flatMap(\.graph.nodes) {
    if case .linear = node.op, case .tensor(let name) = node.inputs[1] { names.insert(name) }
  }
  return names.reduce(0) { $0 + SecondMoments.byteCount(columns: model[$1]?.columns ?? 0) }
}

/// About as much work whatever the model.
private func defaultTokens(_ model: Model) -> Int {
  max(2_048, min(32_768, 500_000_000_000 / max(1, linearWeights(model))))
}

/// Weights that every token is multiplied with.
private func linearWeights(_ model: Model) -> Int {
  model.graphs.flatMap(\.graph.nodes).reduce(0) { sum, node in
    guard case .linear = node.op, case .tensor(let name) = node.inputs[1] else { return sum }
    return sum + (model[name]?.count ?? 0)
  }
}
