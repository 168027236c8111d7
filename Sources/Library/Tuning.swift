import Bytes
import Calibration
import Fidelity
import Gradients
import Inference
import Passes
import Tensors

/// A quantized candidate as it is trained: its numbers that move, the best of what they have been, and the judges.
package struct Tuning {
  package struct Options {
    package var steps: Int
    package var itemsPerStep: Int
    package var rate: Double
    /// How far a step moves codes, in codes; nil where they stay.
    package var codeRate: Double?
    package var seed: Int
    /// Judgements in which vectors came no nearer after which training ends.
    package var patience = 4
    /// Steps until all is judged again.
    package var stepsPerJudgement: Int { max(5, steps / 12) }
  }

  package let data: TuneData
  /// Data that judges and is not trained on.
  package let others: [TuneData]
  private let options: Options
  private let device: CPUDevice
  private let model: Model
  private let embedder: Embedder
  private let network: Network
  private let loss: RecoveryLoss
  private let weights: Weights
  private var tunables: [Tunable]
  package private(set) var step = 0
  package private(set) var stopped: String?
  /// Untuned, then at each judgement: of the data, then of the others.
  package private(set) var judgements: [(step: Int, all: [TuneData.Judgement])] = []
  /// The best judgement's number, and what it judged; nil while none is better than untuned.
  package private(set) var best: (judgement: Int, places: [Tunable.Place])?

  /// - Parameter reference: whose tensors have the candidate's names: what codes that move were before rounding.
  package init(
    _ model: Model, towards reference: Model, _ data: TuneData, others: [TuneData], _ loss: RecoveryLoss,
    _ options: Options, on device: CPUDevice
  ) throws(Failure) {
    (self.model, self.data, self.others, self.loss, self.options) = (model, data, others, loss, options)
    self.device = device
    let trained = Tuning.trained(model)
    embedder = try Embedder(model, on: device, memory: .max)
    network = try Network(model, embedder, on: device, trained: trained)
    weights = Weights(model, on: device)
    var tunables: [Tunable] = []
    for tensor in model.tensors where trained.contains(tensor.name) {
      var tunable = try Tunable(tensor, threads: device.threads)
      if options.codeRate != nil { try tunable.freeCodes(towards: reference[tensor.name], threads: device.threads) }
      tunables.append(tunable)
    }
    self.tunables = tunables
  }

  /// Integers that are multiplied with, biases, and gains and biases of norms.
  package static func trained(_ model: Model) -> Set<TensorName> {
    var (result, tables) = (Set<TensorName>(), Set<TensorName>())
    for node in model.graphs.flatMap(\.graph.nodes) {
      for (place, source) in node.inputs.enumerated() {
        guard case .tensor(let name) = source, let tensor = model[name] else { continue }
        switch node.op {
        case .linear: if place == 2 || !tensor.encoding.isPlain { result.insert(name) }
        case .norm: result.insert(name)
        default: tables.insert(name)
        }
      }
    }
    return result.subtracting(tables)
  }

  package var count: Int { tunables.reduce(0) { $0 + $1.count } }
  /// Codes that move.
  package var codeCount: Int { tunables.reduce(0) { $0 + ($1.kept.first?.count ?? 0) } }
  package var isDone: Bool { stopped != nil || step >= options.steps }

  // MARK: Training

  /// Items of a step: passes over all of them, each in an order of its own.
  private func places(of step: Int) -> [Int] {
    let count = data.trained.count
    var result: [Int] = []
    var order: (pass: Int, places: [Int]) = (-1, [])
    for number in step * options.itemsPerStep..<(step + 1) * options.itemsPerStep {
      let pass = number / count
      if order.pass != pass {
        var random = Random(seed: UInt64(options.seed) &* 1_000_003 &+ UInt64(pass))
        var places = data.trained
        for last in stride(from: count - 1, to: 0, by: -1) { places.swapAt(last, random.below(last + 1)) }
        order = (pass, places)
      }
      result.append(order.places[number % count])
    }
    return result
  }

  /// One step of the optimizer over the gradients of several batches.
  ///
  /// - Parameter share: of the time there is that is gone, where there is a limit.
  /// - Returns: the loss.
  package mutating func advance(_ targets: [Int: RecoveryLoss.Target], timeShare share: Double?) throws(Failure)
    -> Double
  {
    let places = places(of: step)
    var total = 0.0
    var own = tunables
    tunables = []  // so that there is one of them
    defer { tunables = own }
    for index in own.indices { own[index].clearGradient() }
    let order = Dictionary(uniqueKeysWithValues: own.enumerated().map { ($1.name, $0) })
    for batch in network.batches(places.map { data.samples[$0] }) {
      let trace = try network.run(batch, weights)
      let members = batch.members.compactMap { targets[places[$0]] }
      let (value, gradient) = try loss.loss(trace.embeddings, members, share: 1 / Double(places.count), on: device)
      total += value
      try network.back(trace, upstream: gradient, weights) { (name, found) throws(Failure) in
        if let index = order[name] { try own[index].add(found, threads: device.threads) }
      }
    }
    guard total.isFinite else { throw Failure(.malformed, "the loss is no number any more; try a smaller --rate") }
    let gone = max(Double(step) / Double(options.steps), min(1, share ?? 0))
    let at = Int(gone * Double(options.steps))
    let factor = AdamW.share(step: at, of: options.steps, warm: max(1, options.steps / 20))
    let adam = AdamW()
    for index in own.indices {
      try adam.move(
        &own[index], rate: factor * options.rate, codeRate: factor * (options.codeRate ?? 0), step: step + 1,
        threads: device.threads)
    }
    try install(&own)
    step += 1
    return total
  }

  /// What the numbers are now, rounded as they are stored, into the model that runs.
  private func install(_ tunables: inout [Tunable]) throws(Failure) {
    for index in tunables.indices { weights.replace(try tunables[index].next()) }
  }

  // MARK: Judging

  /// The model with the numbers that it has now, or with some that it had.
  package func tuned(_ places: [Tunable.Place]? = nil) throws(Failure) -> Model {
    var result = model
    for (index, tunable) in tunables.enumerated() { result.set(try tunable.current(places?[index])) }
    return result
  }

  /// Holds the model as it would be stored to the items that are not trained on.
  package mutating func judge() throws(Failure) {
    let names = Set(tunables.map(\.name))
    let current = step == 0 ? embedder : try embedder.running(try tuned(), changed: names)
    var all: [TuneData.Judgement] = []
    for data in [data] + others {
      let vectors = try current.embed(data.held.map { data.samples[$0] })
      all.append(try data.judge(vectors, threads: device.threads))
    }
    judgements.append((step, all))
    let untuned = judgements[0].all
    let last = best.map { judgements[$0.judgement].all[0].cosine } ?? untuned[0].cosine
    let isBetter = zip(all, untuned).allSatisfy { $0.keeps($1) } && all[0].cosine > last
    if step > 0, isBetter {
      best = (judgements.count - 1, try tunables.map { (tunable) throws(Failure) in try tunable.place() })
    }
    stopWhenNothingGetsBetter()
  }

  private mutating func stopWhenNothingGetsBetter() {
    // Untuned is no measure: codes may lose at first. Nor is what is kept: a number that is worse may still get better.
    let nearest = judgements.indices.dropFirst().max { judgements[$0].all[0].cosine < judgements[$1].all[0].cosine }
    let since = judgements.count - 1 - (nearest ?? judgements.count - 1)
    if since >= options.patience { stopped = "nothing nearer in \(since) judgements" }
  }

  // MARK: Stopping

  /// All that is needed to go on another time.
  package func state() throws(Failure) -> [Tensor] {
    func tensor(_ name: String, _ values: [Float]) throws(Failure) -> Tensor {
      try Tensor(TensorName(name), floats: values, shape: [values.count])
    }
    var tensors = [
      try tensor("moves", tunables.flatMap(\.moves)), try tensor("means", tunables.flatMap(\.means)),
      try tensor("squares", tunables.flatMap(\.squares)),
    ]
    // Doubles, so that what is compared stays what it was.
    let numbers = judgements.flatMap { judgement in
      [Double(judgement.step)] + judgement.all.flatMap { [$0.cosine, $0.overlap, $0.first ?? .nan] }
    }
    let bytes = try Buffer(count: numbers.count * 8)
    bytes.with(Double.self) { _ = $0.update(fromContentsOf: numbers) }
    tensors.append(
      Tensor("judgements", shape: [numbers.count], encoding: .plain(.F64), content: .bytes(ByteView(bytes))))
    for tunable in tunables {
      for (kind, floats) in zip(Tuning.keptKinds, tunable.kept) {
        tensors.append(
          Tensor(
            TensorName(kind + tunable.name.text), shape: [floats.count], encoding: .plain(.F32),
            content: .bytes(ByteView(floats.bytes))))
      }
    }
    guard let best else { return tensors }
    tensors.append(try tensor("best", [Float(best.judgement)] + best.places.flatMap(\.moves)))
    for (tunable, place) in zip(tunables, best.places) {
      guard let codes = place.codes else { continue }
      tensors.append(
        Tensor(
          TensorName("best codes/" + tunable.name.text), shape: [codes.count], encoding: .plain(.U8),
          content: .bytes(ByteView(codes))))
    }
    return tensors
  }

  /// Before names of weights whose codes move.
  private static let keptKinds = ["latents/", "means/", "squares/"]

  /// Goes on where another run of the same work stopped.
  ///
  /// - Returns: false where `tensors` is not what such a run left; nothing is changed then.
  package mutating func resume(at step: Int, _ tensors: [Tensor]) -> Bool {
    let known = Dictionary(tensors.map { ($0.name, $0) }) { first, _ in first }
    func bytes(_ name: String, _ type: DType, count: Int? = nil) -> Buffer? {
      guard let tensor = known[TensorName(name)], tensor.encoding == .plain(type),
        tensor.count == count ?? tensor.count
      else { return nil }
      return try? tensor.load()
    }
    func values(_ name: String) -> [Float]? { bytes(name, .F32)?.array(of: Float.self) }
    func parts(_ values: [Float]) -> [[Float]]? {
      guard values.count == count else { return nil }
      var (result, start) = ([[Float]](), 0)
      for tunable in tunables {
        result.append(Array(values[start..<start + tunable.count]))
        start += tunable.count
      }
      return result
    }
    guard let moves = values("moves").flatMap(parts), let means = values("means").flatMap(parts),
      let squares = values("squares").flatMap(parts),
      let numbers = bytes("judgements", .F64)?.array(of: Double.self), case let width = 1 + 3 * (1 + others.count),
      numbers.count % width == 0, !numbers.isEmpty, (0...options.steps).contains(step)
    else { return false }
    var best: (judgement: Int, places: [Tunable.Place])?
    if let found = values("best") {
      guard let place = found.first, place >= 0, place < Float(numbers.count / width),
        let moves = parts(Array(found.dropFirst()))
      else { return false }
      var places: [Tunable.Place] = []
      for (tunable, moves) in zip(tunables, moves) {
        let size = tunable.codeBytes
        let codes = size > 0 ? bytes("best codes/" + tunable.name.text, .U8, count: size) : nil
        guard size == 0 || codes != nil else { return false }
        places.append(Tunable.Place(moves: moves, codes: codes))
      }
      best = (Int(place), places)
    }
    var kept: [[Buffer]] = []
    for tunable in tunables {
      let buffers = zip(Tuning.keptKinds, tunable.kept).compactMap { kind, floats in
        bytes(kind + tunable.name.text, .F32, count: floats.count)
      }
      guard buffers.count == tunable.kept.count, buffers.allSatisfy({ $0.isFinite }) else { return false }
      kept.append(buffers)
    }
    let judged = stride(from: 0, to: numbers.count, by: width).map { start in
      let all = stride(from: start + 1, to: start + width, by: 3).map { at in
        TuneData.Judgement(
          cosine: numbers[at], overlap: numbers[at + 1], first: numbers[at + 2].isNaN ? nil : numbers[at + 2])
      }
      return (step: Int(exactly: numbers[start]) ?? 0, all: all)
    }
    for index in tunables.indices {
      tunables[index].moves = moves[index]
      tunables[index].means = means[index]
      tunables[index].squares = squares[index]
      for (floats, buffer) in zip(tunables[index].kept, kept[index]) {
        floats.bytes.start.copyMemory(from: buffer.start, byteCount: buffer.count)
      }
    }
    (self.step, self.best, judgements) = (step, best, judged)
    stopWhenNothingGetsBetter()
    do throws(Failure) {
      for tunable in tunables { try tunable.roundKept(threads: device.threads) }
      try install(&tunables)
    } catch { return false }
    return true
  }
}

extension Buffer {
  /// Whether floats in it are numbers.
  fileprivate var isFinite: Bool { with(Float.self) { $0.allSatisfy(\.isFinite) } }
}
