import Bytes
import Formats
import LLVConv

let tuneCommand = Command(
  name: "tune",
  abstract: "Trains scales, zeros, biases and norms of a quantized model towards its reference, on your data.",
  positionals: ["CANDIDATE.llv"],
  options: [
    .init(
      "--reference", "REF.llv", "the model that the candidate was quantized from, or any that import takes",
      isRequired: true),
    .init("--data", "X.jsonl", "items, or labelled pairs of items, like those the model will meet", isRequired: true),
    Command.output,
    .init("--check", "X.jsonl", "items that it must not get worse on, and is not trained on", isRepeated: true),
    .init("--held-out", "SHARE", "of the data that is not trained on and judges (default 0.1)"),
    .init("--steps", "N", "steps of training (default: eight times over the data, 60 to 2000)"),
    .init("--minutes", "N", "end after N minutes; the result then depends on the machine's speed"),
    .init("--batch", "N", "items of a step (default 64)"),
    .init("--rate", "X", "how far a step moves each number, in parts of its size (default 0.001)"),
    .init("--codes", nil, "codes move, too; takes 16 bytes of memory for each of them"),
    .init("--code-rate", "X", "how far a step moves codes, in codes (default 0.0005)"),
    .init("--contrast", "X", "what the contrastive loss counts beside 1 - cosine (default 0.05)"),
    .init("--alpha", "X", "how much hard negatives count in it (default 9)"),
    .init("--temperature", "X", "of its softmax (default 0.02)"),
    .init(
      "--targets", "reference|labels",
      "what is right of pairs: what the reference finds (default), or their labels, which want a smaller --contrast"),
    .init("--seed", "N", "of the order of items (default 1)"),
    Command.strict, Command.force, Command.json, Command.threads,
    .init("--max-tokens", "N", "cut inputs after N tokens, in the place of the model's own limit"),
  ],
  discussion: """
    Codes stay, unless --codes moves them too; what they are multiplied with moves, so the file keeps its size and runs
    everywhere as before. The loss is 1 - cosine to the reference's vector, and the hardness-weighted contrastive loss
    of finding the right one among the reference's own document vectors, which stay as they are: an index made by the
    reference stays valid. Items without labels suffice; what the reference finds is right, unless --targets labels says
    otherwise.
    A part of the data is held out. The model is judged on it as it will be stored, and on what --check gives: cosines,
    and what new queries find in the reference's index. The best one is kept that is worse than untuned in none of
    these; where there is none, nothing is written and the exit code is 1.
    Work that is stopped is kept in OUTPUT.partial/ and gone on with by the same command.
    """
) { (arguments) throws(Failure) in
  let job = try TuneJob(arguments)
  let result = try job.run { tuning in
    guard let last = tuning.judgements.last else { return }
    let place = last.step == 0 ? "untuned" : "step \(last.step) of \(job.options.steps)"
    Output.note("\(place): held out \(line(last.all))")
  }
  if arguments.has("--json") {
    Output.print(json(job, result, arguments))
  } else {
    Output.print(text(result, arguments))
  }
  guard result.bytes != nil else { return 1 }
  Output.next(
    "llvconv verify \(arguments["-o"] ?? "") --reference \(try arguments.required("--reference")) --data PAIRS.jsonl")
  return 0
}

private func line(_ all: [TuneData.Judgement]) -> String {
  all.map { one in
    "1 - cosine \((1 - one.cosine).fixed(5)), mixed overlap@10 \(one.overlap.fixed(4))"
      + (one.first.map { ", mixed P@1 \($0.fixed(4))" } ?? "")
  }.joined(separator: "; ")
}

private func text(_ result: TuneJob.Result, _ arguments: Arguments) -> String {
  let tuning = result.tuning
  let untuned = tuning.judgements[0].all
  guard let best = tuning.best else {
    return "tuning made nothing better without making something worse: nothing is written\n"
      + "untuned: \(line(untuned))"
  }
  let judgement = tuning.judgements[best.judgement]
  return """
    \(arguments["-o"] ?? ""): \(tuning.count) numbers\(tuning.codeCount > 0 ? " and \(tuning.codeCount) codes" : "") \
    tuned in \(tuning.step) steps, \(Int(result.seconds)) s; the best is of step \(judgement.step)\
    \(tuning.stopped.map { " (\($0))" } ?? "")
    untuned: \(line(untuned))
    tuned:   \(line(judgement.all))
    """
}

private func json(_ job: TuneJob, _ result: TuneJob.Result, _ arguments: Arguments) -> JSONText {
  let tuning = result.tuning
  func judged(_ all: [TuneData.Judgement]) -> JSONText {
    .array(
      zip([job.data] + job.others, all).map { data, one in
        .object([("data", .string(data.name)), ("held_out", .int(data.held.count)), ("judged", one.json)])
      })
  }
  var members: [(String, JSONText)] = [
    ("file", result.bytes == nil ? .null : .string(arguments["-o"] ?? "")),
    ("file_bytes", result.bytes.map { .int($0) } ?? .null), ("tuned", .bool(result.bytes != nil)),
    ("numbers", .int(tuning.count)), ("codes", .int(tuning.codeCount)), ("steps", .int(tuning.step)),
    ("seconds", .number(result.seconds)), ("before", judged(tuning.judgements[0].all)),
  ]
  if let best = tuning.best {
    let judgement = tuning.judgements[best.judgement]
    members += [("best_step", .int(judgement.step)), ("after", judged(judgement.all))]
  }
  members.append(
    (
      "judgements",
      .array(tuning.judgements.map { .object([("step", .int($0.step)), ("all", judged($0.all))]) })
    ))
  return .object(members)
}
