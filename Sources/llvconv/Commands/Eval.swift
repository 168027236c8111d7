import Bytes
import Fidelity
import Inputs
import LLVConv
import Tensors

let evalCommand = Command(
  name: "eval",
  abstract: "Scores a model on a benchmark: MMEB's protocol, and text-video retrieval.",
  positionals: ["MODEL"],
  options: [
    .init("--data", "PATH", "a .jsonl file, or a folder of them, one data set each", isRequired: true),
    .init("--no-cache", nil, "do not keep or use embeddings"), Command.strict, Command.json,
    Command.profile, Command.projector,
  ] + Command.formOptions + Command.modelOptions,
  discussion: """
    MODEL is an .llv container, or what import takes: a model folder, a .safetensors or a GGUF file, imported in memory
    on the way. Then no embeddings are kept.

    A data set has lines {"id", "query": item, "candidates": [items or ids]} with the right candidate first
    (precision@1), or {"id", "query": item, "positive": item or id} to search all positives, both ways (recall at 1, 5,
    10, median and mean rank). {"id", "candidate": item} names a candidate for lines below it. Tools/mmeb_to_jsonl.py
    makes such files from MMEB. A query that is bad, or whose right candidate is, is left out and listed; so is any
    other bad candidate.

    Texts are prepared as the authors' evaluation does, unless --spelling verbatim. Embeddings are kept by content in
    MODEL.llv.cache/, so that a job that was stopped goes on where it was. Exit code 1 means that the encoder says
    nearly the same of everything, because ties would then make any score. --width and --precision score vectors as an
    index keeps them: codes by their product, 8-bit ones by the ranges of all items.
    """,
  examples: ["llvconv eval llave-4bit.llv --data mmeb/"]
) { (arguments) throws(Failure) in
  var options = try LoadedModel.Options(arguments)
  if arguments["--spelling"] == nil { options.spelling = .mmeb }
  let path = try arguments.required("--data")
  let form = try arguments.vectorForm()
  var files: [BenchmarkFile] = []
  let isStrict = arguments.has("--strict")
  for (path, name) in try dataSets(path) {
    let file = try BenchmarkFile(path, name: name, isStrict: isStrict)
    file.keys.complain(of: path)
    if file.pairsWithNegatives > 0 {
      Output.note("note: \(path): \(file.pairsWithNegatives) pairs have negatives, which eval does not search")
    }
    files.append(file)
  }
  let folder = isDirectory(path) ? (path.hasSuffix("/") ? path : path + "/") : directory(of: path)
  let model = try LoadedModel(
    ModelFile(arguments.positionals[0], projector: arguments["--mmproj"]), options)
  let cache = arguments.has("--no-cache") ? nil : model.file.cache(width: model.embedder.width)
  var scores: [BenchmarkScore] = []
  var skipped: [SkippedItems] = []
  for file in files {
    let progress = Progress(file.name, of: file.items.count)
    let embedded = try model.embed(file.items, folder: folder, cache: cache) { progress.show($0) }
    Progress.clear()
    model.complain(ofCuts: embedded.count { $0.cut > 0 }, of: file.items.count)
    let (score, bad) = try score(file, embedded, width: model.embedder.width, form: form, isStrict: isStrict)
    bad.complain()
    if !arguments.has("--json") { Output.print(([score.line] + bad.notes).joined(separator: "\n  note: ")) }
    scores.append(score)
    skipped.append(bad)
  }
  let benchmark = Benchmark(scores)
  if arguments.has("--json") {
    Output.print(benchmark.json(skipped))
  } else {
    for mean in benchmark.means {
      Output.print("\(mean.name.padded(28))\((mean.value * 100).fixed(1).padded(8))mean of \(mean.dataSets) data sets")
    }
  }
  guard benchmark.isCollapsed else {
    Output.next("llvconv eval of another candidate with the same --data; their scores compare")
    return 0
  }
  Output.complain("FAIL: the encoder says nearly the same of everything; its scores mean nothing")
  return 1
}

