import Bytes
import Tensors

/// Samples that run together, packed: their tokens one after the other, without padding.
package struct Batch: Sendable {
  /// Places in the caller's list.
  package private(set) var members: [Int] = []
  package private(set) var tokens: [Int32] = []
  private var positions: [Int32] = []
  private var starts: [Int32]
  private var pictures: [Sample.Picture] = []
  private var features = 0
  package var views: Int { pictures.reduce(0) { $0 + $1.views } }
  /// Whether each token stands for a part of a picture.
  var isPicture: [Bool] { tokens.map { $0 < 0 } }

  private init(prefix: [Int32]) {
    tokens = prefix
    positions = prefix.indices.map { Int32($0) }
    starts = [Int32(prefix.count)]
  }

  private mutating func add(_ sample: Sample, _ member: Int, dropping count: Int) {
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

  /// Samples in order, those that start with the prefix apart from those that do not.
  package static func pack(_ samples: [Sample], _ embedder: Embedder) -> [Batch] {
    let (prefix, patches) = (embedder.prefix, embedder.patchesPerView)
    var result: [Batch] = []
    var open: [Bool: Batch] = [:]
    for (index, sample) in samples.enumerated() {
      let shares = !prefix.isEmpty && sample.ids.count > prefix.count && sample.ids.starts(with: prefix)
      let start = shares ? prefix : []
      let size = sample.ids.count - start.count + sample.pictures.reduce(0) { $0 + $1.views } * patches
      if let batch = open[shares], !batch.members.isEmpty,
        batch.tokens.count + batch.views * patches + size > embedder.device.tokensPerBatch
      {
        result.append(batch)
        open[shares] = nil
      }
      open[shares, default: Batch(prefix: start)].add(sample, index, dropping: start.count)
    }
    return result + [open[true], open[false]].compactMap { $0 }
  }

  /// Rows of a part's values of some kind; nil for those that no part carries.
  func rows(_ kind: ValueType.Rows, of part: Embedder.Part, _ embedder: Embedder) -> Int? {
    switch kind {
    case .tokens: part == .text ? tokens.count : views * embedder.patchesPerView
    case .sequences: part == .text ? starts.count - 1 : views
    case .features: features
    case .starts, .fixed, .routed: nil
    }
  }

  /// What it holds at most between two layers.
  func bytes(in embedder: Embedder) -> Int {
    let view =
      embedder.configuration.vision.map { $0.side * $0.side * ($0.patchColumns + 4 * $0.width + 4 * embedder.width) }
    return tokens.count * embedder.width * 4 + views * (view ?? 0)
  }

  /// What a part is given; nil where the batch does not go through it.
  ///
  /// - Parameter before: what the part before it made.
  package func inputs(
    of part: Embedder.Part, after before: DeviceBuffer?, _ embedder: Embedder
  ) throws(Failure) -> [Graph.Input: DeviceBuffer]? {
    let device = embedder.device
    switch part {
    case .vision:
      guard views > 0, let columns = embedder.configuration.vision?.patchColumns else { return nil }
      let patches = Int32(embedder.patchesPerView)
      return [
        .pixels: try device.upload(pixels: pictures.flatMap(\.pixels), columns: columns),
        .positions: try device.upload(indices: (0..<views).flatMap { _ in 0..<patches }),
        .starts: try device.upload(indices: (0...Int32(views)).map { $0 * patches }),
      ]
    case .projector:
      guard views > 0 else { return nil }
      var taps: [Int32] = []
      var first: Int32 = 0
      for picture in pictures {
        taps += picture.taps.map { $0 < 0 ? -1 : $0 + first }
        first += Int32(picture.views * embedder.patchesPerView)
      }
      var inputs: [Graph.Input: DeviceBuffer] = [
        .taps: try device.upload(indices: taps, columns: Graph.tapCount),
        .weights: try device.upload(floats: pictures.flatMap(\.weights), columns: Graph.tapCount),
      ]
      inputs[.hidden] = before
      return inputs
    case .text:
      var inputs: [Graph.Input: DeviceBuffer] = [
        .tokens: try device.upload(indices: tokens), .positions: try device.upload(indices: positions),
        .starts: try device.upload(indices: starts),
      ]
      inputs[.features] = if let before { before } else { try device.upload(floats: [], columns: embedder.width) }
      return inputs
    }
  }
}

extension Embedder {
  var patchesPerView: Int { configuration.vision.map { $0.side * $0.side } ?? 0 }
}
