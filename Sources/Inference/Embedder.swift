import Bytes
import Tensors

/// A model on a device, ready to turn samples into embeddings.
public struct Embedder: Sendable {
  public let width: Int
  private let device: any Device
  private let vision, projector, text: GraphRunner?
  private let configuration: Configuration
  /// Ids that most samples start with, computed once for each batch.
  private let prefix: [Int32]
  private let isResident: Bool
  /// Tokens that run through the graph together: large enough to keep all threads busy, small enough for the caches.
  private static let tokensPerBatch = 2_048
  /// Activations that are carried from layer to layer while the weights of one are on the device.
  private static let bytesPerWave = 256 << 20

  /// - Parameters:
  ///   - prefix: what a prompt puts before every sample; used where the model allows it (causal, last token pooled).
  ///   - memory: bytes of weights that may be kept; a model with more runs layer by layer from its file.
  ///   - profile: what is told of every operation.
  ///   - observer: who is shown the inputs of linear operations.
  public init(
    _ model: Model, on device: any Device, prefix: [Int32] = [], memory: Int = Embedder.defaultMemory,
    profile: Profile? = nil, observer: (any LinearObserver)? = nil
  ) throws(Failure) {
    self.device = device
    configuration = model.configuration
    width = configuration.width
    let bytes = model.graphs.reduce(0) { $0 + GraphRunner.weightBytes($1.graph, model) }
    let isResident = bytes <= memory
    self.isResident = isResident
    func runner(_ name: String) throws(Failure) -> GraphRunner? {
      guard let graph = model.graph(name) else { return nil }
      return try GraphRunner(
        graph, of: model, on: device, isResident: isResident, profile: profile,
        observer: observer)
    }
    (vision, projector, text) = (try runner("vision"), try runner("projector"), try runner("text"))
    guard text != nil || vision != nil else {
      throw Failure(.unsupported, "the model has neither a graph for text nor one for pictures")
    }
    self.prefix = text?.graph.canSharePrefix ?? false ? prefix : []
  }

  /// Weights that are kept on the device when nobody says otherwise.
  public static let defaultMemory = 2 << 30

