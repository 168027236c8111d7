import Bytes
import Fidelity
import Inputs

let verifyCommand = Command(
  name: "verify",
  abstract: "Says whether candidates still retrieve what their reference retrieves: pass, fail or inconclusive.",
  positionals: ["[CANDIDATE]..."],
  options: [
    .init("--reference", "REF", "the model to compare with, usually the imported one", isRequired: true),
    .init(
      "--data", "PAIRS.jsonl",
      "labelled pairs: {\"id\", \"query\": item, \"positive\": item, \"negatives\": [items], \"label\"}",
      isRequired: true),
    .init(
      "--vectors", "Q.npy,D.npy",
      "a candidate that another program ran: its vectors of the queries and of the documents"),
    Command.profile, Command.projector,
    .init("--device", "LIST", "where candidates run: cpu, gpu, gpu:N, or several, as in cpu,gpu (default cpu)"),
    .init("--no-cache", nil, "do not keep or use reference embeddings"),
    .init("--no-layers", nil, "do not look inside the models: settings, weights, layers"),
    Command.outputs,
    Command.strict, Command.json, Command.force,
  ] + Command.thresholdOptions + Command.modelOptions.filter { $0.name != Command.device.name },
  discussion: """
    Embeds all queries, positives and negatives with both models, searches every query among all documents, and compares:
    vectors (cosine, angle, relative error), rankings (P@1, recall, overlap, order and margins with hard negatives first), the mixed
    index both ways, clusters, and inside the models their settings, weights and what enters each layer. Means come with 95 %
    intervals. Numbers are also those of slices: kind of item, script and length of texts, label, task, and what a line's
    "slices" say. Exit code 0 when every check passes, 1 when one fails, 2 when the data cannot decide (an interval holds its
    threshold, too few queries or documents, items that were calibrated on, a model held to itself); of several candidates
    the worst counts.
    With several devices every candidate is verified on each, and they must also agree: integer products bit for bit, the two
    vectors of an item to a cosine of \(DeviceAgreement.leastCosine). The reference runs on the processor.
    With --vectors a row of Q.npy stands for the query of each pair, in order; a row of D.npy for the positive of each pair, then
    for the negatives of each pair. Where Q.npy.ids or D.npy.ids lies beside it, as embed writes it, rows are found by id: a
    query's is that of its pair, a document's its own, or "ID, positive" and "ID, negative N". Rankings are then by cosine.
    With --outputs the table crosses each candidate with each form of the index: the reference alone, the candidate's own index,
    and new queries in the old index, which may lose as much of recall@10 as elsewhere. 8-bit codes take the ranges of the
    reference's documents.
    With --profile the candidate is fed as another program would feed it: what its users lose beside the model's own way.
    CANDIDATE and REF are .llv containers, or what import takes: a model folder, a .safetensors or a GGUF file, imported in
    memory on the way. The embeddings of a reference that is a container are kept in REF.llv.cache/ and used again while model
    and data are the same; beside other files nothing is written.
    """
) { (arguments) throws(Failure) in
  let choices = try DeviceChoice.list(arguments["--device"] ?? "cpu")
  var devices: [LoadedModel.Options] = []
  for choice in choices { devices.append(try LoadedModel.Options(arguments, on: choice)) }
  let thresholds = try FidelityReport.Thresholds(arguments)
  let outputs = try arguments.outputs()
  let dataPath = try arguments.required("--data")
  let page = try arguments.output("--report")
  var own = try LoadedModel.Options(arguments, on: .cpu)
  let profile = own.profile
  own.profile = nil
  var data = VerifyData(
    try pairs(dataPath, profile, isStrict: arguments.has("--strict")), folder: directory(of: dataPath))
  let referencePath = try arguments.required("--reference")
  let given = try arguments["--vectors"].map { [data] (text) throws(Failure) in try GivenVectors(text, of: data) }
  try refuseIdle(arguments)
  var candidates: [[LoadedModel]] = []
  for path in arguments.positionals {
    var models: [LoadedModel] = []
    let file = try ModelFile(path, projector: arguments["--mmproj"])
    for options in devices { models.append(try LoadedModel(file, options)) }
    candidates.append(models)
  }
  let reference = try LoadedModel(ModelFile(referencePath), own)
  for form in outputs { try form.check(columns: reference.embedder.width) }
  if let given, given.width != reference.embedder.width {
    throw Failure(
      .malformed, "has \(given.width) columns, the reference's vectors have \(reference.embedder.width)",
      file: given.name)
  }
  try checkKinds(of: zip(arguments.positionals, candidates).compactMap { ($0, $1.first) }, referencePath, reference)
  let cache = arguments.has("--no-cache") ? nil : reference.file.cache(width: reference.embedder.width)
  let known = try data.vectors(ofReference: reference, cache: cache, isStrict: arguments.has("--strict"))
  var base = subject(referencePath, reference, known.itemsPerSecond)
  base.pictures = try data.pictures(reference)
  var reports: [FidelityReport] = []
  var agreements: [DeviceAgreement] = []
  func judge(
    _ subject: FidelityReport.Subject, _ vectors: FidelityReport.Vectors, _ divergence: Divergence?,
    _ remarks: [Remark], _ scope: FidelityReport.Scope
  ) throws(Failure) {
    let comparing = Progress("searching", of: 100)
    reports.append(
      try FidelityReport(
        candidate: (subject, vectors), reference: (base, known.vectors), data: fileName(dataPath),
        labels: data.labels, scope: scope, items: data.reportItems, classes: data.classes, divergence: divergence,
        outputs: outputs, remarks: known.skipped.notes.map { Remark(.few, $0) } + remarks, thresholds: thresholds,
        threads: own.threads, progress: { comparing.show(Int($0 * 100)) }))
  }
  for (path, models) in zip(arguments.positionals, candidates) {
    var first: FidelityReport.Vectors?
    for ((choice, options), candidate) in zip(zip(choices, devices), models) {
      let found = try data.vectors(candidate, "candidate", cache: nil)
      if let first {
        agreements.append(
          try DeviceAgreement(
            path, (choices[0].name, models[0], first), (choice.name, candidate, found.vectors),
            devices: (devices[0].device, options.device)))
      }
      first = first ?? found.vectors
      let divergence =
        arguments.has("--no-layers") || profile != nil
        ? nil
        : try ModelDivergence.find(
          candidate: candidate, reference: reference.file, data: data, options: options)
      var described = subject(path, candidate, found.itemsPerSecond)
      described.pictures = try data.pictures(candidate)
      if let profile { described.name += " in \(profile.rawValue)" }
      if choices != [.cpu] { described.name += " on \(choice.name)" }
      let remarks = try VerifyEvidence.remarks(
        candidate: candidate, reference: reference, data: data, divergence: divergence,
        isFedAlike: profile == nil && choice == .cpu)
      try judge(described, found.vectors, divergence, remarks, .init())
    }
  }
  if let given {
    var scope = FidelityReport.Scope()
    // Other programs' vectors need not have length 1.
    (scope.hasModels, scope.metric) = (false, .cosine)
    let vectors = try given.vectors(of: data)
    try judge(given.subject, vectors, nil, try VerifyEvidence.remarks(vectors, known.vectors, data), scope)
  }
  Progress.clear()
  try page?.write(Array(FidelityReport.page(reports, facts: Program.facts()) { data.pictures($0) }.utf8))
  try page?.commit()
  if arguments.has("--json") {
    let texts = reports.map { $0.json.adding([("skipped", known.skipped.json)]) }
    let all = texts.count == 1 ? texts[0] : .array(texts)
    Output.print(
      agreements.isEmpty ? all : .object([("reports", all), ("agreements", .array(agreements.map(\.json)))]))
  } else {
    let comparison = reports.count > 1 ? [Comparison(reports).text] : []
    Output.print((comparison + reports.map(\.text) + agreements.map(\.text)).joined(separator: "\n\n"))
  }
  if let profile {
    for line in profile.differences { Output.note("\(profile.rawValue): \(line)") }
  }
  if let path = arguments["--report"] { Output.note("report: \(path)") }
  return agreements.allSatisfy(\.passes) ? exitCode(reports) : 1
}

