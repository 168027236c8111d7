import Bytes
import Calibration
import Fidelity
import LLVConv

let adaptCommand = Command(
  name: "adapt",
  abstract: "Finds the simplest map from a new encoder's vectors into an old index, and says whether it suffices.",
  positionals: ["NEW.npy"],
  options: [
    .init("--to", "OLD.npy", "vectors of the same items row by row, as the index has them", isRequired: true),
    Command.output,
    .init("--dense", "FOLDER", "also write the map as a Dense module of sentence-transformers"),
    .init("--held-out", "SHARE", "rows that the map is judged on and not fitted on (default 0.2)"),
    .init("--queries", "Q.npy", "judge by queries instead: the new encoder's vectors of them"),
    .init("--reference-queries", "OLDQ.npy", "the old encoder's vectors of the same queries"),
    .init(
      "--index", "INDEX.npy",
      "what queries search: the old index, whose items are not embedded again (default OLD.npy)"),
    .init("--paired", nil, "query i should find row i of the index; otherwise what the old encoder finds first"),
    Command.json, Command.force, Command.dryRun, Command.threads,
  ] + Command.thresholdOptions,
  discussion: """
    Some thousand items, embedded by both encoders, tell how one space lies in the other: by a rotation, or by an affine
    map of all or fewer dimensions. The map that comes nearest on rows that it was not fitted on is taken. New queries
    go through the map into the old index, and documents are not embedded again. MAP.npy is float32 [columns of NEW + 1,
    columns of OLD]: a vector x becomes x M + b, brought to length 1, where b is the last row.

    The map is judged on the rows held out (they search the others, and should find what their old vectors find), or on
    queries. The report is compare's, of mapped queries in the old index, and so are the exit codes: 1 means that the
    map does not suffice. Vectors' angles are judged only with --min-cosine, rankings' overlap only with --min-overlap.
    """,
  examples: ["llvconv adapt new-documents.npy --to old-documents.npy -o map.npy --report report.html"]
) { (arguments) throws(Failure) in
  let threads = try arguments.threads()
  var thresholds = try FidelityReport.Thresholds(arguments)
  thresholds.cosine = thresholds.cosine ?? -1
  thresholds.overlap = thresholds.overlap ?? 0
  let (newPath, oldPath) = (arguments.positionals[0], try arguments.required("--to"))
  let (new, old) = (try Embeddings(numPy: newPath), try Embeddings(numPy: oldPath))
  guard new.count == old.count else {
    throw Failure(
      .malformed, "has \(new.count) rows, \(fileName(oldPath)) \(old.count): rows of both are the same items",
      file: newPath)
  }
  let trial = try BridgeTrial(arguments, new: new, old: old)
  let output = try arguments.requiredOutput("-o")
  let page = try arguments.output("--report")
  let map = try IndexMap.fit(new: new, old: old, rows: trial.fitted)
  let bridge = try Bridge(map, trial, thresholds, names: (fileName(newPath), fileName(oldPath)), threads: threads)
  try output.write(map.numPyFile)
  try output.commit()
  if let path = arguments["--dense"] { try map.writeDense(to: path) }
  try page?.write(Array(FidelityReport.page([bridge.report], facts: Program.facts()).utf8))
  try page?.commit()
  Output.print(arguments.has("--json") ? bridge.json.text(pretty: true) : bridge.text)
  if bridge.report.verdict == .pass {
    Output.next("send new queries through \(arguments["-o"] ?? "MAP.npy"): x M + b, length 1; documents stay")
  }
  return exitCode([bridge.report])
}

/// What a map is fitted on and what it is judged by.
private struct BridgeTrial {
  /// Rows of both encoders.
  let fitted: [Int]
  /// What searches: by the new encoder, by the old one; and what is searched.
  let queries, referenceQueries, documents: Embeddings
  /// Whether row i of the documents is what query i should find; otherwise what the old encoder finds first.
  let isPaired: Bool
  let what: String

