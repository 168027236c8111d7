import Bytes
import Fidelity
import Inputs
import LLVConv

let verifyCommand = Command(
  name: "verify",
  abstract: "Says whether candidates still retrieve what their reference retrieves: pass, fail or inconclusive.",
  positionals: ["[CANDIDATE]..."],
  options: [
    .init("--reference", "REF", "the model to compare with, usually the imported one; needed without --anchors"),
    .init(
      "--data", "PAIRS.jsonl",
      "labelled pairs: {\"id\", \"query\": item, \"positive\": item, \"negatives\": [items], \"label\"}; needed "
        + "without --anchors"),
    .init("--anchors", "INDEX.anchors", "check candidates against these anchors, without reference and data"),
    .init(
      "--vectors", "Q.npy,D.npy",
      "a candidate that another program ran: its vectors of the queries and of the documents"),
  ] + endpointOptions + [
    Command.profile, Command.projector,
    .init("--device", "LIST", "where candidates run: cpu, gpu, gpu:N, or several, as in cpu,gpu (default cpu)"),
    .init("--no-cache", nil, "do not keep or use reference embeddings"),
    .init("--no-layers", nil, "do not look inside the models: settings, weights, layers"),
    Command.outputs,
    Command.strict, Command.json, Command.force, Command.dryRun,
  ] + Command.thresholdOptions + Command.modelOptions.filter { $0.name != Command.device.name },
  discussion: """
    Embeds all queries, positives and negatives with both models and searches every query among all documents. Then it
    compares vectors (cosine, angle, relative error); rankings (P@1, recall, overlap, order and margins, with hard
    negatives first); the mixed index both ways; clusters; and inside the models their settings, weights and what enters
    each layer. Means come with 95 % intervals. Numbers are also given by slice: kind of item, script and length of
    texts, label, task, and what a line's "slices" names.

    Exit code 0 means that every check passes, 1 that one fails, 2 that the data cannot decide: an interval holds its
    threshold, there are too few queries or documents, items were used for calibration, or a model is compared with
    itself. Of several candidates the worst counts.

    With several devices every candidate is verified on each, and they must also agree: integer products bit for bit,
    the two vectors of an item to a cosine of \(DeviceAgreement.leastCosine). The reference runs on the processor.

    With --vectors a row of Q.npy stands for the query of each pair, in order. A row of D.npy stands for the positive of
    each pair, then for the negatives of each pair. Where Q.npy.ids or D.npy.ids lies beside it, as embed writes it,
    rows are found by id: a query's is that of its pair, a document's its own, or "ID, positive" and "ID, negative N".
    Rankings are then by cosine.

    With --outputs the table crosses each candidate with each form of the index: the reference alone, the candidate's
    own index, and new queries in the old index, which may lose as much of recall@10 as elsewhere. 8-bit codes take the
    ranges of the reference's documents.

    With --profile the candidate is fed as another program would feed it. The report then says what that program's users
    lose.

    With --anchors CANDIDATE is a model, or a .npy file with a vector for each anchor (`llvconv anchors INDEX.anchors
    --items` writes the items). With --endpoint it is a server. The check takes seconds. Where it fails, the cause is
    named if it is one of those that servers are known for. A server's token is read from the variable LLVCONV_TOKEN.

    CANDIDATE and REF are .llv containers, or what import takes: a model folder, a .safetensors or a GGUF file, imported
    in memory on the way. The embeddings of a reference that is a container are kept in REF.llv.cache/, and used again
    while model and data are the same. Beside other files nothing is written.
    """,
  examples: [
    "llvconv verify llave-4bit.llv --reference llave.llv --data pairs.jsonl --report report.html",
    "llvconv verify --anchors index.anchors --endpoint http://localhost:8080/v1/embeddings --endpoint-model NAME",
  ]
) { (arguments) throws(Failure) in
  if arguments.has("--anchors") { return try verifyAnchors(arguments) }
  if let option = endpointOptions.first(where: { arguments.has($0.name) }) {
    throw Failure(.usage, "\(option.name) goes with --anchors")
  }
  let page = try arguments.output("--report")
  let result = try VerifyJob(arguments).run()
  try page?.write(Array(result.page(facts: Program.facts()).utf8))
  try page?.commit()
  let (reports, agreements) = (result.reports, result.agreements)
  if arguments.has("--json") {
    Output.print(result.json)
  } else {
    let comparison = reports.count > 1 ? [Comparison(reports).text] : []
    Output.print((comparison + reports.map(\.text) + agreements.map(\.text)).joined(separator: "\n\n"))
  }
  if let profile = result.profile {
    for line in profile.differences { Output.note("\(profile.rawValue): \(line)") }
  }
  if let path = arguments["--report"] { Output.note("report: \(path)") }
  return result.exitCode
}

extension Command {
  /// What a verdict asks for, and where the report goes.
  static let thresholdOptions: [Option] = [
    .init(
      "--min-cosine", "X", "mean cosine of an item's two vectors, at least (default 0.97, more for more bits)"),
    .init(
      "--min-overlap", "X",
      "share of the reference's first 10 documents found again, at least (default 0.75, more for more bits)"),
    .init("--max-recall-drop", "X", "how much P@1 and recall@10 may fall (default 0.02)"),
    .init("--max-slice-drop", "X", "how much P@1 of items with something in common may fall (default 0.05)"),
    .init(
      "--allow", "LIST",
      "what shall not keep a candidate from passing, with commas: settings that differ, few queries or documents, "
        + "odd labels, items of its calibration, an odd reference"),
    .init("--report", "R.html", "also write a page with plots"),
  ]
}