/// Options that mean nothing for what is compared would be ignored in silence.
private func refuseIdle(_ arguments: Arguments) throws(Failure) {
  let models = arguments.positionals.count
  guard models > 0 || arguments.has("--vectors") else {
    throw Failure(.usage, "verify needs a CANDIDATE, or --vectors")
  }
  guard !arguments.has("--mmproj") || models == 1 else {
    throw Failure(
      .usage, "--mmproj is for one candidate; of several, each NAME.gguf has its NAME-mmproj.gguf beside it")
  }
  guard arguments.has("--vectors") else { return }
  for name in ["--profile"] + (models > 0 ? [] : ["--device", "--no-layers"]) where arguments.has(name) {
    throw Failure(.usage, "\(name) is for candidates that run here; --vectors are made already")
  }
}

/// The worst of all verdicts, as an exit code.
func exitCode(_ reports: [FidelityReport]) -> Int32 {
  let verdicts = reports.map(\.verdict)
  return verdicts.contains(.fail) ? 1 : verdicts.contains(.inconclusive) ? 2 : 0
}

extension Command {
  /// What a verdict asks for, and where the report goes.
  static let thresholdOptions: [Option] = [
    .init(
      "--min-cosine", "X", "mean cosine of an item's two vectors, at least (default 0.97, more for more bits)"),
    .init(
      "--min-overlap", "X",
      "share of the reference's first 10 documents found again, at least (default 0.75, more for more bits)"),
    .init("--max-recall-drop", "X", "how much P@1 and recall@10 may fall (default 0.02)"),
    .init("--max-slice-drop", "X", "how much P@1 of items with something in common may fall (default 0.05)"),
    .init(
      "--allow", "LIST",
      "what shall not keep a candidate from passing, with commas: settings that differ, few queries or documents, "
        + "odd labels, items of its calibration, an odd reference"),
    .init("--report", "R.html", "also write a page with plots"),
  ]
}

