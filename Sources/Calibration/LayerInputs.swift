import Bytes
import Fidelity
import Glibc
import Inference
import Tensors

/// Some rows of what enters each linear operation as a model runs: to be kept of one model, and to be compared with as
/// another one runs on the same samples.
public final class LayerInputs: LinearObserver {
  fileprivate struct Layer: Sendable {
    var seen = 0  // rows so far
    var kept: [Float] = []  // [rows, columns]
    let columns: Int
    var place: Int  // order of appearance
    // Against the reference.
    var difference = 0.0, squares = 0.0, cosines = 0.0
    var compared = 0
  }

  private let layers = Lock<[TensorName: Layer]>([:])
  private let reference: LayerInputs?
  private let rowLimit: Int
  /// Every how many rows one is kept; not a divisor of lengths that inputs like to have.
  private static let step = 7
  private static let most = 256
  private static let bytes = 192 << 20

  /// - Parameters:
  ///   - model: whose layers are kept; decides how many rows fit into memory.
  ///   - reference: compare with what it has kept instead of keeping.
  public init(_ model: Model, comparedWith reference: LayerInputs? = nil) {
    self.reference = reference
    var columns = 0
    for node in model.graphs.flatMap(\.graph.nodes) {
      if case .linear = node.op, case .tensor(let name) = node.inputs[1] { columns += model[name]?.columns ?? 0 }
    }
    rowLimit = reference?.rowLimit ?? max(1, min(LayerInputs.most, LayerInputs.bytes / max(1, 4 * columns)))
  }

  public func sees(
    _ weight: TensorName, _ values: [Float], rows: Int, columns: Int, isPicture _: ArraySlice<Bool>
  ) throws(Failure) {
    let old = reference?.layers.withLock { $0[weight] }
    layers.withLock { layers in
      var layer = layers[weight] ?? Layer(columns: columns, place: layers.count)
      for row in 0..<rows {
        let number = layer.seen + row
        guard number % LayerInputs.step == 0, number / LayerInputs.step < rowLimit else { continue }
        let own = values[row * columns..<(row + 1) * columns]
        guard reference != nil else {
          layer.kept += own
          continue
        }
        // Columns that one of the two has more are zeros, which were added for blocks of whole rows.
        guard let old, case let at = number / LayerInputs.step * old.columns, at + old.columns <= old.kept.count else {
          continue
        }
        layer.compare(old.kept[at..<at + min(columns, old.columns)], own)
      }
      layer.seen += rows
      layers[weight] = layer
    }
  }

  /// How far each layer of a run that compares was from the reference's, in the order in which they ran, `part` being
  /// the graph that a weight belongs to; empty where the two did not see the same number of rows: their inputs differ.
  public func divergence(part: (TensorName) -> String?) -> [Divergence.Layer] {
    guard let reference else { return [] }
    let (own, old) = (layers.withLock { $0 }, reference.layers.withLock { $0 })
    guard own.allSatisfy({ old[$0.key] == nil || old[$0.key]?.seen == $0.value.seen }) else { return [] }
    return own.filter { $0.value.compared > 0 }.sorted { $0.value.place < $1.value.place }.compactMap { name, layer in
      part(name).map {
        Divergence.Layer(
          part: $0, name: name.text,
          relativeError: layer.difference == 0 ? 0 : (layer.difference / layer.squares).squareRoot(),
          cosine: layer.cosines / Double(layer.compared))
      }
    }
  }
}

extension LayerInputs.Layer {
  fileprivate mutating func compare(_ a: ArraySlice<Float>, _ b: ArraySlice<Float>) {
    var (aa, bb, ab, difference) = (0.0, 0.0, 0.0, 0.0)
    for (x, y) in zip(a, b) {
      let (x, y) = (Double(x), Double(y))
      aa += x * x
      bb += y * y
      ab += x * y
      difference += (x - y) * (x - y)
    }
    self.difference += difference
    squares += aa
    cosines += aa > 0 && bb > 0 ? ab / (aa * bb).squareRoot() : aa == bb ? 1 : 0
    compared += 1
  }
}
