import Bytes
import Glibc

/// Whether items fall into the same groups: k-means of both sets of vectors, from the same first centres.
public struct Clusters: Sendable {
  public let count: Int
  /// Adjusted Rand index (Hubert and Arabie 1985) of the two groupings: 1 for the same, 0 for no more than chance.
  public let agreement: Double
  /// The same of two groupings of the reference alone, from different first centres: what k-means itself leaves open.
  public let stability: Double
  /// V-measure (Rosenberg and Hirschberg 2007) of each grouping with the classes; nil without classes.
  public let vMeasure: (reference: Double, candidate: Double)?

  private static let most = 4_096
  private static let rounds = 25

  /// Over at most 4,096 items, evenly spread, in `√(n / 2)` groups, 32 at most; nil with fewer than 8 items.
  ///
  /// - Parameter classes: of all items; nil where somebody did not say.
  public init?(reference: Embeddings, candidate: Embeddings, classes: [String?] = [], threads: Int) throws(Failure) {
    let places = Embeddings.spread(reference.count, Clusters.most)
    guard places.count >= 8 else { return nil }
    let (a, b) = (try reference.rows(at: places), try candidate.rows(at: places))
    let width = reference.width
    count = min(32, Int((Double(places.count) / 2).squareRoot()))
    let first = Clusters.centres(a, width, count, seed: 1)
    let of = try Clusters.groups(a, width, from: first, threads)
    let other = try Clusters.groups(b, width, from: first, threads)
    let again = try Clusters.groups(a, width, from: Clusters.centres(a, width, count, seed: 2), threads)
    agreement = Clusters.adjustedRand(of, other)
    stability = Clusters.adjustedRand(of, again)
    var numbers: [String: Int] = [:]
    let known = places.compactMap { place -> Int? in
      guard classes.count == reference.count, let name = classes[place] else { return nil }
      let number = numbers[name] ?? numbers.count
      numbers[name] = number
      return number
    }
    vMeasure =
      known.count == places.count
      ? (Clusters.vMeasure(known, of), Clusters.vMeasure(known, other)) : nil
  }

  /// Items that the groups start from: each next one far from those chosen (k-means++, Arthur and Vassilvitskii 2007).
  private static func centres(_ values: [Float], _ width: Int, _ count: Int, seed: UInt64) -> [Int] {
    var generator = SplitMix64(state: seed)
    let items = values.count / width
    var chosen = [generator.below(items)]
    var distance = [Double](repeating: .infinity, count: items)
    while chosen.count < count {
      let last = chosen[chosen.count - 1] * width
      var total = 0.0
      for item in 0..<items {
        var sum: Float = 0
        for column in 0..<width {
          let d = values[item * width + column] - values[last + column]
          sum += d * d
        }
        distance[item] = min(distance[item], Double(sum))
        total += distance[item]
      }
      guard total > 0 else { break }
      var left = generator.uniform() * total
      let next = distance.firstIndex { value in
        left -= value
        return left < 0
      }
      chosen.append(next ?? items - 1)
    }
    return chosen
  }

  /// Lloyd's rounds, the group of each item.
  private static func groups(_ values: [Float], _ width: Int, from first: [Int], _ threads: Int) throws(Failure)
    -> [Int]
  {
    let items = values.count / width
    var centres = first.flatMap { values[$0 * width..<($0 + 1) * width] }
    var groups = [Int](repeating: 0, count: items)
    for _ in 0..<rounds {
      // |x - c|² without the part that is the same for all: |c|² - 2 x·c.
      let packed = try PackedRows(centres, width: width)
      let lengths = first.indices.map { place in
        centres[place * width..<(place + 1) * width].reduce(Float(0)) { $0 + $1 * $1 }
      }
      let found = Lock(groups)
      try parallel(items, threads: threads) { item in
        let products = values.withUnsafeBufferPointer { x in
          x.baseAddress.map { packed.products(with: $0 + item * width) } ?? []
        }
        var best = 0
        for place in products.indices
        where lengths[place] - 2 * products[place] < lengths[best] - 2 * products[best] { best = place }
        found.withLock { $0[item] = best }
      }
      let next = found.withLock { $0 }
      if next == groups { break }
      groups = next
      var sums = [Double](repeating: 0, count: centres.count)
      var counts = [Int](repeating: 0, count: first.count)
      for item in 0..<items {
        counts[groups[item]] += 1
        for column in 0..<width { sums[groups[item] * width + column] += Double(values[item * width + column]) }
      }
      for place in first.indices where counts[place] > 0 {
        for column in 0..<width {
          centres[place * width + column] = Float(sums[place * width + column] / Double(counts[place]))
        }
      }
    }
    return groups
  }

  // MARK: Comparing groupings

  private static func table(_ a: [Int], _ b: [Int]) -> (cells: [Double], a: [Double], b: [Double]) {
    var (cells, rows, columns) = ([[Int]: Double](), [Int: Double](), [Int: Double]())
    for (x, y) in zip(a, b) {
      cells[[x, y], default: 0] += 1
      rows[x, default: 0] += 1
      columns[y, default: 0] += 1
    }
    return (cells.values.sorted(), rows.values.sorted(), columns.values.sorted())
  }

  static func adjustedRand(_ a: [Int], _ b: [Int]) -> Double {
    func pairs(_ counts: [Double]) -> Double { counts.reduce(0) { $0 + $1 * ($1 - 1) / 2 } }
    let (cells, rows, columns) = table(a, b)
    let n = Double(a.count)
    let (both, x, y) = (pairs(cells), pairs(rows), pairs(columns))
    let chance = x * y / (n * (n - 1) / 2)
    let most = (x + y) / 2
    return most == chance ? 1 : (both - chance) / (most - chance)
  }

  static func vMeasure(_ classes: [Int], _ groups: [Int]) -> Double {
    let n = Double(classes.count)
    func entropy(_ counts: [Double]) -> Double { -counts.reduce(0) { $0 + $1 / n * log($1 / n) } }
    let (cells, rows, columns) = table(classes, groups)
    let (joint, c, k) = (entropy(cells), entropy(rows), entropy(columns))
    let homogeneity = c > 0 ? 1 - (joint - k) / c : 1
    let completeness = k > 0 ? 1 - (joint - c) / k : 1
    return homogeneity + completeness > 0 ? 2 * homogeneity * completeness / (homogeneity + completeness) : 0
  }
}
