import Bytes
import Fidelity
import Inputs

let verifyCommand = Command(
  name: "verify",
  abstract: "Says whether a candidate still retrieves what its reference retrieves: pass or fail.",
  positionals: ["CANDIDATE.llv"],
  options: [
    .init("--reference", "REF.llv", "the model to compare with, usually the imported one", isRequired: true),
    .init(
      "--data", "PAIRS.jsonl",
      "labelled pairs: {\"id\", \"query\": {item}, \"positive\": {item}, \"negatives\": [items]}", isRequired: true),
    .init("--min-cosine", "X", "mean cosine of an item's two vectors, at least (default 0.97)"),
    .init("--min-overlap", "X", "share of the reference's first 10 documents found again, at least (default 0.75)"),
    .init("--max-recall-drop", "X", "how much P@1 and recall@10 may fall (default 0.02)"),
    .init("--report", "R.html", "also write a page with plots"),
    Command.profile,
    .init("--no-cache", nil, "do not keep or use reference embeddings"),
    Command.json, Command.force,
  ] + Command.modelOptions,
  discussion: """
    Embeds all queries, positives and negatives with both models, searches every query among all documents, and compares:
    vectors (cosine, angle, relative error), rankings (P@1, recall, overlap, rank correlation), and the mixed index, where the
    candidate's queries search the reference's documents. Exit code 0 when every check passes, 1 when one fails.
    With --profile the candidate is fed as another program would feed it: what its users lose beside the model's own way.
    The reference's embeddings are kept in REF.llv.cache/ and used again while model and data are the same.
    """
) { (arguments) throws(Failure) in
  let options = try LoadedModel.Options(arguments)
  var thresholds = FidelityReport.Thresholds()
  thresholds.cosine = try arguments.number("--min-cosine", in: -1...1) ?? thresholds.cosine
  thresholds.overlap = try arguments.number("--min-overlap", in: 0...1) ?? thresholds.overlap
  thresholds.recallDrop = try arguments.number("--max-recall-drop", in: 0...1) ?? thresholds.recallDrop
  let dataPath = try arguments.required("--data")
  let page = try arguments["--report"].map { (path) throws(Failure) in
    try OutputFile(path, isReplacing: arguments.has("--force"))
  }
  var pairs = try Pair.read(dataPath)
  if let profile = options.profile {
    let all = pairs.count
    pairs.removeAll { pair in ([pair.query, pair.positive] + pair.negatives).contains { $0.video != nil } }
    guard !pairs.isEmpty else {
      throw Failure(.usage, "every pair has a video, which \(profile.rawValue) does not take")
    }
    if pairs.count < all {
      Output.complain(
        "note: \(all - pairs.count) of \(all) pairs have videos, which \(profile.rawValue) does not take: left out")
    }
  }
  let data = VerifyData(pairs, folder: directory(of: dataPath))
  let referencePath = try arguments.required("--reference")
  let candidate = try LoadedModel(arguments.positionals[0], options)
  var own = options
  own.profile = nil
  let reference = try LoadedModel(referencePath, own)
  let cache =
    arguments.has("--no-cache") ? nil : VectorCache(beside: referencePath, width: reference.embedder.width)
  let referenceVectors = try data.vectors(reference, "reference", cache: cache)
  let candidateVectors = try data.vectors(candidate, "candidate", cache: nil)
  Progress.clear()
  let report = try FidelityReport(
    candidate: (
      fileName(arguments.positionals[0]) + (options.profile.map { " in \($0.rawValue)" } ?? ""), candidateVectors
    ),
    reference: (fileName(referencePath), referenceVectors),
    data: fileName(dataPath), labels: data.labels, items: data.items.map { ($0.id, $0.item.shown) },
    thresholds: thresholds, threads: options.threads)
  try page?.write(Array(report.html { data.pictures($0) }.utf8))
  try page?.commit()
  if arguments.has("--json") { Output.print(report.json) } else { Output.print(report.text) }
  if let profile = options.profile {
    for line in profile.differences { Output.complain("\(profile.rawValue): \(line)") }
  }
  if let path = arguments["--report"] { Output.complain("report: \(path)") }
  return report.passes ? 0 : 1
}

extension Item {
  /// The item in a line for people.
  fileprivate var shown: String {
    ([text, instruction].compactMap { $0 } + images + [video].compactMap { $0 }).joined(separator: " · ")
  }
}

private func fileName(_ path: String) -> String { path.split(separator: "/").last.map(String.init) ?? path }

/// Pairs laid out for searching: queries, then documents (positives, then negatives), and who should find whom.
private struct VerifyData {
  var items: [(id: String, item: Item)] = []
  let queryCount: Int
  var labels: [Retrieval.Label] = []
  let folder: String