  private static let mostQueries = 5_000
  private static let mostDocuments = 100_000

  init(_ arguments: Arguments, new: Embeddings, old: Embeddings) throws(Failure) {
    let share = try arguments.number("--held-out", in: 0.01...0.9) ?? 0.2
    // Spread over the file, which may be sorted.
    func isHeldOut(_ row: Int) -> Bool { Int(Double(row + 1) * share) > Int(Double(row) * share) }
    let rows = 0..<new.count
    isPaired = arguments.has("--paired")
    guard let path = arguments["--queries"], let referencePath = arguments["--reference-queries"] else {
      for name in ["--queries", "--reference-queries", "--index", "--paired"] where arguments.has(name) {
        throw Failure(.usage, "\(name) is for a trial by queries: --queries with --reference-queries")
      }
      fitted = rows.filter { !isHeldOut($0) }
      let held = BridgeTrial.spread(rows.filter(isHeldOut), BridgeTrial.mostQueries)
      guard !held.isEmpty else { throw Failure(.usage, "no row of \(new.count) is held out: --held-out asks for more") }
      queries = Embeddings(width: new.width, values: try new.rows(at: held))
      referenceQueries = Embeddings(width: old.width, values: try old.rows(at: held))
      let others = BridgeTrial.spread(fitted, BridgeTrial.mostDocuments)
      documents = Embeddings(width: old.width, values: try old.rows(at: others))
      what = "rows held out"
      return
    }
    guard !arguments.has("--held-out") else {
      throw Failure(.usage, "--held-out is for rows that judge; here queries do")
    }
    (queries, referenceQueries) = (try Embeddings(numPy: path), try Embeddings(numPy: referencePath))
    guard queries.count == referenceQueries.count, queries.width == new.width, referenceQueries.width == old.width
    else {
      throw Failure(
        .malformed,
        "queries are \(queries.count) × \(queries.width) and \(referenceQueries.count) × "
          + "\(referenceQueries.width); as many of both, as wide as the rows (\(new.width), \(old.width)), are wanted",
        file: path)
    }
    let index = try arguments["--index"].map { (path) throws(Failure) in try Embeddings(numPy: path) }
    documents = index ?? old
    guard documents.width == old.width else {
      throw Failure(
        .malformed, "the index has \(documents.width) columns, \(old.width) are those of --to",
        file: arguments["--index"] ?? path)
    }
    guard !isPaired || queries.count <= documents.count else {
      throw Failure(.usage, "--paired needs a document for each of \(queries.count) queries")
    }
    fitted = Array(rows)
    what = "queries"
  }

  /// At most `most` of some places, evenly spread.
  private static func spread(_ places: [Int], _ most: Int) -> [Int] {
    places.count <= most ? places : (0..<most).map { places[$0 * places.count / most] }
  }
}

/// A map at work: mapped queries in the old index, beside old queries and new ones as they are.
private struct Bridge {
  let map: IndexMap
  let report: FidelityReport
  private let fitted: Int
  private let what: String
  /// What new queries find in the old index without the map.
  private let before: Retrieval.Run
  /// Share of the first ten's lost recall that the map brings back; nil where nothing was lost.
  private let regained: Estimate?

