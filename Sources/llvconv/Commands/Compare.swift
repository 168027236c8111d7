import Bytes
import Fidelity
import Inputs
import LLVConv

let compareCommand = Command(
  name: "compare",
  abstract: "Checks an existing index: does it still work with vectors of another encoder? From .npy files alone.",
  positionals: ["[DOCUMENTS.npy]"],
  options: [
    .init("--index", "OLD.npy", "the index as it is: the reference's vectors of the documents", isRequired: true),
    .init("--queries", "Q.npy", "the candidate's vectors of some queries", isRequired: true),
    .init("--reference-queries", "OLDQ.npy", "the reference's vectors of the same queries", isRequired: true),
    .init("--metric", "cosine|ip|l2", "what the index ranks by (default cosine)"),
    .init("--paired", nil, "query i should find document i; otherwise what the reference finds first"),
    .init("--query-items", "FILE", "ids and texts for the report: item lines (.jsonl), or a text a line (.txt)"),
    .init("--document-items", "FILE", "the same of the documents"),
    Command.json, Command.force, Command.threads,
  ] + Command.thresholdOptions,
  discussion: """
    Queries alone suffice to tell whether an index still works: they are searched in it beside the queries that it was made
    for. With DOCUMENTS.npy, the candidate's vectors of the same documents row by row, an index made anew is compared too.
    Files are Float32 or Float16 of two dimensions in C order, as embed and NumPy write them. They are read block by block, so
    they may be larger than memory. Exit codes are those of verify. Cost: queries x documents x width products, twice; four
    times with DOCUMENTS.npy.
    """
) { (arguments) throws(Failure) in
  let threads = try arguments.threads()
  let thresholds = try FidelityReport.Thresholds(arguments)
  var scope = FidelityReport.Scope()
  scope.hasModels = false
  scope.isLabelled = arguments.has("--paired")
  scope.hasOwnIndex = !arguments.positionals.isEmpty
  scope.metric = try arguments.choice("--metric", Metric.allCases.map(\.rawValue)).flatMap(Metric.init) ?? .cosine
  let page = try arguments.output("--report")
  let (indexPath, queryPath) = (try arguments.required("--index"), try arguments.required("--queries"))
  let documentPath = arguments.positionals.first ?? indexPath
  let candidate = try vectors(documents: documentPath, queries: queryPath)
  let reference = try vectors(documents: indexPath, queries: try arguments.required("--reference-queries"))
  for (a, b, path) in [
    (reference.documents, candidate.documents, documentPath), (reference.queries, candidate.queries, queryPath),
  ] where a.count != b.count || a.width != b.width {
    throw Failure(
      .malformed, "the candidate's vectors are \(b.count) × \(b.width), the reference's \(a.count) × \(a.width)",
      file: path)
  }
  let items = try CompareItems(arguments, reference)
  let progress = Progress("searching", of: 100)
  let labels: [Retrieval.Label]
  if scope.isLabelled {
    guard reference.queries.count <= reference.documents.count else {
      throw Failure(.usage, "--paired needs a document for each of \(reference.queries.count) queries")
    }
    labels = (0..<reference.queries.count).map { Retrieval.Label(positive: $0, negatives: []) }
  } else {
    labels = try firstFound(reference, scope.metric, threads: threads) { progress.show(Int($0 * 20)) }
  }
  let report = try FidelityReport(
    candidate: (.init(fileName(scope.hasOwnIndex ? documentPath : queryPath)), candidate),
    reference: (.init(fileName(indexPath)), reference), data: fileName(queryPath), labels: labels, scope: scope,
    items: items.all, thresholds: thresholds, threads: threads
  ) { progress.show(20 + Int($0 * 80)) }
  Progress.clear()
  try page?.write(Array(FidelityReport.page([report], facts: Program.facts()).utf8))
  try page?.commit()
  Output.print(arguments.has("--json") ? report.json.text(pretty: true) : report.text)
  return exitCode([report])
}

/// What the reference finds first, as what each query should find.
private func firstFound(
  _ reference: FidelityReport.Vectors, _ metric: Metric, threads: Int, progress: (Double) -> Void
) throws(Failure) -> [Retrieval.Label] {
  let any = [Retrieval.Label](repeating: .init(positive: 0, negatives: []), count: reference.queries.count)
  let found = try Retrieval.run(
    queries: reference.queries.ranked(by: metric, isQuery: true),
    documents: reference.documents.ranked(by: metric, isQuery: false), labels: any, threads: threads,
    progress: progress)
  return found.top.map { Retrieval.Label(positive: $0.first ?? 0, negatives: []) }
}

/// What is known of the rows: queries, then documents; nothing where nobody said.
private struct CompareItems {
  let all: [FidelityReport.Item]

  init(_ arguments: Arguments, _ vectors: FidelityReport.Vectors) throws(Failure) {
    guard arguments.has("--query-items") || arguments.has("--document-items") else {
      all = []
      return
    }
    all =
      try CompareItems.read(arguments["--query-items"], vectors.queries.count, "query")
      + CompareItems.read(arguments["--document-items"], vectors.documents.count, "document")
  }

  private static func read(_ path: String?, _ count: Int, _ what: String) throws(Failure) -> [FidelityReport.Item] {
    guard let path else { return (0..<count).map { .init(id: "\(what) \($0)", text: "") } }
    let items = try path.hasSuffix(".txt") ? lines(path) : DataFile.open(path).items
    guard items.count == count else {
      throw Failure(.malformed, "\(items.count) items for \(count) vectors", file: path)
    }
    return items.enumerated().map { place, item in
      FidelityReport.Item(id: item.id ?? "\(what) \(place)", text: item.shown, kind: item.kind)
    }
  }
}

/// A text a line.
private func lines(_ path: String) throws(Failure) -> [Item] {
  let bytes = try InputFile(path).all(limit: 1 << 32, what: "texts")
  return bytes.split(separator: 10).map { Item(text: String(decoding: $0, as: UTF8.self)) }
}

private func vectors(documents: String, queries: String) throws(Failure) -> FidelityReport.Vectors {
  let vectors = FidelityReport.Vectors(
    queries: try Embeddings(numPy: queries), documents: try Embeddings(numPy: documents))
  guard vectors.queries.width == vectors.documents.width else {
    throw Failure(
      .malformed, "queries have \(vectors.queries.width) columns, documents \(vectors.documents.width)", file: queries)
  }
  return vectors
}