  /// A document that several pairs name is in the index once.
  init(_ pairs: [Pair], folder: String) {
    self.folder = folder
    queryCount = pairs.count
    let names = pairs.enumerated().map { $0.element.id ?? "line \($0.offset + 1)" }
    items = zip(names, pairs).map { ($0, $1.query) }
    var places: [Item: Int] = [:]
    func place(_ document: Item, _ name: String) -> Int {
      var document = document
      document.id = nil
      if let place = places[document] { return place }
      places[document] = items.count - queryCount
      items.append((name, document))
      return items.count - 1 - queryCount
    }
    // Positives first: of equally similar documents the earlier counts as found.
    let positives = zip(names, pairs).map { place($1.positive, "\($0), positive") }
    for (index, pair) in pairs.enumerated() {
      let negatives = pair.negatives.enumerated().map { place($1, "\(names[index]), negative \($0 + 1)") }
      labels.append(.init(positive: positives[index], negatives: negatives))
    }
  }

  func vectors(_ model: LoadedModel, _ what: String, cache: VectorCache?) throws(Failure) -> FidelityReport.Vectors {
    let progress = Progress("embedding, \(what)", of: items.count)
    let embedded = try model.embed(items.map(\.item), folder: folder, cache: cache) { progress.show($0) }
    model.complain(ofCuts: embedded.count { $0.cut > 0 }, of: items.count)
    let width = model.embedder.width
    var values: [Float] = []
    values.reserveCapacity(items.count * width)
    for (item, embedded) in zip(items, embedded) {
      switch embedded.result {
      case .success(let vector): values += vector
      case .failure(let failure): throw failure.about("item \(Failure.quoted(item.id))")
      }
    }
    return FidelityReport.Vectors(
      queries: Embeddings(width: width, values: Array(values[..<(queryCount * width)])),
      documents: Embeddings(width: width, values: Array(values[(queryCount * width)...])))
  }

  /// The pictures of an item, for the report's list of the worst.
  func pictures(_ index: Int) -> [FidelityReport.Picture] {
    let item = items[index].item
    let names = item.images.map { ($0, "image") } + (item.video.map { [($0, "video")] } ?? [])
    return names.compactMap { name, kind in
      guard let file = try? InputFile(Item.path(name, in: folder)),
        let bytes = try? file.all(limit: FidelityReport.Picture.limit, what: kind)
      else { return nil }
      return FidelityReport.Picture(isVideo: kind == "video", bytes: bytes)
    }
  }
}

extension FidelityReport {
  /// The report for a terminal.
  fileprivate var text: String {
    var lines = [
      "\(passes ? "PASS" : "FAIL")  \(candidate) against \(reference) on \(own.rank.count) queries, \(documents) documents",
      "",
    ]
    for check in checks {
      let bound = check.isLowerBound ? "at least" : "at most"
      lines.append(
        "  \(check.passes ? "ok  " : "FAIL")  \(check.name.padded(38))  \(check.value.fixed(4).padded(9))  \(bound) \(check.threshold.fixed(4))"
      )
    }
    lines.append("")
    let cosine = closeness.cosine
    lines.append(
      "  cosine            mean \(cosine.mean.fixed(5))  worst 1 % \(cosine.lowest1.fixed(5))  worst \(cosine.least.fixed(5))"
    )
    lines.append("  angle             mean \(closeness.angle.mean.fixed(2))°  worst \(closeness.angle.most.fixed(2))°")
    lines.append(
      "  relative error    mean \(closeness.relativeError.mean.fixed(4))  worst \(closeness.relativeError.most.fixed(4))"
    )
    lines.append("  rank correlation  \(rankCorrelation.fixed(4))")
    lines.append("")
    lines.append("  retrieval     P@1     recall@5  recall@10  overlap@10")
    for (name, run) in [("reference", baseline), ("candidate", own), ("mixed index", mixed)] {
      let cells = [run.recall(at: 1), run.recall(at: 5), run.recall(at: 10), run.overlap(with: baseline)].map {
        $0.fixed(4)
      }
      let negatives = run.negativesBeaten.map { "  beats own negatives \($0.fixed(4))" } ?? ""
      lines.append("  \(name.padded(12))  \(cells[0])  \(cells[1])    \(cells[2])     \(cells[3])\(negatives)")
    }
    lines.append("")
    lines.append("  moved furthest:")
    for item in worst.prefix(5) {
      lines.append("  \(item.cosine.fixed(4))  \(Failure.quoted(item.id))  \(Failure.quoted(item.text))")
    }
    return lines.joined(separator: "\n")
  }
}
