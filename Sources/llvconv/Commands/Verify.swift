import Bytes
import Fidelity
import Inputs

let verifyCommand = Command(
  name: "verify",
  abstract: "Says whether candidates still retrieve what their reference retrieves: pass, fail or inconclusive.",
  positionals: ["CANDIDATE.llv..."],
  options: [
    .init("--reference", "REF.llv", "the model to compare with, usually the imported one", isRequired: true),
    .init(
      "--data", "PAIRS.jsonl",
      "labelled pairs: {\"id\", \"query\": item, \"positive\": item, \"negatives\": [items], \"label\"}",
      isRequired: true),
    Command.profile,
    .init("--device", "LIST", "where candidates run: cpu, gpu, gpu:N, or several, as in cpu,gpu (default cpu)"),
    .init("--no-cache", nil, "do not keep or use reference embeddings"),
    .init("--no-layers", nil, "do not look inside the models: settings, weights, layers"),
    Command.strict, Command.json, Command.force,
  ] + Command.thresholdOptions + Command.modelOptions.filter { $0.name != Command.device.name },
  discussion: """
    Embeds all queries, positives and negatives with both models, searches every query among all documents, and compares:
    vectors (cosine, angle, relative error), rankings (P@1, recall, overlap, order and margins with hard negatives first), the mixed
    index both ways, clusters, and inside the models their settings, weights and what enters each layer. Means come with 95 %
    intervals. Exit code 0 when every check passes, 1 when one fails, 2 when the data cannot decide (an interval holds its
    threshold, too few queries or documents, items that were calibrated on, a model held to itself); of several candidates
    the worst counts.
    With several devices every candidate is verified on each, and they must also agree: integer products bit for bit, the two
    vectors of an item to a cosine of \(DeviceAgreement.leastCosine). The reference runs on the processor.
    With --profile the candidate is fed as another program would feed it: what its users lose beside the model's own way.
    The reference's embeddings are kept in REF.llv.cache/ and used again while model and data are the same.
    """
) { (arguments) throws(Failure) in
  let choices = try DeviceChoice.list(arguments["--device"] ?? "cpu")
  var devices: [LoadedModel.Options] = []
  for choice in choices { devices.append(try LoadedModel.Options(arguments, on: choice)) }
  let thresholds = try FidelityReport.Thresholds(arguments)
  let dataPath = try arguments.required("--data")
  let page = try arguments.output("--report")
  var own = try LoadedModel.Options(arguments, on: .cpu)
  let profile = own.profile
  own.profile = nil
  var data = VerifyData(
    try pairs(dataPath, profile, isStrict: arguments.has("--strict")), folder: directory(of: dataPath))
  let referencePath = try arguments.required("--reference")
  var candidates: [[LoadedModel]] = []
  for path in arguments.positionals {
    var models: [LoadedModel] = []
    for options in devices { models.append(try LoadedModel(path, options)) }
    candidates.append(models)
  }
  let reference = try LoadedModel(referencePath, own)
  try checkKinds(of: zip(arguments.positionals, candidates).compactMap { ($0, $1.first) }, referencePath, reference)
  let cache =
    arguments.has("--no-cache") ? nil : VectorCache(beside: referencePath, width: reference.embedder.width)
  let known = try data.vectors(ofReference: reference, cache: cache, isStrict: arguments.has("--strict"))
  var base = subject(referencePath, reference, known.itemsPerSecond)
  base.pictures = try data.pictures(reference)
  var reports: [FidelityReport] = []
  var agreements: [DeviceAgreement] = []
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
          candidate: candidate, path: path, reference: referencePath, data: data, options: options)
      var described = subject(path, candidate, found.itemsPerSecond)
      described.pictures = try data.pictures(candidate)
      if let profile { described.name += " in \(profile.rawValue)" }
      if choices != [.cpu] { described.name += " on \(choice.name)" }
      let comparing = Progress("searching", of: 100)
      let remarks =
        try known.skipped.notes.map { Remark(.few, $0) }
        + VerifyEvidence.remarks(
          candidate: candidate, reference: reference, data: data, divergence: divergence,
          isFedAlike: profile == nil && choice == .cpu)
      reports.append(
        try FidelityReport(
          candidate: (described, found.vectors),
          reference: (base, known.vectors), data: fileName(dataPath),
          labels: data.labels, items: data.reportItems, classes: data.classes, divergence: divergence, remarks: remarks,
          thresholds: thresholds, threads: options.threads, progress: { comparing.show(Int($0 * 100)) }))
    }
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
  subject.bytes = model.contents.model.tensors.reduce(0) { $0 + $1.byteCount }
  subject.itemsPerSecond = itemsPerSecond
  subject.facts = [("checksum", String(model.contents.checksum, radix: 16))]
  for step in model.contents.model.history {
    guard case .object(let members) = step else { continue }
    // Losses of every tensor are in the table of weights.
    let shown = members.filter { !["losses", "step", "sketch"].contains($0.0) }
    let name = if case .string(let name)? = members.first(where: { $0.0 == "step" })?.1 { name } else { "step" }
    subject.facts.append((name, JSONText.object(shown).text()))
  }
  return subject
}
