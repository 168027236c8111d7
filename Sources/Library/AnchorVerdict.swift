import Bytes
import Fidelity
import Formats
import Inputs

/// Holds candidates to anchors.
struct AnchorVerdict {
  private let path: String
  private let anchors: AnchorFile
  private let thresholds: FidelityReport.Thresholds
  private let outputs: [VectorForm]
  private let threads: Int

  init(_ path: String, _ arguments: Arguments) throws(Failure) {
    self.path = path
    anchors = try AnchorFile(path)
    threads = try arguments.threads()
    outputs = try arguments.outputs()
    for form in outputs { try form.check(columns: anchors.width) }
    var thresholds = try FidelityReport.Thresholds(arguments)
    for (name, value) in anchors.thresholds where !arguments.has("--" + name) {
      switch name {
      case "min-cosine": thresholds.cosine = value
      case "min-overlap": thresholds.overlap = value
      case "max-recall-drop": thresholds.recallDrop = value
      default: break
      }
    }
    self.thresholds = thresholds
  }

  /// What a candidate makes of all anchors.
  struct Found {
    var subject: FidelityReport.Subject
    var width: Int
    /// `[anchors, width]`.
    var vectors: [Float]
    var causes: [Diagnosis.Cause] = []
  }

  // MARK: Candidates

  func found(_ model: LoadedModel) throws(Failure) -> Found {
    let items = try anchors.items.map { (anchor) throws(Failure) in
      Item(
        text: anchor.text,
        pictures: try anchor.pictures.map { (place) throws(Failure) in .encoded(try anchors.pictures[place].bytes()) },
        instruction: anchor.instruction)
    }
    let progress = Progress("embedding", of: items.count)
    let embedded = try model.embed(items, folder: "") { progress.show($0) }
    var values: [Float] = []
    for (anchor, embedded) in zip(anchors.items, embedded) {
      if case .failure(let failure) = embedded.result { throw failure.about("anchor \(Failure.quoted(anchor.id))") }
      values += try embedded.result.get()
    }
    var subject = FidelityReport.Subject(fileName(model.file.path))
    subject.bytes = model.file.bytes
    subject.facts = [("checksum", String(model.file.checksum, radix: 16))]
    return Found(subject: subject, width: model.embedder.width, vectors: values)
  }

  /// Vectors in the order of the anchors.
  func found(vectors path: String) throws(Failure) -> Found {
    let vectors = try Embeddings(numPy: path)
    guard vectors.count == anchors.items.count else {
      throw Failure(
        .malformed,
        "has \(vectors.count) rows, the anchors are \(anchors.items.count): one for each, in the order that "
          + "llvconv anchors \(self.path) --items writes", file: path)
    }
    var subject = FidelityReport.Subject(fileName(path))
    subject.facts = [("vectors", "\(vectors.count) × \(vectors.width)")]
    return Found(subject: subject, width: vectors.width, vectors: try vectors.rows(0..<vectors.count))
  }

  /// - Parameter sendsPrompts: whether texts are sent with the reference's prompts before them.
  func found(_ endpoint: Endpoint, sendsPrompts: Bool) throws(Failure) -> Found {
    let inputs = try anchors.items.map { (anchor) throws(Failure) in
      Endpoint.Input(
        text: sendsPrompts ? anchor.sent : anchor.text,
        pictures: try anchor.pictures.map { (place) throws(Failure) in try anchors.pictures[place].bytes() })
    }
    let progress = Progress("asking \(endpoint.host)", of: inputs.count)
    let rows = try endpoint.embed(inputs) { progress.show($0) }
    var result = Found(
      subject: FidelityReport.Subject(endpoint.host), width: rows[0].count, vectors: rows.flatMap { $0 })
    result.subject.facts = [("endpoint", endpoint.description)]
    if let cause = try AnchorVerdict.batchCause(endpoint, inputs, rows) { result.causes.append(cause) }
    return result
  }

  /// Asks again for some inputs alone: an answer must not depend on what is asked beside it.
  private static func batchCause(
    _ endpoint: Endpoint, _ inputs: [Endpoint.Input], _ rows: [[Float]]
  ) throws(Failure) -> Diagnosis.Cause? {
    let texts = inputs.indices.filter { inputs[$0].pictures.isEmpty }
    // Beside long texts short ones suffer most.
    let chosen = texts.sorted { (inputs[$0].text?.utf8.count ?? 0, $0) < (inputs[$1].text?.utf8.count ?? 0, $1) }
    var (worst, count, asked) = (0.0, 0, 0)
    for place in chosen.prefix(4) + chosen.suffix(min(4, max(0, chosen.count - 4))) {
      let alone = try endpoint.embed([inputs[place]]) { _ in }[0]
      // What is not finite is a finding of its own.
      guard alone.count == rows[place].count, rows[place].allSatisfy(\.isFinite) else { continue }
      asked += 1
      let distance =
        1
        - (try Closeness([
          (Embeddings(width: alone.count, values: alone), Embeddings(width: alone.count, values: rows[place]))
        ]).cosines[0] ?? -1)
      worst = max(worst, distance)
      if distance > 0.001 { count += 1 }
    }
    guard count > 0 else { return nil }
    return Diagnosis.Cause(
      name: "depends-on-batch",
      text: "an answer depends on what is asked beside it: \(count) of \(asked) texts get another vector "
        + "alone (cosine down to \((1 - worst).fixed(4)))")
  }

  // MARK: Verdict