/// The files of a benchmark and what they are called, by name.
private func dataSets(_ path: String) throws(Failure) -> [(path: String, name: String)] {
  func name(_ file: String) -> String {
    let last = file.split(separator: "/").last.map(String.init) ?? file
    return last.hasSuffix(".jsonl") ? String(last.dropLast(6)) : last
  }
  guard isDirectory(path) else { return [(path, name(path))] }
  let names = try fileNames(in: path).filter { $0.hasSuffix(".jsonl") }
  guard !names.isEmpty else { throw Failure(.missing, "no .jsonl file in the directory", file: path) }
  return names.map { (path + "/" + $0, name($0)) }
}

/// The score of what could be embedded, and what could not.
private func score(
  _ file: BenchmarkFile, _ embedded: [LoadedModel.Embedded], width: Int, form: VectorForm, isStrict: Bool
) throws(Failure) -> (BenchmarkScore, SkippedItems) {
  var skipped = SkippedItems(of: embedded.count, isStrict: isStrict)
  var values: [Float] = []
  values.reserveCapacity(embedded.count * width)
  var rows: [Int?] = []
  for (item, embedded) in zip(file.items, embedded) {
    switch embedded.result {
    case .success(let vector):
      rows.append(values.count / width)
      values += vector
    case .failure(let failure):
      rows.append(nil)
      do throws(Failure) {
        try skipped.add(item.name, failure)
      } catch { throw error.about("data set \(file.name)") }
    }
  }
  let queries = file.queries.compactMap { query, candidates -> (query: Int, candidates: [Int])? in
    guard let query = rows[query], let right = rows[candidates[0]] else { return nil }
    return (query, [right] + candidates.dropFirst().compactMap { rows[$0] })
  }
  skipped.pairs = (file.queries.count - queries.count, file.queries.count)
  try skipped.check(left: queries.count)
  let items = Embeddings(width: width, values: values)
  let score =
    switch file.kind {
    case .choice: try BenchmarkScore(name: file.name, task: file.task, items: items, form: form, choices: queries)
    case .search:
      try BenchmarkScore(
        name: file.name, task: file.task, items: items, form: form,
        searches: queries.map { ($0.query, $0.candidates[0]) })
    }
  return (score, skipped)
}

extension BenchmarkScore {
  fileprivate var line: String {
    let warning = isCollapsed ? "  COLLAPSED: mean cosine of two items \(meanCosine.fixed(4))" : ""
    if let accuracy {
      return "\(name.padded(28))\((accuracy * 100).fixed(1).padded(8))\(queries) queries\(warning)"
    }
    func text(_ ranks: Ranks?) -> String {
      guard let ranks else { return "" }
      let recalls = [1, 5, 10].map { (ranks.recall(at: $0) * 100).fixed(1) }.joined(separator: " / ")
      return "R@1/5/10 \(recalls), median rank \(ranks.median.fixed(1)), mean \(ranks.mean.fixed(1))"
    }
    return "\(name.padded(28))\(text(forward))\n\("".padded(28))\(text(backward)) (backward)\(warning)"
  }

  fileprivate var json: JSONText {
    var members: [(String, JSONText)] = [
      ("name", .string(name)), ("task", task.map(JSONText.string) ?? .null), ("queries", .int(queries)),
      ("mean_cosine", .number(meanCosine)), ("collapsed", .bool(isCollapsed)),
    ]
    if let accuracy { members.append(("accuracy", .number(accuracy))) }
    for (name, ranks) in [("forward", forward), ("backward", backward)] {
      guard let ranks else { continue }
      members.append(
        (
          name,
          [
            "recall_1": .number(ranks.recall(at: 1)), "recall_5": .number(ranks.recall(at: 5)),
            "recall_10": .number(ranks.recall(at: 10)), "median_rank": .number(ranks.median),
            "mean_rank": .number(ranks.mean),
          ]
        ))
    }
    return .object(members)
  }
}

extension Benchmark {
  fileprivate func json(_ skipped: [SkippedItems]) -> JSONText {
    [
      "data_sets": .array(
        zip(scores, skipped).map { score, skipped in
          score.json.adding([
            ("skipped", skipped.json), ("notes", .array(skipped.notes.map(JSONText.string))),
          ])
        }),
      "means": .object(means.map { ($0.name, ["accuracy": .number($0.value), "data_sets": .int($0.dataSets)]) }),
    ]
  }
}