extension FidelityReport.Thresholds {
  init(_ arguments: Arguments) throws(Failure) {
    self.init()
    cosine = try arguments.number("--min-cosine", in: -1...1) ?? cosine
    overlap = try arguments.number("--min-overlap", in: 0...1) ?? overlap
    recallDrop = try arguments.number("--max-recall-drop", in: 0...1) ?? recallDrop
    sliceDrop = try arguments.number("--max-slice-drop", in: 0...1) ?? sliceDrop
    for word in arguments["--allow"]?.split(separator: ",").map(String.init) ?? [] {
      guard let kind = Remark.Kind(rawValue: word) else {
        let known = Remark.Kind.allCases.map(\.rawValue).joined(separator: ", ")
        throw Failure(.usage, "--allow takes \(known); found \(Failure.quoted(word))")
      }
      allowed.insert(kind)
    }
  }
}

/// The pairs that a program takes.
private func pairs(_ path: String, _ profile: ConsumerProfile?, isStrict: Bool) throws(Failure) -> [Pair] {
  var pairs = try DataFile.open(path, isStrict: isStrict).pairs()
  guard let profile else { return pairs }
  let all = pairs.count
  pairs.removeAll { pair in ([pair.query, pair.positive] + pair.negatives).contains { $0.video != nil } }
  guard !pairs.isEmpty else {
    throw Failure(.usage, "every pair has a video, which \(profile.rawValue) does not take")
  }
  if pairs.count < all {
    Output.note(
      "note: \(all - pairs.count) of \(all) pairs have videos, which \(profile.rawValue) does not take: left out")
  }
  return pairs
}

func fileName(_ path: String) -> String { path.split(separator: "/").last.map(String.init) ?? path }

private func subject(_ path: String, _ model: LoadedModel, _ itemsPerSecond: Double?) -> FidelityReport.Subject {
  var subject = FidelityReport.Subject(fileName(path))
  subject.bytes = model.file.bytes
  subject.itemsPerSecond = itemsPerSecond
  subject.facts = [("checksum", String(model.file.checksum, radix: 16))]
  for step in model.file.model.history {
    guard case .object(let members) = step else { continue }
    // Losses of every tensor are in the table of weights.
    let shown = members.filter { !["losses", "step", "sketch"].contains($0.0) }
    let name = if case .string(let name)? = members.first(where: { $0.0 == "step" })?.1 { name } else { "step" }
    subject.facts.append((name, JSONText.object(shown).text()))
  }
  return subject
}
