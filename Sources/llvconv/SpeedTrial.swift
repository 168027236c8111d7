import Bytes
import Calibration
import Inference
import Inputs
import LLVConv
import Passes
import Tensors

/// Candidates that differ in views, pooling, weights and inputs, timed and held to the model's own vectors on data.
struct SpeedTrial {
  /// Under which a plan keeps what was measured.
  static let note = "speed"
  /// Layouts that are tried at most where nobody says which.
  private static let mostViews = 6

  private struct Layout {
    let change: PictureLayout
    let views, pooling: Int
    /// Mean of the data's pictures.
    let tokens: Double?
  }

  private struct Weights {
    let name: String
    var plan: Plan
    let bytes: Int
  }

  struct Candidate {
    var views, pooling: Int?
    var tokens: Double?
    let weights: String
    let input: Op.LinearInput
    let bytes: Int
    /// Times the speed of the model as it is: the median of rounds in which both ran.
    let speed: Double
    let cosine: Double
    fileprivate let plan: Plan
  }

  private let quantization: Quantization
  private let path: String
  private let options: LoadedModel.Options
  private let items: [Item]
  private let folder: String
  private let rounds: Int
  private let reference: LoadedModel
  private let vectors: [[Float]]
  private let layouts: [Layout]
  private let weights: [Weights]

  init(
    _ quantization: Quantization, _ arguments: Arguments, _ options: LoadedModel.Options, within budget: Budget?
  ) throws(Failure) {
    (self.quantization, self.options) = (quantization, options)
    path = arguments.positionals[0]
    rounds = try arguments.integer("--rounds", in: 1...1_000) ?? 3
    let data = try arguments.required("--data")
    items = try DataFile.open(data).items
    folder = directory(of: data)
    reference = try LoadedModel(ModelFile(container: path), options)
    layouts = try SpeedTrial.layouts(reference, items, folder, arguments)
    weights = try SpeedTrial.weights(quantization, arguments, budget, threads: options.threads)
    guard !weights.isEmpty else {
      throw Failure(.usage, "every weight is quantized already; --activations 8 leaves nothing to try")
    }
    // Also the run that warms up.
    vectors = try reference.vectors(items, folder)
  }

  // MARK: Candidates

  /// Layouts that differ on the data, the model's own first. Of several limits that come to the same the highest stays.
  private static func layouts(
    _ model: LoadedModel, _ items: [Item], _ folder: String, _ arguments: Arguments
  ) throws(Failure) -> [Layout] {
    let views = try arguments.integers("--views", in: 1...PictureLayout.mostViews)
    let poolings = try arguments.integers("--pool-pictures", in: Vision.poolings)
    guard let vision = model.configuration.vision, model.prepared.graph("projector") != nil else {
      for option in ["--views", "--pool-pictures"] where arguments.has(option) {
        throw Failure(.usage, "\(option) is for models of text and pictures")
      }
      return [Layout(change: .init(), views: 1, pooling: 1, tokens: nil)]
    }
    let most = vision.viewCounts.last ?? 1
    guard items.contains(where: { !$0.images.isEmpty }) else {
      Output.note("note: the data has no pictures, so views and pooling are left as they are")
      return [Layout(change: .init(), views: most, pooling: vision.pooling, tokens: nil)]
    }
    let counts = Set((views ?? SpeedTrial.thinned(vision.viewCounts)).map { min($0, most) })
    var result: [Layout] = []
    var seen = Set<[SampleBuilder.Extent]>()
    for pooling in Set(poolings ?? [vision.pooling, Vision.poolings.upperBound]).sorted() {
      for count in counts.sorted(by: >) {
        let change = PictureLayout(
          views: count < most ? count : nil, pooling: pooling == vision.pooling ? nil : pooling)
        let extents = try model.laidOut(change).extents(items, folder: folder)
        guard seen.insert(extents).inserted else { continue }
        let tokens = Double(extents.reduce(0) { $0 + $1.tokens }) / Double(extents.count)
        result.append(Layout(change: change, views: count, pooling: pooling, tokens: tokens))
      }
    }
    return result
  }

  /// Few, then twice as many tiles each time, and all.
  private static func thinned(_ counts: [Int]) -> [Int] {
    guard counts.count > mostViews else { return counts }
    var result: [Int] = []
    for count in counts where result.count < mostViews - 1 && count - 1 >= 2 * ((result.last ?? 1) - 1) {
      result.append(count)
    }
    return result + counts.suffix(1)
  }