  init(
    _ map: IndexMap, _ trial: BridgeTrial, _ thresholds: FidelityReport.Thresholds,
    names: (new: String, old: String), threads: Int
  ) throws(Failure) {
    (self.map, fitted, what) = (map, trial.fitted.count, trial.what)
    let reference = FidelityReport.Vectors(queries: trial.referenceQueries, documents: trial.documents)
    let mapped = FidelityReport.Vectors(queries: try map.mapped(trial.queries), documents: trial.documents)
    var scope = FidelityReport.Scope()
    (scope.hasModels, scope.hasOwnIndex, scope.isLabelled, scope.metric) = (false, false, trial.isPaired, .cosine)
    let labels =
      trial.isPaired
      ? (0..<trial.queries.count).map { Retrieval.Label(positive: $0, negatives: []) }
      : try firstFound(reference, scope, threads: threads) { _ in }
    report = try FidelityReport(
      candidate: (.init(names.new + ", mapped"), mapped), reference: (.init(names.old), reference), data: trial.what,
      labels: labels, scope: scope, items: [], thresholds: thresholds, threads: threads)
    let documents = trial.documents.ranked(by: .cosine, isQuery: false)
    // Vectors of another width find nothing at all.
    before =
      trial.queries.width == trial.documents.width
      ? try Retrieval.run(
        queries: trial.queries.ranked(by: .cosine, isQuery: true), documents: documents, labels: labels,
        threads: threads)
      : Retrieval.Run(findingNothing: labels.count)
    let (was, now, lost) = (report.baseline.hits(at: 10), report.mixed.hits(at: 10), before.hits(at: 10))
    regained = Estimate(ratio: zip(now, lost).map { $0 - $1 }, to: zip(was, lost).map { $0 - $1 })
  }

  var text: String {
    let name = report.scope.isLabelled ? "recall@10" : "first found among the first 10"
    let end =
      regained.map {
        "\(Headline.percent($0.value)) [\(Headline.percent($0.low)), \(Headline.percent($0.high))] of what was lost"
      } ?? "nothing was lost: no map is needed"
    let numbers = [("old", report.baseline), ("new", before), ("new, mapped", report.mixed)].map { name, run in
      "\(run.recall(at: 10).fixed(4)) \(name)"
    }
    let lines = [
      sentence, "",
      "  map       \(map.family); \(map.inputs) to \(map.outputs) columns, fitted on \(fitted) rows",
      "  trial     \(report.own.rank.count) \(what) among \(report.documents): \(name)",
      "            \(numbers.joined(separator: ", "))", "  regained  \(end)",
      "  cosine    mean \(report.closeness.cosine.mean.fixed(4)), worst 1 % "
        + "\(report.closeness.cosine.lowest1.fixed(4))",
      "",
    ]
    return (lines + report.checkLines(.index) + report.remarks.map { "But: " + $0.text }).joined(separator: "\n")
  }

  private var sentence: String {
    switch report.verdict {
    case .pass: "The map suffices: documents need not be embedded again."
    case .fail: "The map does not suffice: embed the documents again."
    case .inconclusive: "These rows cannot say whether the map suffices."
    }
  }

  var json: JSONText {
    report.json.adding([
      (
        "map",
        [
          "family": .string(map.family.description), "inputs": .int(map.inputs), "outputs": .int(map.outputs),
          "fitted_rows": .int(fitted), "recall_at_10_without": .number(before.recall(at: 10)),
          "regained": regained?.json ?? .null,
        ]
      )
    ])
  }
}

extension IndexMap {
  /// The map as a module of sentence-transformers: a folder with its configuration and a linear layer.
  fileprivate func writeDense(to path: String) throws(Failure) {
    let config: JSONText = [
      "in_features": .int(inputs), "out_features": .int(outputs), "bias": .bool(true),
      "activation_function": .string("torch.nn.modules.linear.Identity"),
    ]
    let (weight, bias) = (4 * inputs * outputs, 4 * outputs)
    func tensor(_ shape: [Int], _ from: Int, _ to: Int) -> JSONText {
      [
        "dtype": .string("F32"), "shape": .array(shape.map(JSONText.int)),
        "data_offsets": .array([.int(from), .int(to)]),
      ]
    }
    let header: JSONText = [
      "linear.bias": tensor([outputs], 0, bias), "linear.weight": tensor([outputs, inputs], bias, bias + weight),
    ]
    var text = header.bytes()
    text += [UInt8](repeating: UInt8(ascii: " "), count: (8 - text.count % 8) % 8)
    let directory = try OutputDirectory(path)
    try directory.write("config.json", config.bytes(pretty: true))
    try directory.write(
      "model.safetensors", withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) } + text + linearLayer)
    try directory.commit()
  }
}
