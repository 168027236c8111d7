import Bytes
import Glibc

/// How far one set of vectors is from another, item by item.
public struct Closeness: Sendable {
  /// Cosine of each item's two vectors; nil where one of them is zero or not finite and there is no angle.
  public let cosines: [Double?]
  /// `‖candidate - reference‖ / ‖reference‖` of each item; nil where the reference is zero.
  public let relativeErrors: [Double?]
  /// `‖candidate‖ / ‖reference‖` of each item; nil where the reference is zero. Vectors of an encoder have length 1
  /// unless it is broken.
  public let lengths: [Double?]

  private static let rowsAtATime = 4_096

  /// - Parameter sets: the same items as the reference and as the candidate have them. Sums in double; some thousand
  ///   rows are in memory at a time.
  public init(_ sets: [(reference: Embeddings, candidate: Embeddings)]) throws(Failure) {
    var cosines: [Double?] = []
    var errors: [Double?] = []
    var lengths: [Double?] = []
    for (reference, candidate) in sets {
      precondition(reference.count == candidate.count && reference.width == candidate.width, "the same items")
      let width = reference.width
      for first in stride(from: 0, to: reference.count, by: Closeness.rowsAtATime) {
        let rows = first..<min(reference.count, first + Closeness.rowsAtATime)
        let (x, y) = (try reference.rows(rows), try candidate.rows(rows))
        for row in 0..<rows.count {
          var (dot, a, b, difference) = (0.0, 0.0, 0.0, 0.0)
          for column in row * width..<(row + 1) * width {
            let (x, y) = (Double(x[column]), Double(y[column]))
            dot += x * y
            a += x * x
            b += y * y
            difference += (x - y) * (x - y)
          }
          let cosine = dot / (a * b).squareRoot()
          cosines.append(cosine.isFinite ? min(1, cosine) : nil)
          errors.append(a > 0 ? (difference / a).squareRoot() : nil)
          lengths.append(a > 0 ? (b / a).squareRoot() : nil)
        }
      }
    }
    (self.cosines, relativeErrors, self.lengths) = (cosines, errors, lengths)
  }

  /// Numbers that sum up a list. `lowest1` is the value that one item in a hundred lies at or below.
  public struct Summary: Sendable {
    public let mean, lowest1, least, most: Double
    /// Values there were; others were undefined.
    public let count: Int

    /// NaN in every field when there are no values.
    public init(_ values: [Double]) {
      let sorted = values.sorted()
      count = sorted.count
      mean = sorted.isEmpty ? .nan : sorted.reduce(0, +) / Double(sorted.count)
      lowest1 = sorted.isEmpty ? .nan : sorted[(sorted.count - 1) / 100]
      least = sorted.first ?? .nan
      most = sorted.last ?? .nan
    }
  }

  public var cosine: Summary { Summary(cosines.compactMap { $0 }) }
  public var relativeError: Summary { Summary(relativeErrors.compactMap { $0 }) }
  public var length: Summary { Summary(lengths.compactMap { $0 }) }
  /// Degrees.
  public var angle: Summary { Summary(cosines.compactMap { $0.map { acos($0) * 180 / .pi } }) }
}
