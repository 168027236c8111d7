import Bytes
import Calibration
import Fidelity
import Formats
import Inputs
import LLVConv
import Passes
import Tensors

let planCommand = Command(
  name: "plan",
  abstract: "Decides the encoding of each weight, so that a size, a quality or a speed is met.",
  positionals: ["MODEL.llv"],
  options: [
    .init("--bits", "X", "bits per weight on average, scales included, 2 to 16"),
    .init("--size", "BYTES", "size of the file: a number, or with KB, MB, GB"),
    .init("--quality", "COSINE", "mean cosine to the model's own vectors that items of --data must keep"),
    .init(
      "--speed", "X",
      "items of --data a second, like 40, or times the model's own speed, like 2x; alone, or with --bits or --size"),
    .init("--data", "X.jsonl", "for --quality and --speed: items or pairs that were not measured on"),
    .init("--calibration", "C.llv", "what llvconv measure found, with --sensitivity for measured costs"),
    .init("--activations", "float|8", "as for quantize; with 8, inputs that cost much stay floats"),
    .init(
      "--views", "N,...", "for --speed: views of a picture at most, to be tried (default: up to six of the grid)"),
    .init("--pool-pictures", "1,2", "for --speed: pooling to be tried (default: both)"),
    .init("--rounds", "N", "for --speed: how often each candidate is timed; medians count (default 3)"),
    Command.target, .init("--tower", nil, "with --for compressed-tensors: the vision tower and projector too"),
    .init("-o", "PLAN.json", "where to write; appears whole or not at all", isRequired: true),
    .init("--no-fuse", nil, "for quantize --no-fuse"), Command.force, Command.dryRun,
  ] + Command.objectiveOptions + Command.modelOptions,
  discussion: """
    Rounding a weight has a cost: how far it moved embeddings when measure rounded it alone. For other encodings the
    cost is scaled by their squared relative error. Dynamic programming finds the best combination within the budget.
    The plan is a text that you may change; quantize --plan carries it out.

    With --quality, plans of several sizes are carried out in memory and held to the data. The smallest that keeps the
    quality is written. Exit code 1 means that none does.

    With --speed, candidates with several layouts of pictures (quantize --views, --pool-pictures) and several kinds of
    weights and inputs run on the data here, in turns with the model as it is. The table says how fast and how faithful
    each is (mean cosine to the model's own vectors). Of those that are fast enough the most faithful is written. Exit
    code 1 means that none is. What was measured stays in the plan.

    The same plan gives the same bytes on any machine.
    """,
  examples: [
    "llvconv plan llave.llv --size 400MB --calibration measured.llv -o plan.json",
    "llvconv plan llave.llv --speed 2x --data others.jsonl -o plan.json",
  ]
) { (arguments) throws(Failure) in
  let options = try LoadedModel.Options(arguments)
  let quality = try arguments.number("--quality", in: -1...1)
  let speed = try arguments["--speed"].map(SpeedTarget.init)
  let budget = try Budget(bits: arguments["--bits"], size: arguments["--size"])
  try checkGoals(arguments)
  let output = try arguments.requiredOutput("-o")
  let quantization = try Quantization(arguments)
  let found: Plan?
  if let speed {
    found = try SpeedTrial(quantization, arguments, options, within: budget).plan(speed)
  } else {
    try quantization.refuseQuantized(arguments.positionals[0])
    let input: Op.LinearInput = try arguments.choice("--activations", ["float", "8"]) == "8" ? .int8 : .float
    let planner = try quantization.planner(arguments, input: input, threads: options.threads)
    if let budget {
      found = try quantization.plan(planner, budget)
    } else {
      let trial = try Trial(quantization, arguments.positionals[0], options, data: try arguments.required("--data"))
      found = try trial.smallest(planner, quality: quality ?? 1)
    }
  }
  guard let plan = found else { return 1 }
  try output.write(plan.json.bytes(pretty: true) + [10])
  try output.commit()
  let target = quantization.target == .llv ? "" : " --for \(quantization.target.rawValue)"
  Output.next("llvconv quantize \(arguments.positionals[0]) --plan \(output.path)\(target) -o OUT.llv")
  guard speed == nil else { return 0 }
  var ignored: [String] = []
  let planned = try quantization.quantized(plan.changesWeights ? plan.recipe : nil, .init(), notes: &ignored)
  Output.print(PlanTable(plan, planned).text)
  return 0
}

