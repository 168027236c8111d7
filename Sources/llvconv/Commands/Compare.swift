import Bytes
import Fidelity

let compareCommand = Command(
  name: "compare",
  abstract: "Says of vectors in .npy files what verify says of models: for indexes that are there already.",
  positionals: ["DOCUMENTS.npy"],
  options: [
    .init("--reference", "OLD.npy", "the reference's vectors of the same documents, row by row", isRequired: true),
    .init("--queries", "Q.npy", "the candidate's vectors of some queries", isRequired: true),
    .init("--reference-queries", "OLDQ.npy", "the reference's vectors of the same queries", isRequired: true),
    .init("--paired", nil, "query i should find document i; otherwise what the reference finds first"),
    Command.json, Command.force, Command.threads,
  ] + Command.thresholdOptions,
  discussion: """
    Files are Float32 of two dimensions in C order, as embed and NumPy write them. They are read block by block, so they may be larger
    than memory. Exit codes are those of verify. Cost: queries · documents · width products, four times.
    """
) { (arguments) throws(Failure) in
  let threads = try arguments.threads()
  let thresholds = try FidelityReport.Thresholds(arguments)
  let page = try arguments["--report"].map { (path) throws(Failure) in
    try OutputFile(path, isReplacing: arguments.has("--force"))
  }
  let path = arguments.positionals[0]
  let candidate = try vectors(documents: path, queries: try arguments.required("--queries"))
  let oldPath = try arguments.required("--reference")
  let reference = try vectors(documents: oldPath, queries: try arguments.required("--reference-queries"))
  for (a, b) in [(reference.documents, candidate.documents), (reference.queries, candidate.queries)]
  where a.count != b.count || a.width != b.width {
    throw Failure(
      .malformed, "the candidate's vectors are \(b.count) × \(b.width), the reference's \(a.count) × \(a.width)",
      file: path)
  }
  let progress = Progress("searching", of: 100)
  var labels = (0..<reference.queries.count).map { Retrieval.Label(positive: $0, negatives: []) }
  if arguments.has("--paired") {
    guard labels.count <= reference.documents.count else {
      throw Failure(.usage, "--paired needs a document for each of \(labels.count) queries")
    }
  } else {
    let any = labels.map { _ in Retrieval.Label(positive: 0, negatives: []) }
    let found = try Retrieval.run(
      queries: reference.queries, documents: reference.documents, labels: any, threads: threads
    ) { progress.show(Int($0 * 20)) }
    labels = found.top.map { Retrieval.Label(positive: $0.first ?? 0, negatives: []) }
  }
  let report = try FidelityReport(
    candidate: (.init(path), candidate), reference: (.init(oldPath), reference),
    data: try arguments.required("--queries"), labels: labels, items: [], thresholds: thresholds, threads: threads
  ) { progress.show(20 + Int($0 * 80)) }
  Progress.clear()
  try page?.write(Array(FidelityReport.page([report], facts: Program.facts()).utf8))
  try page?.commit()
  Output.print(arguments.has("--json") ? report.json.text(pretty: true) : report.text)
  return report.passes ? 0 : 1
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
