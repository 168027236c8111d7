import Bytes
import Fidelity

extension IndexMap {
  private static let ridges = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1]
  /// Rows that choose between maps, at most.
  private static let mostJudges = 4_096
  public static let leastRows = 10

  /// The least map that takes new vectors to old ones, row by row the same items.
  ///
  /// Of all families, ridges and ranks the one is taken whose vectors come nearest on every fifth row, which no map was
  /// fitted on until then; where several come as near, to a hundredth of what is left, the one with fewest numbers.
  /// That one is fitted again on all rows.
  ///
  /// - Parameter rows: places in both.
  /// - Throws: `usage` for too few rows, `malformed` for vectors that are no numbers.
  /// - Cost: `rows · width²` products, and some twenty of `width³`. Sums are in double precision on one thread.
  public static func fit(new: Embeddings, old: Embeddings, rows: [Int]) throws(Failure) -> IndexMap {
    guard rows.count >= leastRows else {
      throw Failure(.usage, "\(rows.count) rows to fit a map on; at least \(leastRows) are needed")
    }
    let judges = rows.indices.filter { $0 % 5 == 4 }.map { rows[$0] }.prefix(mostJudges)
    let x = Embeddings(width: new.width, values: try new.rows(at: Array(judges)))
    let y = Embeddings(width: old.width, values: try old.rows(at: Array(judges)))
    var maps: [(map: IndexMap, loss: Double)] = []
    for map in try Moments(new, old, rows.indices.filter { $0 % 5 != 4 }.map { rows[$0] }).maps(ridges) {
      let cosines = try Closeness([(y, map.mapped(x))]).cosines
      maps.append((map, 1 - cosines.reduce(0) { $0 + ($1 ?? -1) } / Double(cosines.count)))
    }
    let least = maps.map(\.loss).min() ?? 0
    guard let best = maps.filter({ $0.loss <= least * 1.01 + 1e-9 }).min(by: { $0.map.size < $1.map.size }) else {
      throw Failure(.malformed, "no map makes vectors of these")
    }
    return try Moments(new, old, rows).map(best.map.family)
  }
}

/// What maps are made of: means of pairs of vectors and their products.
private struct Moments {
  /// Mean vectors.
  private let x, y: [Double]
  /// Means of products of centred vectors: `[inputs, inputs]`, `[inputs, outputs]`.
  private let variances, covariances: Matrix
  private let axes: (values: [Double], vectors: Matrix)

  private static let rowsAtATime = 4_096

  init(_ new: Embeddings, _ old: Embeddings, _ rows: [Int]) throws(Failure) {
    let (inputs, outputs) = (new.width, old.width)
    func block(_ vectors: Embeddings, _ places: ArraySlice<Int>) throws(Failure) -> Matrix {
      Matrix(places.count, vectors.width, try vectors.rows(at: Array(places)).map(Double.init))
    }
    var (xx, xy) = (Matrix(inputs, inputs), Matrix(inputs, outputs))
    var (x, y) = ([Double](repeating: 0, count: inputs), [Double](repeating: 0, count: outputs))
    for first in stride(from: 0, to: rows.count, by: Moments.rowsAtATime) {
      let places = rows[first..<min(rows.count, first + Moments.rowsAtATime)]
      let (a, b) = (try block(new, places), try block(old, places))
      xx.add(a.times(a, transposed: true))
      xy.add(a.times(b, transposed: true))
      for row in 0..<places.count {
        for column in 0..<inputs { x[column] += a.values[row * inputs + column] }
        for column in 0..<outputs { y[column] += b.values[row * outputs + column] }
      }
    }
    let n = Double(rows.count)
    x = x.map { $0 / n }
    y = y.map { $0 / n }
    for row in 0..<inputs {
      for column in 0..<inputs { xx.values[row * inputs + column] -= n * x[row] * x[column] }
      for column in 0..<outputs { xy.values[row * outputs + column] -= n * x[row] * y[column] }
    }
    (self.x, self.y) = (x, y)
    variances = xx.scaled(by: 1 / n)
    covariances = xy.scaled(by: 1 / n)
    axes = try variances.eigen()
  }

  /// One of every family, ridge and rank.
  func maps(_ ridges: [Double]) throws(Failure) -> [IndexMap] {
    var maps = [try map(.orthogonal)]
    for ridge in ridges {
      let whole = regression(ridge)
      maps.append(affine(ridge, nil, whole))
      let seen = try axesSeen(whole)
      for rank in [2, 4, 8].map({ y.count / $0 }) where rank >= 8 {
        maps.append(affine(ridge, rank, whole.onto(seen, rank)))
      }
    }
    return maps
  }

  func map(_ family: IndexMap.Family) throws(Failure) -> IndexMap {
    switch family {
    case .orthogonal:
      var products = covariances
      for row in x.indices {
        for column in y.indices { products.values[row * y.count + column] += x[row] * y[column] }
      }
      return IndexMap(.orthogonal, try products.orthogonalFactor(), bias: y.map { _ in 0 })
    case .affine(let ridge, let rank):
      let whole = regression(ridge)
      guard let rank else { return affine(ridge, nil, whole) }
      return affine(ridge, rank, whole.onto(try axesSeen(whole), rank))
    }
  }

  private func affine(_ ridge: Double, _ rank: Int?, _ matrix: Matrix) -> IndexMap {
    let mean = Matrix(1, x.count, x).times(matrix).values
    return IndexMap(.affine(ridge: ridge, rank: rank), matrix, bias: zip(y, mean).map(-))
  }

  /// `(XᵀX + ridge · mean variance)⁻¹ XᵀY`, through the axes of `XᵀX`.
  private func regression(_ ridge: Double) -> Matrix {
    let penalty = max(ridge * axes.values.reduce(0, +) / Double(x.count), .leastNormalMagnitude)
    var onAxes = axes.vectors.times(covariances)
    for row in x.indices {
      let factor = 1 / (max(axes.values[row], 0) + penalty)
      for column in y.indices { onAxes.values[row * y.count + column] *= factor }
    }
    return axes.vectors.times(onAxes, transposed: true)
  }

  /// Axes of what a regression gives, those with most variance last, as rows.
  private func axesSeen(_ regression: Matrix) throws(Failure) -> Matrix {
    try regression.times(variances.times(regression), transposed: true).eigen().vectors
  }
}

extension Matrix {
  fileprivate mutating func add(_ other: Matrix) {
    for place in values.indices { values[place] += other.values[place] }
  }

  fileprivate func scaled(by factor: Double) -> Matrix { Matrix(rows, columns, values.map { $0 * factor }) }

  /// On the last `rank` of some axes alone.
  fileprivate func onto(_ axes: Matrix, _ rank: Int) -> Matrix {
    let kept = Matrix(rank, axes.columns, Array(axes.values.suffix(rank * axes.columns)))
    return times(kept, otherTransposed: true).times(kept)
  }
}