  /// Within a budget what the planner finds; without one the usual choices for all weights alike, and none.
  private static func weights(
    _ quantization: Quantization, _ arguments: Arguments, _ budget: Budget?, threads: Int
  ) throws(Failure) -> [Weights] {
    let only = try arguments.choice("--activations", ["float", "8"])
    let inputs = [Op.LinearInput.float, .int8].filter { only == nil || (only == "8") == ($0 == .int8) }
    var plans: [(name: String, plan: Plan)] = []
    if let budget {
      for input in inputs {
        let planner = try quantization.planner(arguments, input: input, threads: threads)
        plans.append(("planned", try quantization.plan(planner, budget)))
      }
    } else {
      for option in ["--objective", "--alpha"] where arguments.has(option) {
        throw Failure(.usage, "\(option) is for --bits and --size; without them all weights are treated alike")
      }
      let choices: [(String, Op.LinearInput)] = [
        ("keep", .float), ("4:g16", .float), ("8:channel", .int8), ("8:g32", .int8), ("4:g16", .int8),
      ]
      for (text, input) in choices where inputs.contains(input) {
        guard let choice = WeightChoice(text), let plan = try quantization.plan(choice, input) else { continue }
        plans.append((text, plan))
      }
    }
    return try plans.map { (name, plan) throws(Failure) in
      Weights(
        name: name, plan: plan, bytes: try quantization.fileBytes(plan.changesWeights ? plan.recipe : nil))
    }
  }

  // MARK: Measuring

  /// The most faithful candidate that is fast enough, with all that was measured in its notes; nil, said aloud, when
  /// none is.
  func plan(_ target: SpeedTarget) throws(Failure) -> Plan? {
    let (candidates, own) = try measure()
    let points = candidates.map { Front.Point(speed: $0.speed, fidelity: $0.cosine) }
    let chosen = Front.best(of: points, speed: target.factor(of: own))
    let table = SpeedTable(
      candidates: candidates, front: Set(Front.places(of: points)), chosen: chosen, itemsPerSecond: own)
    Output.print(table.text)
    guard let chosen else {
      let fastest = points.map(\.speed).max() ?? 0
      Output.complain(
        "no plan reaches \(target.text): the fastest is \(fastest.fixed(2)) times as fast as the model as it is")
      return nil
    }
    var plan = candidates[chosen].plan
    let note: JSONText = [
      "wanted": .string(target.text), "items": .int(items.count), "rounds": .int(rounds),
      "threads": .int(options.threads), "device": .string(options.device.identity),
      "own_items_per_second": .number(own), "candidates": table.json,
    ]
    plan.notes.append((SpeedTrial.note, note))
    Output.note("chosen: \(table.row(chosen))")
    return plan
  }

  /// All candidates, and how many items a second the model embeds as it is.
  private func measure() throws(Failure) -> (candidates: [Candidate], itemsPerSecond: Double) {
    var own: [Double] = []
    var candidates: [Candidate] = []
    let progress = Progress("measuring", of: weights.count * rounds)
    for choice in weights {
      let passes =
        choice.plan.changesWeights ? quantization.fusions + [quantization.pass(choice.plan.recipe)] : []
      let model = try LoadedModel(ModelFile(container: path), options, passes: passes)
      _ = try model.embed(Array(items.prefix(1)), folder: folder)
      var models = [reference]
      for layout in layouts { models.append(try model.laidOut(layout.change)) }
      var rounds: [[Double]] = []
      var cosines: [Double] = []
      for _ in 0..<self.rounds {
        let (seconds, found) = try run(models)
        rounds.append(seconds)
        own.append(seconds[0])
        cosines = found.map { meanCosine(vectors, $0) }
        progress.show(own.count)
      }
      for (place, layout) in layouts.enumerated() {
        let speed = median(rounds.map { $0[0] / $0[place + 1] })
        candidates.append(candidate(choice, layout, speed: speed, cosine: cosines[place + 1]))
      }
    }
    Progress.clear()
    return (candidates, Double(items.count) / median(own))
  }

  /// What all items take in each of the models, and their vectors. The models take turns at every few items, so that
  /// what else the machine does meets all of them.
  private func run(_ models: [LoadedModel]) throws(Failure) -> (seconds: [Double], vectors: [[[Float]]]) {
    var seconds = [Double](repeating: 0, count: models.count)
    var vectors = [[[Float]]](repeating: [], count: models.count)
    for start in stride(from: 0, to: items.count, by: reference.itemsPerChunk) {
      let chunk = Array(items[start..<min(start + reference.itemsPerChunk, items.count)])
      for (place, model) in models.enumerated() {
        let started = ContinuousClock.now
        let embedded = try model.embed(chunk, folder: folder)
        seconds[place] += (ContinuousClock.now - started) / .seconds(1)
        for item in embedded { vectors[place].append(try item.result.get()) }
      }
    }
    return (seconds, vectors)
  }

  private func candidate(_ choice: Weights, _ layout: Layout, speed: Double, cosine: Double) -> Candidate {
    var plan = choice.plan
    plan.layout = layout.change
    let isLaidOut = layout.tokens != nil
    return Candidate(
      views: isLaidOut ? layout.views : nil, pooling: isLaidOut ? layout.pooling : nil, tokens: layout.tokens,
      weights: choice.name, input: plan.input, bytes: choice.bytes, speed: speed, cosine: cosine, plan: plan)
  }

  private func median(_ values: [Double]) -> Double {
    let sorted = values.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  }
}
