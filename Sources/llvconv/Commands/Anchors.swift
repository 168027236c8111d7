import Bytes
import Fidelity
import Formats
import LLVConv

let anchorsCommand = Command(
  name: "anchors",
  abstract: "Writes a certificate for an index: some items, the reference's vectors of them, and what they find.",
  positionals: ["[REF]"],
  options: [
    .init("--data", "FILE", "pairs or items of the kind that the index serves (.jsonl)"),
    .init("--index", "OLD.npy", "the index itself, where the data does not hold its documents"),
    .init(
      "--vectors", "FILES",
      "of a reference that cannot be read: its vectors as X.npy, of items, or Q.npy,D.npy, of pairs"),
    .init("--count", "N", "anchors to choose (default 300)"),
    .init("--seed", "N", "another lot (default 0)"),
    .init("--neighbours", "N", "documents of the index kept for each query (default 32)"),
    .init("--metric", "cosine|ip", "what the index ranks by (default: ip for a model's own vectors, else cosine)"),
    .init("--no-faults", nil, "keep no vectors of known faults: a smaller file, which names fewer causes"),
    .init(
      "--items", "OUT.jsonl", "write the items of anchors (REF is then FILE.anchors), for another program to embed"),
    .init("-o", "INDEX.anchors", "where to write; appears whole or not at all"),
    Command.strict, Command.json, Command.force, Command.dryRun,
  ] + Command.thresholdOptions.filter { ["--min-cosine", "--min-overlap", "--max-recall-drop"].contains($0.name) }
    + Command.modelOptions,
  discussion: """
    An index does not say what made it. Anchors do: keep INDEX.anchors beside the index. Then `llvconv verify --anchors
    INDEX.anchors CANDIDATE` checks any model, file of vectors or server in seconds, without the reference and without
    the documents.

    Of N anchors of pairs, 60 % are queries drawn by lot (by a hash of their text, so always the same), from which
    verify estimates what all queries lose; 20 % are queries that show most (long ones, every script and kind, rankings
    decided by little); 20 % are documents. Of items alone, 80 % and 20 % are queries, and the other items are the
    index. For each query its first --neighbours documents are kept as Float16, and its own positive and negatives.

    Faults are vectors that the reference gives up to 120 texts without prompt, without special tokens, in the wrong
    case, cut, pooled otherwise, and so on. Verify compares a candidate with them to name what is wrong with it.

    Thresholds given here hold for verify where its own options do not say otherwise. Videos are left out. Cost: every
    item embedded once (kept in REF.llv.cache/), one search, and 120 texts for each fault.
    """,
  examples: [
    "llvconv anchors llave.llv --data pairs.jsonl -o index.anchors",
    "llvconv anchors index.anchors --items items.jsonl",
  ]
) { (arguments) throws(Failure) in
  if arguments.has("--items") {
    let (anchors, _) = try AnchorItemsJob(arguments).run()
    Output.next("llvconv verify --anchors \(anchors) VECTORS.npy, a row for each line")
    return 0
  }
  let (file, path, bytes) = try AnchorsJob(arguments).run()
  Output.print(arguments.has("--json") ? file.json.text(pretty: true) : file.text(path, bytes: bytes))
  Output.next("llvconv verify --anchors \(path) CANDIDATE, or --endpoint URL")
  return 0
}

extension AnchorFile {
  fileprivate func text(_ path: String, bytes: Int) -> String {
    func count(_ role: Role) -> Int { items.count { $0.role == role } }
    return """
      \(path): \(items.count) anchors of \(data), \(Output.size(bytes))
        queries by lot   \(count(.sample)) of \(queries)
        telling queries  \(count(.hard))
        documents        \(count(.document))
        index            \(indexNames.count) of \(documents) documents
        pictures         \(pictures.count)
        faults           \(faults.isEmpty ? "none" : faults.map(\.name).joined(separator: ", "))
      """
  }
}
