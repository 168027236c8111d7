import Bytes
import Fidelity
import Inputs
import LLVConv

let compareCommand = Command(
  name: "compare",
  abstract: "Checks an existing index from .npy files: does it still work with another encoder's vectors?",
  positionals: ["[DOCUMENTS.npy]"],
  options: [
    .init("--index", "OLD.npy", "the index as it is: the reference's vectors of the documents", isRequired: true),
    .init("--queries", "Q.npy", "the candidate's vectors of some queries", isRequired: true),
    .init("--reference-queries", "OLDQ.npy", "the reference's vectors of the same queries", isRequired: true),
    .init("--metric", "cosine|ip|l2", "what the index ranks by (default cosine)"),
    Command.outputs,
    .init("--precision", "int8|binary|ternary", "what bytes in the files are codes of (default int8)"),
    .init("--width", "N", "of an index of codes: it keeps the first N columns"),
    .init("--ranges", "REF.npy", "of int8: the ranges of the index's codes, or the vectors that were coded"),
    .init("--paired", nil, "query i should find document i; otherwise what the reference finds first"),
    .init("--query-items", "FILE", "ids and texts for the report: item lines (.jsonl), or a text a line (.txt)"),
    .init("--document-items", "FILE", "the same of the documents"),
    Command.json, Command.force, Command.dryRun, Command.threads,
  ] + Command.thresholdOptions,
  discussion: """
    Queries alone suffice to tell whether an index still works. They are searched in it, beside the queries of the
    encoder that made it. With DOCUMENTS.npy, the candidate's vectors of the same documents row by row, an index made
    anew is compared too.

    Files are Float32 or Float16 of two dimensions in C order, as embed and NumPy write them. The index may hold codes,
    as embed --precision and sentence-transformers' quantize_embeddings write them: int8, or bits as bytes. Then queries
    are codes too, or floats that are coded here; int8 takes --ranges for that.

    Files are read block by block, so they may be larger than memory. Exit codes are those of verify. Cost: queries x
    documents x width products, twice; four times with DOCUMENTS.npy.
    """,
  examples: ["llvconv compare --index index.npy --queries new-q.npy --reference-queries old-q.npy --report report.html"]
) { (arguments) throws(Failure) in
  let threads = try arguments.threads()
  let thresholds = try FidelityReport.Thresholds(arguments)
  let outputs = try arguments.outputs()
  let page = try arguments.output("--report")
  let (indexPath, queryPath) = (try arguments.required("--index"), try arguments.required("--queries"))
  let documentPath = arguments.positionals.first ?? indexPath
  let form = try arguments.vectorForm()
  func vectors(_ documents: String, _ queries: String) throws(Failure) -> FidelityReport.Vectors {
    let codes = arguments.has("--precision") ? form.precision : nil
    return .init(
      queries: try Embeddings(numPy: queries, codes: codes), documents: try Embeddings(numPy: documents, codes: codes))
  }
  let candidate = try vectors(documentPath, queryPath)
  let reference = try vectors(indexPath, try arguments.required("--reference-queries"))
  for (a, b, path) in [
    (reference.documents, candidate.documents, documentPath), (reference.queries, candidate.queries, queryPath),
  ] where a.count != b.count || a.width != b.width || a.codes != b.codes {
    func words(_ vectors: Embeddings) -> String {
      "\(vectors.count) × \(vectors.width)" + (vectors.codes.map { " codes of \($0.rawValue)" } ?? "")
    }
    throw Failure(
      .malformed, "the candidate's vectors are \(words(b)), the reference's \(words(a))", file: path)
  }
  let scope = try CompareScope(arguments, reference, form: form, outputs: outputs)
  let items = try CompareItems(arguments, reference)
  let progress = Progress("searching", of: 100)
  let labels: [Retrieval.Label]
  if scope.scope.isLabelled {
    guard reference.queries.count <= reference.documents.count else {
      throw Failure(.usage, "--paired needs a document for each of \(reference.queries.count) queries")
    }
    labels = (0..<reference.queries.count).map { Retrieval.Label(positive: $0, negatives: []) }
  } else {
    labels = try firstFound(reference, scope.scope, threads: threads) { progress.show(Int($0 * 20)) }
  }
  let report = try FidelityReport(
    candidate: (.init(fileName(scope.scope.hasOwnIndex ? documentPath : queryPath)), candidate),
    reference: (.init(fileName(indexPath)), reference), data: fileName(queryPath), labels: labels,
    scope: scope.scope, items: items.all, outputs: scope.outputs, ranges: scope.ranges, thresholds: thresholds,
    threads: threads
  ) { progress.show(20 + Int($0 * 80)) }
  Progress.clear()
  try page?.write(Array(FidelityReport.page([report], facts: Program.facts()).utf8))
  try page?.commit()
  Output.print(arguments.has("--json") ? report.json.text(pretty: true) : report.text)
  return exitCode([report])
}

