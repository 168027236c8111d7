import Bytes
import Glibc
import Inputs
import LLVConv

let pairsCommand = Command(
  name: "pairs",
  abstract: "Makes pairs for verify, measure and eval from a table, a benchmark's folder, pictures or a query log.",
  positionals: ["SOURCE"],
  options: [
    .init("-o", "PAIRS.jsonl", "where to write; appears whole or not at all", isRequired: true),
    .init("--query", "COL", "column of the queries (default: query, anchor or question; of captions for pictures)"),
    .init("--positive", "COL", "column of the right answers (default: positive, answer, document or passage)"),
    .init(
      "--negatives", "COL,...|N",
      "columns of wrong answers; or how many documents are drawn for each query (default: 5 from a corpus)"),
    .init("--label", "COL", "column of the positive's class"),
    .init("--qrels", "FILE", "judgements or clicks, instead of those in the folder"), Command.force, Command.dryRun,
  ],
  discussion: """
    What SOURCE is decides how it is read:
      a table (.csv, .tsv, .jsonl)   a pair for each row; a cell that names a
                                     picture beside the file is that picture
      a folder with corpus.jsonl     BEIR's and mteb's layout: queries.jsonl,
                                     qrels/test.tsv or .jsonl
      a folder with documents.jsonl  a query log with an index: queries.txt or
                                     .jsonl, and qrels.tsv or clicks.tsv
      a folder of pictures           captions in a.txt beside a.jpg, in
                                     captions.csv, or in metadata.csv or .jsonl
                                     (file_name, text)
    A query is paired with the document that was judged or clicked most. Without judgements it is paired with the
    document whose words fit best. Every run gives the same pairs. What is left out is counted.
    """,
  examples: ["llvconv pairs questions.csv --query question --positive answer -o pairs.jsonl"]
) { (arguments) throws(Failure) in
  let (source, target) = (arguments.positionals[0], try arguments.required("-o"))
  guard target.hasSuffix(".jsonl") else {
    throw Failure(.usage, "the name of -o must end in .jsonl; found \(Failure.quoted(target))")
  }
  var options = PairSet.Options()
  (options.query, options.positive) = (arguments["--query"], arguments["--positive"])
  (options.label, options.judgements) = (arguments["--label"], arguments["--qrels"])
  if let text = arguments["--negatives"] {
    if text.allSatisfy(\.isNumber) {
      options.negatives = try arguments.integer("--negatives", in: 0...1_000)
    } else {
      guard !isDirectory(source) else { throw Failure(.usage, "--negatives of a folder is a number") }
      options.negativeColumns = text.split(separator: ",").map(String.init)
    }
  }
  let set = try PairSet.read(source, options)
  let file = try arguments.requiredOutput("-o")
  let paths = PicturePaths(below: directory(of: target))
  for pair in set.pairs { try file.write((pair.json(paths).text() + "\n").utf8.map { $0 }) }
  try file.commit()
  Output.note("\(target): \(set.summary)")
  Output.notes(set.notes)
  Output.next("llvconv verify CANDIDATE.llv --reference REFERENCE.llv --data \(target)")
  return 0
}

/// Pictures as the file of pairs names them: below its folder, or else by their whole path.
private struct PicturePaths {
  private let folder: String?

  init(below folder: String) { self.folder = PicturePaths.whole(folder).map { $0 + "/" } }

  func name(_ path: String) -> String {
    let whole = PicturePaths.whole(path) ?? path
    guard let folder, whole.hasPrefix(folder) else { return whole }
    return String(whole.dropFirst(folder.count))
  }

  /// The whole path of the folder, and the name as it is: what a link leads to has another name.
  private static func whole(_ path: String) -> String? {
    let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")).map { path.utf8.index(after: $0) } ?? path.startIndex
    guard let resolved = realpath(slash == path.startIndex ? "." : String(path[..<slash]), nil) else { return nil }
    defer { free(resolved) }
    let folder = String(cString: resolved)
    return slash == path.endIndex ? folder : (folder == "/" ? "" : folder) + "/" + path[slash...]
  }
}

extension Item {
  fileprivate func json(_ paths: PicturePaths) -> JSONText {
    var members: [(String, JSONText)] = []
    if let text { members.append(("text", .string(text))) }
    if !images.isEmpty { members.append(("images", .array(images.map { .string(paths.name($0)) }))) }
    return .object(members)
  }
}

extension Pair {
  fileprivate func json(_ paths: PicturePaths) -> JSONText {
    var members: [(String, JSONText)] = [
      ("id", id.map(JSONText.string) ?? .null), ("query", query.json(paths)), ("positive", positive.json(paths)),
    ]
    if !negatives.isEmpty { members.append(("negatives", .array(negatives.map { $0.json(paths) }))) }
    if let label { members.append(("label", .string(label))) }
    return .object(members)
  }
}

extension PairSet {
  fileprivate var summary: String {
    let documents = Set(pairs.flatMap { [$0.positive] + $0.negatives }).count
    let queries = Set(pairs.map(\.query)).count
    let positives = Set(pairs.map(\.positive)).count
    return "\(pairs.count) pairs: \(queries) queries, \(positives) positives, \(documents) documents in all"
  }
}
