import Bytes
import Fidelity
import Inputs

/// Candidates held to their reference on data: what `verify` does.
package struct VerifyJob {
  private let arguments: Arguments

  package init(_ arguments: Arguments) { self.arguments = arguments }

  package struct Result {
    package let reports: [FidelityReport]
    package let agreements: [DeviceAgreement]
    package let profile: ConsumerProfile?
    private let data: VerifyData
    private let skipped: SkippedItems

    init(
      _ reports: [FidelityReport], _ agreements: [DeviceAgreement], _ profile: ConsumerProfile?, _ data: VerifyData,
      _ skipped: SkippedItems
    ) {
      (self.reports, self.agreements, self.profile) = (reports, agreements, profile)
      (self.data, self.skipped) = (data, skipped)
    }

    package var exitCode: Int32 { agreements.allSatisfy(\.passes) ? LLVConv.exitCode(reports) : 1 }

    package var json: JSONText {
      let texts = reports.map { $0.json.adding([("skipped", skipped.json)]) }
      let all = texts.count == 1 ? texts[0] : .array(texts)
      return agreements.isEmpty ? all : .object([("reports", all), ("agreements", .array(agreements.map(\.json)))])
    }

    /// The page with plots.
    package func page(facts: [(name: String, value: String)]) -> String {
      FidelityReport.page(reports, facts: facts) { data.pictures($0) }
    }
  }

  /// Embeds, searches and compares.
  package func run() throws(Failure) -> Result {
    guard arguments.has("--reference"), arguments.has("--data") else {
      throw Failure(.usage, "verify needs --reference REF and --data PAIRS.jsonl, or --anchors INDEX.anchors")
    }
    let choices = try DeviceChoice.list(arguments["--device"] ?? "cpu")
    var devices: [LoadedModel.Options] = []
    for choice in choices { devices.append(try LoadedModel.Options(arguments, on: choice)) }
    let thresholds = try FidelityReport.Thresholds(arguments)
    let outputs = try arguments.outputs()
    let dataPath = try arguments.required("--data")
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
          outputs: outputs,
          remarks: known.skipped.notes.map { Remark(.few, $0) } + remarks, thresholds: thresholds,
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
    return Result(reports, agreements, profile, data, known.skipped)
  }
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
package func exitCode(_ reports: [FidelityReport]) -> Int32 {
  let verdicts = reports.map(\.verdict)
  return verdicts.contains(.fail) ? 1 : verdicts.contains(.inconclusive) ? 2 : 0
}

extension FidelityReport.Thresholds {
  package init(_ arguments: Arguments) throws(Failure) {
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

package func fileName(_ path: String) -> String { path.split(separator: "/").last.map(String.init) ?? path }

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
