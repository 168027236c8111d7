import Bytes
import Glibc

/// How far one set of vectors is from another, item by item.
public struct Closeness: Sendable {
  /// Cosine of each item's two vectors; nil where one of them is zero and there is no angle.
  public let cosines: [Double?]
  /// `‖candidate - reference‖ / ‖reference‖` of each item; nil where the reference is zero.
  public let relativeErrors: [Double?]

  /// - Shapes: both `[items, width]`. Sums in double.
  public init(reference: Embeddings, candidate: Embeddings) {
    precondition(reference.count == candidate.count && reference.width == candidate.width, "the same items")
    var cosines: [Double?] = []
    var errors: [Double?] = []
    for row in 0..<reference.count {
      var (dot, a, b, difference) = (0.0, 0.0, 0.0, 0.0)
      for (x, y) in zip(reference[row], candidate[row]) {
        let (x, y) = (Double(x), Double(y))
        dot += x * y
        a += x * x
        b += y * y
        difference += (x - y) * (x - y)
      }
      cosines.append(a > 0 && b > 0 ? min(1, dot / (a * b).squareRoot()) : nil)
      errors.append(a > 0 ? (difference / a).squareRoot() : nil)
    }
    self.cosines = cosines
    relativeErrors = errors
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
  /// Degrees.
  public var angle: Summary { Summary(cosines.compactMap { $0.map { acos($0) * 180 / .pi } }) }
}
