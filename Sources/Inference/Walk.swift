import Bytes
import Tensors

/// Samples on their way through a model, stopped between stages: a layer or less where the embedder is fine. A value: a
/// copy can go on by itself, through other weights.
public struct Walk: Sendable {
  private var embedder: Embedder
  private let batches: [Batch]
  private let sampleCount: Int
  /// Parts and their segments in the order in which they run.
  private let stages: [(part: Int, segment: Int)]
  /// Stages behind.
  public private(set) var stage = 0
  /// Of the part that is being gone through; nil for batches that do not go through it.
  private var states: [GraphRunner.State?] = []
  /// What the part before made of each batch.
  private var results: [DeviceBuffer?]

  /// - Parameter samples: none without tokens where the model reads text.
  public init(_ embedder: Embedder, _ samples: [Sample]) { self.init(embedder, Batch.pack(samples, embedder)) }

  init(_ embedder: Embedder, _ batches: [Batch]) {
    self.embedder = embedder
    self.batches = batches
    sampleCount = batches.reduce(0) { $0 + $1.members.count }
    results = batches.map { _ in nil }
    let hasPictures = batches.contains { $0.views > 0 }
    stages = embedder.parts.enumerated().flatMap { place, part in
      part.part == .text || hasPictures ? (0..<part.runner.segmentCount).map { (place, $0) } : []
    }
  }

  public var stageCount: Int { stages.count }
  public var isDone: Bool { stage == stages.count }
  var share: Double { Double(stage) / Double(max(1, stages.count)) }

  /// Weights of linear operations and token tables that the next stage reads.
  public var weights: [TensorName] {
    isDone ? [] : embedder.parts[stages[stage].part].runner.weights(of: stages[stage].segment)
  }

  /// Goes one stage on.
  public mutating func advance(observer: (any LinearObserver)? = nil) throws(Failure) {
    let (place, segment) = stages[stage]
    var (part, runner) = embedder.parts[place]
    if let observer { runner.observer = observer }
    if segment == 0 { states = try enter(part) }
    let places = states.indices.filter { states[$0] != nil }
    var own = places.compactMap { states[$0] }
    states = []  // so that what is no longer needed goes
    try runner.run(segment: segment, &own, tokens: part == .text ? places.map { batches[$0].tokens } : [])
    stage += 1
    if segment == runner.segmentCount - 1 {
      for (place, state) in zip(places, own) { results[place] = try runner.output(of: state) }
    } else {
      states = batches.map { _ in nil }
      for (place, state) in zip(places, own) { states[place] = state }
    }
  }

  private func enter(_ part: Embedder.Part) throws(Failure) -> [GraphRunner.State?] {
    var states: [GraphRunner.State?] = []
    for (batch, result) in zip(batches, results) {
      let inputs = try batch.inputs(of: part, after: result, embedder)
      states.append(inputs.map { .init(inputs: $0, isPicture: part == .text ? batch.isPicture : []) })
    }
    return states
  }

  /// What the whole way makes of each batch.
  func outputs() throws(Failure) -> [[Float]] {
    var outputs: [[Float]] = []
    for result in results {
      guard isDone, let result else {
        throw Failure(.internal, "a sample without pictures for a model of pictures alone")
      }
      outputs.append(try embedder.device.download(result))
    }
    return outputs
  }

  /// Goes the rest of the way.
  ///
  /// - Parameter other: the embedder of a model that differs in weights of stages ahead alone.
  /// - Returns: embeddings `[samples, width]`.
  public func finish(with other: Embedder? = nil) throws(Failure) -> [Float] {
    var walk = self
    if let other { walk.embedder = other }
    while !walk.isDone { try walk.advance() }
    let width = embedder.width
    var vectors = [Float](repeating: 0, count: sampleCount * width)
    for (batch, output) in zip(batches, try walk.outputs()) {
      for (row, member) in batch.members.enumerated() {
        vectors.replaceSubrange(member * width..<(member + 1) * width, with: output[row * width..<(row + 1) * width])
      }
    }
    return vectors
  }

  // MARK: Stopping

  /// What has to be kept to go on from here another time: for each batch one value, named after its batch and the graph
  /// node that made it.
  public func carried() throws(Failure) -> [Tensor] {
    var tensors: [Tensor] = []
    for index in batches.indices {
      let kept: (place: Int, buffer: DeviceBuffer)?
      if states.isEmpty {
        kept = results[index].map { (-1, $0) }
      } else if let state = states[index], let node = state.results.firstIndex(where: { $0 != nil }),
        let buffer = state.results[node]
      {
        kept = (node, buffer)
      } else {
        kept = nil
      }
      guard let kept else { continue }
      tensors.append(
        try Tensor(
          TensorName("\(index):\(kept.place)"), floats: try embedder.device.download(kept.buffer),
          shape: [kept.buffer.rows, kept.buffer.columns]))
    }
    return tensors
  }

  /// Goes on where another walk of the same samples stopped.
  ///
  /// - Throws: `malformed` when `carried` is not what such a walk left.
  public mutating func resume(at stage: Int, _ carried: [Tensor]) throws(Failure) {
    guard stage > 0, stage <= stages.count else { throw Failure(.malformed, "stage \(stage) of \(stages.count)") }
    let (place, segment) = stages[stage - 1]
    let (part, runner) = embedder.parts[place]
    let isInside = segment < runner.segmentCount - 1
    var (states, results) = (isInside ? try enter(part) : [], batches.map { _ -> DeviceBuffer? in nil })
    for tensor in carried {
      let numbers = tensor.name.text.split(separator: ":").compactMap { Int($0) }
      let node = isInside ? numbers.last ?? -1 : runner.graph.output
      guard numbers.count == 2, batches.indices.contains(numbers[0]), runner.types.indices.contains(node),
        !isInside || states[numbers[0]] != nil, isInside || numbers[1] == -1, tensor.encoding == .plain(.F32),
        let rows = batches[numbers[0]].rows(runner.types[node].rows, of: part, embedder),
        tensor.shape == [rows, runner.types[node].columns]
      else {
        throw Failure(
          .malformed, "not what a walk over these samples carries", thing: "tensor \(tensor.name.quoted)")
      }
      let values = try tensor.load().array(of: Float.self)
      let buffer = try embedder.device.upload(floats: values, columns: tensor.columns)
      if isInside {
        states[numbers[0]]?.results = .init(repeating: nil, count: runner.graph.nodes.count)
        states[numbers[0]]?.results[node] = buffer
      } else {
        results[numbers[0]] = buffer
      }
    }
    (self.states, self.results, self.stage) = (states, results, stage)
  }
}