private func checkGoals(_ arguments: Arguments) throws(Failure) {
  let goals = ["--bits", "--size", "--quality"].count(where: arguments.has)
  if arguments.has("--speed"), try arguments.target != .llv {
    throw Failure(.usage, "--speed is measured here, and means nothing for the program that --for names")
  }
  guard arguments.has("--speed") else {
    guard goals == 1 else { throw Failure(.usage, "plan needs one of --bits, --size, --quality and --speed") }
    guard arguments.has("--quality") == arguments.has("--data") else {
      throw Failure(.usage, "--quality and --data go together: the quality is held to that data")
    }
    for option in ["--views", "--pool-pictures", "--rounds"] where arguments.has(option) {
      throw Failure(.usage, "\(option) is for --speed; quantize --plan takes --views and --pool-pictures beside a plan")
    }
    return
  }
  guard !arguments.has("--quality") else {
    throw Failure(.usage, "--speed does not go with --quality: of all that are fast enough the most faithful is found")
  }
  guard goals <= 1 else { throw Failure(.usage, "--speed goes with one of --bits and --size") }
  guard arguments.has("--data") else { throw Failure(.usage, "--speed needs --data, whose items are timed") }
}

/// Plans carried out in memory, and held to data.
private struct Trial {
  private let quantization: Quantization
  private let path: String
  private let options: LoadedModel.Options
  private let items: [Item]
  private let folder: String
  private let reference: [[Float]]

  init(_ quantization: Quantization, _ path: String, _ options: LoadedModel.Options, data: String) throws(Failure) {
    (self.quantization, self.path, self.options) = (quantization, path, options)
    // Each once, as verify counts them.
    var seen = Set<Item>()
    items = try DataFile.open(data).items.filter { item in
      var content = item
      content.id = nil
      return seen.insert(content).inserted
    }
    folder = directory(of: data)
    reference = try LoadedModel(ModelFile(container: path), options).vectors(items, folder)
  }

  private func cosine(_ plan: Plan) throws(Failure) -> Double {
    let passes = quantization.fusions + [quantization.pass(plan.recipe)]
    let model = try LoadedModel(ModelFile(container: path), options, passes: passes)
    return meanCosine(reference, try model.vectors(items, folder))
  }

  /// Bisection over sizes, to a hundredth of the range; nil, said aloud, when even the largest does not keep the
  /// quality.
  func smallest(_ planner: Planner, quality: Double) throws(Failure) -> Plan? {
    func attempt(_ bytes: Int) throws(Failure) -> Plan? {
      var plan = try planner.plan(bytes: bytes)
      let found = try cosine(plan)
      Output.note("\(Output.size(bytes)) of weights: mean cosine \(found.fixed(5)) on \(items.count) items")
      guard found >= quality else { return nil }
      plan.notes += [("cosine", .number(found)), ("items", .int(items.count))]
      return plan
    }
    var (low, high) = (planner.range.lowerBound, planner.range.upperBound)
    if let plan = try attempt(low) { return plan }
    guard var best = try attempt(high) else {
      Output.complain("no plan keeps a mean cosine of \(quality): the last is the largest there is")
      return nil
    }
    while high - low > planner.range.count / 100 {
      let middle = low + (high - low) / 2
      if let plan = try attempt(middle) { (best, high) = (plan, middle) } else { low = middle }
    }
    return best
  }
}

extension LoadedModel {
  /// The items' vectors; the first bad item ends it.
  func vectors(_ items: [Item], _ folder: String) throws(Failure) -> [[Float]] {
    let progress = Progress("embedding", of: items.count)
    var vectors: [[Float]] = []
    for embedded in try embed(items, folder: folder, progress: { progress.show($0) }) {
      vectors.append(try embedded.result.get())
    }
    Progress.clear()
    return vectors
  }
}

/// Of pairs of vectors, the first of length 1 or nothing.
func meanCosine(_ reference: [[Float]], _ vectors: [[Float]]) -> Double {
  var sum = 0.0
  for (a, b) in zip(reference, vectors) {
    let (ab, bb) = zip(a, b).reduce((0.0, 0.0)) {
      ($0.0 + Double($1.0) * Double($1.1), $0.1 + Double($1.1) * Double($1.1))
    }
    sum += bb > 0 ? ab / bb.squareRoot() : 0
  }
  return sum / Double(reference.count)
}
