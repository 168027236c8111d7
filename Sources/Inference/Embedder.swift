import Bytes
import Tensors

/// A model on a device, ready to turn samples into embeddings.
public struct Embedder: Sendable {
  public let width: Int
  let device: any Device
  /// The model's graphs in the order in which they run.
  private(set) var parts: [(part: Part, runner: GraphRunner)] = []
  let configuration: Configuration
  /// Ids that most samples start with, computed once for each batch.
  let prefix: [Int32]
  private let isResident: Bool
  let hasText: Bool
  /// Activations that are carried from layer to layer while the weights of one are on the device.
  private static let bytesPerWave = 256 << 20

  package enum Part: String, CaseIterable, Sendable { case vision, projector, text }

  /// - Parameters:
  ///   - prefix: what a prompt puts before every sample; used where the model allows it (causal, last token pooled).
  ///   - memory: bytes of weights that may be kept; a model with more runs layer by layer from its file.
  ///   - profile: what is told of every operation.
  ///   - observer: who is shown the inputs of linear operations.
  ///   - isFine: whether a walk's stages are as short as they can be.
  public init(
    _ model: Model, on device: any Device, prefix: [Int32] = [], memory: Int = Embedder.defaultMemory,
    profile: Profile? = nil, observer: (any LinearObserver)? = nil, isFine: Bool = false
  ) throws(Failure) {
    self.device = device
    configuration = model.configuration
    width = configuration.width
    let bytes = model.graphs.reduce(0) { $0 + GraphRunner.weightBytes($1.graph, model) }
    let isResident = bytes <= memory
    self.isResident = isResident
    for part in Part.allCases {
      guard let graph = model.graph(part.rawValue) else { continue }
      var runner = try GraphRunner(
        graph, of: model, on: device, isResident: isResident, isFine: isFine, profile: profile)
      runner.observer = observer
      parts.append((part, runner))
    }
    guard parts.contains(where: { $0.part != .projector }) else {
      throw Failure(.unsupported, "the model has neither a graph for text nor one for pictures")
    }
    let text = parts.first { $0.part == .text }?.runner
    self.prefix = text?.graph.canSharePrefix ?? false ? prefix : []
    hasText = text != nil
  }

  /// The same with a model that differs in a few tensors alone, and shows its inputs to nobody.
  public func running(_ model: Model, changed: Set<TensorName>) throws(Failure) -> Embedder {
    var result = self
    for (place, (part, runner)) in parts.enumerated() {
      guard let graph = model.graph(part.rawValue) else { throw Failure(.internal, "a model of other parts") }
      result.parts[place].runner = try GraphRunner(runner, graph, of: model, changed: changed)
    }
    return result
  }

  /// Weights that are kept on the device when nobody says otherwise.
  public static let defaultMemory = 2 << 30

  /// One embedding for each sample, `[samples, width]`.
  ///
  /// - Parameter progress: called with the number of samples done so far, fractions included.
  /// - Note: an embedding depends on its own sample alone.
  public func embed(_ samples: [Sample], progress: (Double) -> Void = { _ in }) throws(Failure) -> [Float] {
    guard !hasText || samples.allSatisfy({ !$0.ids.isEmpty }) else {
      throw Failure(.internal, "an input without tokens")
    }
    // What is there twice is computed once.
    var places: [Sample: Int] = [:]
    var unique: [Sample] = []
    let place = samples.map { sample in
      if let place = places[sample] { return place }
      places[sample] = unique.count
      unique.append(sample)
      return unique.count - 1
    }
    guard unique.count < samples.count else { return try embedUnique(samples, progress: progress) }
    let share = Double(samples.count) / Double(unique.count)
    let vectors = try embedUnique(unique) { progress($0 * share) }
    return place.flatMap { vectors[$0 * width..<($0 + 1) * width] }
  }

  private func embedUnique(_ samples: [Sample], progress: (Double) -> Void) throws(Failure) -> [Float] {
    var result = [Float](repeating: 0, count: samples.count * width)
    let batches = Batch.pack(samples, self)
    var next = 0
    var done = 0
    while next < batches.count {
      var wave: [Batch] = []
      var bytes = 0
      while next < batches.count, wave.isEmpty || !isResident && bytes < Embedder.bytesPerWave {
        bytes += batches[next].bytes(in: self)
        wave.append(batches[next])
        next += 1
      }
      let count = wave.reduce(0) { $0 + $1.members.count }
      let before = Double(done)
      var walk = Walk(self, wave)
      while !walk.isDone {
        try walk.advance()
        progress(before + walk.share * Double(count))
      }
      for (batch, vectors) in zip(wave, try walk.outputs()) {
        for (row, member) in batch.members.enumerated() {
          result.replaceSubrange(member * width..<(member + 1) * width, with: vectors[row * width..<(row + 1) * width])
        }
      }
      done += count
      progress(Double(done))
    }
    return result
  }
}

extension Graph {
  /// Whether tokens at the start are not changed by those after them, and are not pooled.
  fileprivate var canSharePrefix: Bool {
    nodes.allSatisfy { node in
      switch node.op {
      case .attention(let attention): attention.isCausal
      case .pool(let kind): kind == .last
      default: true
      }
    }
  }
}