/// What the reference finds first, as what each query should find.
func firstFound(
  _ reference: FidelityReport.Vectors, _ scope: FidelityReport.Scope, threads: Int, progress: (Double) -> Void
) throws(Failure) -> [Retrieval.Label] {
  let any = [Retrieval.Label](repeating: .init(positive: 0, negatives: []), count: reference.queries.count)
  let ranked = scope.ranked(reference, by: scope.metric)
  let found = try Retrieval.run(
    queries: ranked.queries, documents: ranked.documents, labels: any, threads: threads, progress: progress)
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
      item.reported(item.id ?? "\(what) \(place)")
    }
  }
}

/// A text a line.
private func lines(_ path: String) throws(Failure) -> [Item] {
  let bytes = try InputFile(path).all(limit: 1 << 32, what: "texts")
  return bytes.split(separator: 10).map { Item(text: String(decoding: $0, as: UTF8.self)) }
}

/// How an index is searched, and in which other forms.
private struct CompareScope {
  var scope = FidelityReport.Scope()
  var outputs: [VectorForm]
  var ranges: ColumnRanges?

  init(
    _ arguments: Arguments, _ reference: FidelityReport.Vectors, form: VectorForm, outputs: [VectorForm]
  ) throws(Failure) {
    self.outputs = outputs
    scope.hasModels = false
    scope.isLabelled = arguments.has("--paired")
    scope.hasOwnIndex = !arguments.positionals.isEmpty
    let metric = try arguments.choice("--metric", Metric.allCases.map(\.rawValue)).flatMap(Metric.init)
    scope.metric = metric ?? .cosine
    let (queries, documents) = (reference.queries, reference.documents)
    if let path = arguments["--ranges"] { ranges = try ColumnRanges(numPy: path, width: form.width) }
    guard let codes = documents.codes else {
      guard queries.codes == nil, !arguments.has("--precision"), !arguments.has("--width") else {
        throw Failure(
          .usage, "the index holds floats: --outputs says in which other forms it is compared, queries stay floats")
      }
      try CompareScope.checkWidths(queries.width, documents.width, arguments)
      return
    }
    guard metric == nil else { throw Failure(.usage, "an index of codes ranks by their product: leave --metric out") }
    scope.metric = .innerProduct
    guard queries.codes == nil else {
      guard outputs.isEmpty else { throw Failure(.usage, "--outputs takes float queries; these are codes") }
      scope.hasCodedQueries = true
      try CompareScope.checkWidths(queries.width, documents.width, arguments)
      return
    }
    let own = VectorForm(width: form.width, precision: codes)
    guard codes != .int8 || ranges != nil else {
      throw Failure(.usage, "float queries in an index of int8 need its --ranges")
    }
    let coding = try VectorCoding(own, columns: queries.width, ranges: ranges)
    try CompareScope.checkWidths(coding.width, documents.width, arguments)
    scope.coding = coding
    for place in outputs.indices {
      self.outputs[place].width = outputs[place].width ?? form.width
      guard self.outputs[place].precision == codes, self.outputs[place].width == form.width else {
        throw Failure(
          .usage, "the index holds codes of \(own): it has no form \(outputs[place]); \(own)+rescore4 would be one")
      }
    }
  }

  private static func checkWidths(_ queries: Int, _ documents: Int, _ arguments: Arguments) throws(Failure) {
    guard queries == documents else {
      throw Failure(
        .malformed, "queries have \(queries) columns, documents \(documents)", file: try arguments.required("--queries")
      )
    }
  }
}