  /// One embedding for each sample, `[samples, width]`.
  ///
  /// - Parameter progress: called with the number of samples done so far, fractions included.
  /// - Note: an embedding depends on its own sample alone.
  public func embed(_ samples: [Sample], progress: (Double) -> Void = { _ in }) throws(Failure) -> [Float] {
    guard text == nil || samples.allSatisfy({ !$0.ids.isEmpty }) else {
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
    let batches = batches(samples)
    var next = 0
    var done = 0
    while next < batches.count {
      var wave: [Batch] = []
      var bytes = 0
      while next < batches.count, wave.isEmpty || !isResident && bytes < Embedder.bytesPerWave {
        bytes += batches[next].tokens.count * width * 4 + batches[next].views * viewBytes
        wave.append(batches[next])
        next += 1
      }
      let count = wave.reduce(0) { $0 + $1.members.count }
      let before = Double(done)
      let vectors = try run(wave) { progress(before + $0 * Double(count)) }
      for (batch, vectors) in zip(wave, vectors) {
        for (row, member) in batch.members.enumerated() {
          result.replaceSubrange(member * width..<(member + 1) * width, with: vectors[row * width..<(row + 1) * width])
        }
      }
      done += count
      progress(Double(done))
    }
    return result
  }

  private var viewBytes: Int {
    configuration.vision.map { $0.side * $0.side * ($0.patchColumns + 4 * $0.width + 4 * width) } ?? 0
  }

  // MARK: Batches

  /// Samples that run together, packed.
  private struct Batch {
    var members: [Int] = []  // places in the caller's list
    var tokens: [Int32] = []
    var positions: [Int32] = []
    var starts: [Int32]
    var pictures: [Sample.Picture] = []
    var features = 0
    var views: Int { pictures.reduce(0) { $0 + $1.views } }

    init(prefix: [Int32]) {
      tokens = prefix
      positions = prefix.indices.map { Int32($0) }
      starts = [Int32(prefix.count)]
    }

    mutating func add(_ sample: Sample, _ member: Int, dropping count: Int) {
      members.append(member)
      let shift = Int32(features)
      for (place, id) in sample.ids.enumerated().dropFirst(count) {
        tokens.append(id < 0 ? id - shift : id)
        positions.append(Int32(place))
      }
      starts.append(Int32(tokens.count))
      pictures += sample.pictures
      features += sample.pictures.reduce(0) { $0 + $1.featureCount }
    }
  }

  /// Samples in order, those that start with the prefix apart from those that do not.
  private func batches(_ samples: [Sample]) -> [Batch] {
    var result: [Batch] = []
    var open: [Bool: Batch] = [:]
    for (index, sample) in samples.enumerated() {
      let shares = !prefix.isEmpty && sample.ids.count > prefix.count && sample.ids.starts(with: prefix)
      let start = shares ? prefix : []
      let size = sample.ids.count - start.count + sample.pictures.reduce(0) { $0 + $1.views } * patchesPerView
      if let batch = open[shares], !batch.members.isEmpty,
        batch.tokens.count + batch.views * patchesPerView + size > Embedder.tokensPerBatch
      {
        result.append(batch)
        open[shares] = nil
      }
      open[shares, default: Batch(prefix: start)].add(sample, index, dropping: start.count)
    }
    return result + [open[true], open[false]].compactMap { $0 }
  }

  private var patchesPerView: Int { configuration.vision.map { $0.side * $0.side } ?? 0 }

  // MARK: Running

  private func run(_ wave: [Batch], progress: (Double) -> Void) throws(Failure) -> [[Float]] {
    let features = try pictures(wave) { progress($0 / 2) }
    guard let text else { return try download(features) }
    var states: [GraphRunner.State] = []
    for (batch, features) in zip(wave, features) {
      var inputs: [Graph.Input: DeviceBuffer] = [
        .tokens: try device.upload(indices: batch.tokens), .positions: try device.upload(indices: batch.positions),
        .starts: try device.upload(indices: batch.starts),
      ]
      inputs[.features] = if let features { features } else { try device.upload(floats: [], columns: width) }
      states.append(.init(inputs: inputs))
    }
    let hasPictures = wave.contains { $0.views > 0 }
    let outputs = try text.run(&states, tokens: wave.map(\.tokens)) { progress(hasPictures ? 0.5 + $0 / 2 : $0) }
    return try download(outputs)
  }

  private func download(_ values: [DeviceBuffer?]) throws(Failure) -> [[Float]] {
    var result: [[Float]] = []
    for value in values {
      guard let value else { throw Failure(.internal, "a sample without pictures for a model of pictures alone") }
      result.append(try device.download(value))
    }
    return result
  }

  /// What vision and projector make of each batch's pictures; nil for batches without.
  private func pictures(_ wave: [Batch], progress: (Double) -> Void) throws(Failure) -> [DeviceBuffer?] {
    var result = [DeviceBuffer?](repeating: nil, count: wave.count)
    let places = wave.indices.filter { wave[$0].views > 0 }
    guard let vision, !places.isEmpty else { return result }
    var states: [GraphRunner.State] = []
    for place in places { states.append(.init(inputs: try visionInputs(wave[place]))) }
    var values = try vision.run(&states, tokens: []) { progress($0) }
    if let projector {
      states = []
      for (place, hidden) in zip(places, values) {
        states.append(.init(inputs: try projectorInputs(wave[place], hidden)))
      }
      values = try projector.run(&states, tokens: [])
    }
    for (place, value) in zip(places, values) { result[place] = value }
    return result
  }

  private func visionInputs(_ batch: Batch) throws(Failure) -> [Graph.Input: DeviceBuffer] {
    guard let columns = configuration.vision?.patchColumns else { throw Failure(.internal, "a picture without vision") }
    let patches = Int32(patchesPerView)
    return [
      .pixels: try device.upload(pixels: batch.pictures.flatMap(\.pixels), columns: columns),
      .positions: try device.upload(indices: (0..<batch.views).flatMap { _ in 0..<patches }),
      .starts: try device.upload(indices: (0...Int32(batch.views)).map { $0 * patches }),
    ]
  }

  private func projectorInputs(_ batch: Batch, _ hidden: DeviceBuffer) throws(Failure) -> [Graph.Input: DeviceBuffer] {
    var taps: [Int32] = []
    var first: Int32 = 0
    for picture in batch.pictures {
      taps += picture.taps.map { $0 < 0 ? -1 : $0 + first }
      first += Int32(picture.views * patchesPerView)
    }
    return [
      .hidden: hidden, .taps: try device.upload(indices: taps, columns: Graph.tapCount),
      .weights: try device.upload(floats: batch.pictures.flatMap(\.weights), columns: Graph.tapCount),
    ]
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