  func report(_ found: Found, progress: (Double) -> Void) throws(Failure) -> FidelityReport {
    let width = anchors.width
    let diagnosis = Diagnosis(
      reference: anchors.vectors, width: width, candidate: found.vectors, ownWidth: found.width,
      faults: anchors.faults.map {
        .init(name: $0.name, words: $0.words, rows: anchors.faultRows, vectors: $0.vectors)
      })
    // Coarser arithmetic is what is left when nothing else explains what was seen.
    let isRest = { (cause: Diagnosis.Cause) in cause.name == "coarser" }
    let causes =
      diagnosis.causes.filter { !isRest($0) } + found.causes + diagnosis.causes.filter(isRest)
    // Columns that are missing count as zeros, surplus ones not at all.
    let candidate = found.width == width ? found.vectors : found.vectors.columns(from: found.width, to: width)
    let queries = anchors.items.indices.filter { anchors.items[$0].role == .sample }
    let index = Embeddings(width: width, values: anchors.index)
    func part(_ values: [Float], _ places: [Int]) -> Embeddings {
      Embeddings(width: width, values: places.flatMap { values[$0 * width..<($0 + 1) * width] })
    }
    var scope = FidelityReport.Scope()
    (scope.hasModels, scope.hasOwnIndex, scope.isLabelled) = (found.subject.bytes != nil, false, anchors.isLabelled)
    // What is not normalised is a finding of its own, and must not spoil the ranking that it is found by.
    scope.metric = .cosine
    let reference = part(anchors.vectors, queries)
    let labels = try labels(of: queries, reference, index)
    return try FidelityReport(
      candidate: (found.subject, .init(queries: part(candidate, queries), documents: index)),
      reference: (subject, .init(queries: reference, documents: index)), data: fileName(path), labels: labels,
      scope: scope, items: items(queries), outputs: outputs, checks: try checks(found, candidate),
      causes: causes, thresholds: thresholds, threads: threads, progress: progress)
  }

  private var subject: FidelityReport.Subject {
    var name = "reference of \(fileName(path))"
    if case .string(let model)? = anchors.model["name"] { name = model }
    var subject = FidelityReport.Subject(name)
    subject.facts = [
      ("anchors", fileName(path)), ("made by", anchors.madeBy),
      ("drawn from", "\(anchors.data): \(anchors.queries) queries, \(anchors.documents) documents"),
    ]
    if anchors.model != .null { subject.facts.append(("model", anchors.model.text())) }
    return subject
  }

  private func items(_ queries: [Int]) -> [FidelityReport.Item] {
    queries.map { place in
      let anchor = anchors.items[place]
      let kind = anchor.pictures.isEmpty ? "text" : anchor.text == nil ? "image" : "text and image"
      return Item(text: anchor.text ?? "").reported(anchor.id, kind: kind)
    } + anchors.indexNames.map { .init(id: $0.id, text: $0.text) }
  }

  private func labels(
    of queries: [Int], _ reference: Embeddings, _ index: Embeddings
  ) throws(Failure) -> [Retrieval.Label] {
    guard anchors.isLabelled else {
      let any = [Retrieval.Label](repeating: .init(positive: 0, negatives: []), count: queries.count)
      let run = try Retrieval.run(
        queries: reference.ranked(by: .cosine, isQuery: true), documents: index.ranked(by: .cosine, isQuery: false),
        labels: any, threads: threads)
      return run.top.map { .init(positive: $0.first ?? 0, negatives: []) }
    }
    return try queries.map { (place) throws(Failure) in
      guard let positive = anchors.items[place].positive else {
        throw Failure(.malformed, "a query without its positive", file: path, thing: "anchor \(place)")
      }
      return .init(positive: positive, negatives: anchors.items[place].negatives)
    }
  }

  /// What queries by lot do not show: other anchors' angles, and what must hold for every vector.
  private func checks(_ found: Found, _ candidate: [Float]) throws(Failure) -> [FidelityReport.Check] {
    let closeness = try Closeness([
      (Embeddings(width: anchors.width, values: anchors.vectors), Embeddings(width: anchors.width, values: candidate))
    ])
    var checks: [FidelityReport.Check] = []
    for (role, name) in [(AnchorFile.Role.hard, "telling queries"), (.document, "documents")] {
      let cosines = anchors.items.indices.filter { anchors.items[$0].role == role }.map { closeness.cosines[$0] ?? -1 }
      guard !cosines.isEmpty else { continue }
      checks.append(
        .init(
          name: "mean cosine, \(name)", estimate: Estimate(mean: cosines), threshold: thresholds.cosine ?? 0.97,
          isLowerBound: true))
    }
    func none(_ name: String, _ count: Int) -> FidelityReport.Check {
      .init(name: name, estimate: Estimate(mean: [Double(count)]), threshold: 0, isLowerBound: false)
    }
    return checks + [
      none("columns missing or surplus", abs(found.width - anchors.width)),
      none("vectors of another length", closeness.lengths.count { !(abs(($0 ?? 1) - 1) < 0.02) }),
      none("answers that depend on others", found.causes.count { $0.name == "depends-on-batch" }),
    ]
  }
}

extension [Float] {
  /// Rows of another width: cut, or with zeros behind them.
  fileprivate func columns(from old: Int, to new: Int) -> [Float] {
    let kept = Swift.min(old, new)
    return stride(from: 0, to: count, by: old).flatMap { start in
      self[start..<start + kept] + [Float](repeating: 0, count: new - kept)
    }
  }
}
