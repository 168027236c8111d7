import Bytes
import Fidelity

/// A map that takes vectors of a new encoder into the space of an old index: `y = x M + b`, then length 1.
public struct IndexMap: Sendable {
  /// Which kind of map, as Drift-Adapter has them (arXiv 2509.23471).
  public enum Family: Sendable, Equatable, CustomStringConvertible {
    /// Procrustes (Schönemann 1966): a rotation, perhaps with a reflection, and nothing else.
    case orthogonal
    /// Ridge regression, its penalty a share of the mean variance; of a rank (Izenman 1975) or whole.
    case affine(ridge: Double, rank: Int?)

    public var description: String {
      switch self {
      case .orthogonal: "orthogonal"
      case .affine(let ridge, let rank): "affine, \(rank.map { "rank \($0)" } ?? "whole"), ridge \(ridge)"
      }
    }
  }

  public let family: Family
  /// `[inputs, outputs]`.
  private let matrix: Matrix
  /// `[outputs]`.
  private let bias: [Double]
  public var inputs: Int { matrix.rows }
  public var outputs: Int { matrix.columns }

  init(_ family: Family, _ matrix: Matrix, bias: [Double]) {
    (self.family, self.matrix, self.bias) = (family, matrix, bias)
  }

  private static let rowsAtATime = 4_096

  /// Vectors as the old index has them, `[rows, outputs]` of `[rows, inputs]`, in memory.
  public func mapped(_ vectors: Embeddings) throws(Failure) -> Embeddings {
    precondition(vectors.width == inputs, "vectors of the map's width")
    var result: [Float] = []
    result.reserveCapacity(vectors.count * outputs)
    for first in stride(from: 0, to: vectors.count, by: IndexMap.rowsAtATime) {
      let rows = first..<min(vectors.count, first + IndexMap.rowsAtATime)
      let x = Matrix(rows.count, inputs, try vectors.rows(rows).map(Double.init))
      let y = x.times(matrix)
      for row in 0..<rows.count {
        let moved = zip(y.values[row * outputs..<(row + 1) * outputs], bias).map(+)
        let length = moved.reduce(0) { $0 + $1 * $1 }.squareRoot()
        result += moved.map { Float(length > 0 ? $0 / length : 0) }
      }
    }
    return Embeddings(width: outputs, values: result)
  }

  /// A whole `.npy` file: float32 `(inputs + 1, outputs)`, the bias in the last row.
  public var numPyFile: [UInt8] {
    NumPyHeader.bytes("<f4", rows: inputs + 1, columns: outputs)
      + (matrix.values + bias).map(Float.init).withUnsafeBytes { Array($0) }
  }

  /// The bias, then the matrix `[outputs, inputs]`, as a linear layer's tensors: little-endian float32.
  public var linearLayer: [UInt8] {
    let weight = (0..<outputs).flatMap { output in (0..<inputs).map { matrix.values[$0 * outputs + output] } }
    return (bias + weight).map(Float.init).withUnsafeBytes { Array($0) }
  }

  /// Numbers that say which map of its family it is.
  var size: Int {
    switch family {
    case .orthogonal: min(inputs, outputs) * (max(inputs, outputs) - 1) / 2
    case .affine(_, let rank?): rank * (inputs + outputs) + outputs
    case .affine(_, nil): (inputs + 1) * outputs
    }
  }
}
