import Bytes

/// How much of the space a set of vectors fills: an encoder that says the same of everything has none.
public struct Spread: Sendable {
  /// Mean cosine of two different items.
  public let meanCosine: Double
  /// Effective number of dimensions: `(Σλ)² / Σλ²` over the eigenvalues of the covariance of the unit vectors
  /// (participation ratio). 1 for vectors on a line, the width for a ball; 0 when all are equal.
  public let dimensions: Double

  private static let most = 2_048

  /// Over at most 2,048 items, evenly spread; NaN with fewer than two. By the items' inner products, whose square sum
  /// is that of the eigenvalues.
  public init(_ items: Embeddings, threads: Int) throws(Failure) {
    let sample = try items.sample(Spread.most)
    let (count, width) = (sample.count, sample.width)
    var values = try sample.rows(0..<count)
    guard count > 1 else {
      (meanCosine, dimensions) = (.nan, .nan)
      return
    }
    var mean = [Double](repeating: 0, count: width)
    for row in 0..<count {
      let place = row * width..<(row + 1) * width
      let length = values[place].reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
      for column in 0..<width {
        if length > 0 { values[place.lowerBound + column] /= Float(length) }
        mean[column] += Double(values[place.lowerBound + column])
      }
    }
    let n = Double(count)
    meanCosine = (mean.reduce(0) { $0 + $1 * $1 } - n) / (n * (n - 1))
    for row in 0..<count {
      for column in 0..<width { values[row * width + column] -= Float(mean[column] / n) }
    }
    let packed = try PackedRows(values, width: width, threads: threads)
    let centred = values
    let sums = Lock([(trace: Double, squares: Double)](repeating: (0, 0), count: count))
    try parallel(count, threads: threads) { row in
      let products = centred.withUnsafeBufferPointer { x in
        x.baseAddress.map { packed.products(with: $0 + row * width) } ?? []
      }
      let squares = products.reduce(0.0) { $0 + Double($1) * Double($1) }
      sums.withLock { $0[row] = (Double(products[row]), squares) }
    }
    let (trace, squares) = sums.withLock { all in
      (all.reduce(0) { $0 + $1.trace }, all.reduce(0) { $0 + $1.squares })
    }
    // What rounding leaves of equal vectors is not a direction.
    dimensions = trace / n > 1e-10 ? trace * trace / squares : 0
  }
}
