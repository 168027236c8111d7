import Glibc

/// Why a program's vectors are not the reference's, found by comparing them with the vectors that the reference gives
/// under faults that programs are known to have.
public struct Diagnosis: Sendable {
  /// Something that explains what was seen.
  public struct Cause: Sendable, Equatable {
    /// For machines: `lower-cased`, `columns-cut`, …
    public let name: String
    /// For people: what is the matter, with the numbers that say so.
    public let text: String

    public init(name: String, text: String) { (self.name, self.text) = (name, text) }
  }

  /// The reference's vectors of some items, made with one thing done wrong.
  public struct Fault: Sendable {
    public let name, words: String
    /// Places of the items.
    public let rows: [Int]
    /// `[rows, width]`.
    public let vectors: [Float]

    public init(name: String, words: String, rows: [Int], vectors: [Float]) {
      (self.name, self.words, self.rows, self.vectors) = (name, words, rows, vectors)
    }
  }

  /// The likeliest first; empty where nothing needs an explanation.
  public private(set) var causes: [Cause] = []
  /// Pearson's correlation, over all pairs of items, of how similar both programs hold them to be: near 1 where they
  /// mean the same, whatever space they say it in. NaN for fewer than three items.
  public let structure: Double

  /// Mean `1 - cosine` up to which vectors count as the same.
  private static let same = 0.0005
  /// Share of the distance that a fault has to explain.
  private static let leastShare = 0.5
  /// Items that a fault has to touch: fewer may be like it by chance.
  private static let leastRows = 3

  /// - Parameters:
  ///   - reference: `[count, width]`.
  ///   - candidate: `[count, ownWidth]`, the same items in the same order.
  /// - Cost: count² width products for orders and structure, count width² where columns may have changed places.
  public init(reference: [Float], width: Int, candidate: [Float], ownWidth: Int, faults: [Fault]) {
    let a = Rows(reference, width)
    let b = Rows(candidate, ownWidth)
    precondition(a.count == b.count, "the same items")
    structure = Diagnosis.structure(a, b)
    if let cause = Diagnosis.unusable(b) { causes.append(cause) }
    if ownWidth != width {
      causes.append(Diagnosis.otherWidth(a, b, structure))
      return
    }
    if let cause = Diagnosis.lengths(a, b) { causes.append(cause) }
    let distances = a.distances(b)
    let usable = distances.indices.filter { b.isFinite($0) && b.squares[$0] > 0 }
    let mean = usable.reduce(0) { $0 + distances[$1] } / Double(max(1, usable.count))
    guard mean > Diagnosis.same else { return }
    if let cause = Diagnosis.order(a, b, distances) {
      causes.insert(cause, at: 0)
      return
    }
    let named = Diagnosis.named(faults, b, distances)
    causes += named
    if let cause = Diagnosis.collapsed(a, b) { causes.append(cause) }
    guard named.isEmpty else { return }
    if mean > 0.1, let cause = Diagnosis.columns(a, b) {
      causes.append(cause)
    } else {
      causes.append(Diagnosis.model(mean: mean, structure))
    }
  }

  // MARK: What can be seen in the vectors alone

  private static func unusable(_ b: Rows) -> Cause? {
    let odd = (0..<b.count).filter { !b.isFinite($0) }
    let zero = (0..<b.count).filter { b.isFinite($0) && b.squares[$0] == 0 }
    if !odd.isEmpty {
      return Cause(
        name: "not-finite",
        text:
          "\(odd.count) of \(b.count) vectors hold numbers that are not finite: an overflow, as half precision has it "
          + "beyond 65,504")
    }
    return zero.isEmpty ? nil : Cause(name: "zero", text: "\(zero.count) of \(b.count) vectors are zero")
  }

  private static func lengths(_ a: Rows, _ b: Rows) -> Cause? {
    let ratios = (0..<a.count).compactMap { row in
      a.squares[row] > 0 && b.isFinite(row) ? (b.squares[row] / a.squares[row]).squareRoot() : nil
    }.sorted()
    guard let least = ratios.first, let most = ratios.last, least < 0.98 || most > 1.02, most > 0 else { return nil }
    let isAlike = most - least < 0.02 * most
    return Cause(
      name: "not-normalised",
      text: "vectors do not have the reference's lengths: \(least.fixed(3)) to \(most.fixed(3)) times as long"
        + (isAlike ? "; a constant factor" : "; they are not normalised"))
  }

  private static func otherWidth(_ a: Rows, _ b: Rows, _ structure: Double) -> Cause {
    let columns = "vectors have \(b.width) columns, the reference's \(a.width)"
    if b.width < a.width {
      let cut = a.first(b.width)
      if 1 - cut.meanDistance(b) > 0.9 {
        return Cause(name: "columns-cut", text: "\(columns): they are its first \(b.width)")
      }
    }
    if 2 * b.width == a.width {
      let odd = a.odd
      if 1 - odd.meanDistance(b.highWords) > 0.9 {
        return Cause(
          name: "read-as-float64",
          text: "\(columns): bytes of Float32 were read as Float64, which makes half as many columns of other numbers")
      }
    }
    return Cause(
      name: "another-model", text: "\(columns): another model. \(Diagnosis.inWords(structure))")
  }

  /// Vectors of other items.
  private static func order(_ a: Rows, _ b: Rows, _ distances: [Double]) -> Cause? {
    var places: [Int] = []
    for row in 0..<b.count where distances[row] > 0.05 {
      let nearest = (0..<a.count).map { (distance: a.distance($0, b, row), place: $0) }.min { $0 < $1 }
      if let nearest, nearest.place != row, nearest.distance < 0.05, nearest.distance < distances[row] / 4 {
        places.append(nearest.place)
      }
    }
    let moved = places.count
    // Many that are all one item's are a collapse, not another order.
    guard moved >= leastRows, 10 * moved >= b.count, 2 * Set(places).count > moved else { return nil }
    return Cause(
      name: "other-order",
      text: "\(moved) of \(b.count) vectors are those of other items: the order of the answers is not "
        + "that of the questions")
  }

  /// Different items, one vector.
  private static func collapsed(_ a: Rows, _ b: Rows) -> Cause? {
    var groups: [[Float]: [Int]] = [:]
    for row in 0..<b.count { groups[Array(b[row]), default: []].append(row) }
    let collapsed = groups.values.filter { rows in rows.dropFirst().contains { a.distance(rows[0], a, $0) > 0.001 } }
    let count = collapsed.reduce(0) { $0 + $1.count }
    return count == 0
      ? nil
      : Cause(
        name: "one-vector",
        text: "\(count) of \(b.count) different items share a vector with another: to the program "
          + "their texts are the same")
  }

  /// Columns that changed places or signs.
  private static func columns(_ a: Rows, _ b: Rows) -> Cause? {
    let (x, y) = (a.standardColumns, b.standardColumns)
    let n = Double(a.count)
    var (own, best, places): (Double, Double, Set<Int>) = (0, 0, [])
    for column in 0..<a.width {
      let products = x.map { row in
        var sum = 0.0
        for item in 0..<a.count { sum += Double(row[item]) * Double(y[column][item]) }
        return sum / n
      }
      guard let place = products.indices.max(by: { abs(products[$0]) < abs(products[$1]) }) else { return nil }
      own += products[column]
      best += abs(products[place])
      places.insert(place)
    }
    let width = Double(a.width)
    guard best / width > 0.9, own / width < 0.8, Double(places.count) > 0.95 * width else { return nil }
    return Cause(
      name: "columns-reordered",
      text: "columns have changed places or signs: each is another of the reference's (mean correlation "
        + "\((best / width).fixed(3)), with its own place \((own / width).fixed(3)))")
  }

  private static func model(mean: Double, _ structure: Double) -> Cause {
    let cosine = "mean cosine \((1 - mean).fixed(4))"
    if mean < 0.2, structure > 0.8 {
      return Cause(
        name: "coarser",
        text: "the same model in coarser arithmetic or with rounded weights (\(cosine)); no known fault of "
          + "texts, pooling or columns is nearer")
    }
    return Cause(name: "another-model", text: "vectors of another model (\(cosine)). \(inWords(structure))")
  }

  private static func inWords(_ structure: Double) -> String {
    let number = "similarities between items correlate to \(structure.fixed(3))"
    if structure > 0.8 { return "It means much the same in another space: \(number); `llvconv adapt` may bridge it" }
    return "\(number.prefix(1).uppercased())\(number.dropFirst())"
  }

  // MARK: Faults

  /// Those that explain most of the distance, the one that explains most first; others where they explain as much.
  private static func named(_ faults: [Fault], _ b: Rows, _ distances: [Double]) -> [Cause] {
    let judged = faults.compactMap { fault -> (fault: Fault, explained: Double, share: Double, rows: Int)? in
      let vectors = Rows(fault.vectors, b.width)
      var (own, other, rows) = (0.0, 0.0, 0)
      for (place, row) in fault.rows.enumerated() {
        // Where the fault changes nothing it explains nothing, and it explains no vector without a direction.
        let distance = vectors.distance(place, b, row)
        guard abs(distances[row] - distance) > same / 5, b.isFinite(row), b.squares[row] > 0 else { continue }
        own += distances[row]
        other += distance
        rows += 1
      }
      guard rows >= leastRows, own > 0, 1 - other / own >= leastShare else { return nil }
      return (fault, own - other, 1 - other / own, rows)
    }
    .sorted { ($0.explained, $1.fault.name) > ($1.explained, $0.fault.name) }
    guard let best = judged.first else { return [] }
    return judged.filter { $0.explained >= 0.95 * best.explained }.prefix(3).map { found in
      Cause(
        name: found.fault.name,
        text: "\(found.fault.words): that explains \(Headline.percent(found.share)) of the distance of "
          + "\(found.rows) of \(found.fault.rows.count) texts")
    }
  }

  private static func structure(_ a: Rows, _ b: Rows) -> Double {
    let good = (0..<a.count).filter { b.isFinite($0) && b.squares[$0] > 0 && a.squares[$0] > 0 }
    guard good.count > 2 else { return .nan }
    var (n, x, y, xx, yy, xy) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    for (place, i) in good.enumerated() {
      for j in good[..<place] {
        let (p, q) = (a.distance(i, a, j), b.distance(i, b, j))
        n += 1
        x += p
        y += q
        xx += p * p
        yy += q * q
        xy += p * q
      }
    }
    return (n * xy - x * y) / ((n * xx - x * x) * (n * yy - y * y)).squareRoot()
  }
}

/// Vectors in memory with the squares of their lengths.
private struct Rows {
  let width, count: Int
  let values: [Float]
  let squares: [Double]

  init(_ values: [Float], _ width: Int) {
    (self.values, self.width, count) = (values, width, values.count / width)
    squares = (0..<values.count / width).map { row in
      values[row * width..<(row + 1) * width].reduce(0.0) { $0 + Double($1) * Double($1) }
    }
  }

  subscript(row: Int) -> ArraySlice<Float> { values[row * width..<(row + 1) * width] }

  func isFinite(_ row: Int) -> Bool { squares[row].isFinite }

  /// `1 - cosine`; 2 where one of them has no direction.
  func distance(_ row: Int, _ other: Rows, _ otherRow: Int) -> Double {
    let product = values.withUnsafeBufferPointer { x in
      other.values.withUnsafeBufferPointer { y in
        var sum = 0.0
        for column in 0..<width { sum += Double(x[row * width + column]) * Double(y[otherRow * width + column]) }
        return sum
      }
    }
    let cosine = product / (squares[row] * other.squares[otherRow]).squareRoot()
    return cosine.isFinite ? 1 - min(1, cosine) : 2
  }

  func distances(_ other: Rows) -> [Double] { (0..<count).map { distance($0, other, $0) } }

  func meanDistance(_ other: Rows) -> Double { distances(other).reduce(0, +) / Double(max(1, count)) }

  func first(_ columns: Int) -> Rows { Rows((0..<count).flatMap { self[$0].prefix(columns) }, columns) }

  /// Every second column, from the second on: what the high half of a Float64 made of two Float32s comes from.
  var odd: Rows {
    Rows((0..<count).flatMap { row in self[row].enumerated().filter { $0.offset % 2 == 1 }.map(\.element) }, width / 2)
  }

  /// Of each number as a Float64 the high half, read as a Float32. What is no number there is 0.
  var highWords: Rows {
    Rows(
      values.map { value in
        let word = Float(bitPattern: UInt32(truncatingIfNeeded: Double(value).bitPattern >> 32))
        return word.isFinite ? word : 0
      }, width)
  }

  /// Columns with mean 0 and variance 1, `[width][count]`; what is constant is 0.
  var standardColumns: [[Float]] {
    (0..<width).map { column in
      let values = (0..<count).map { Double(self.values[$0 * width + column]) }
      let mean = values.reduce(0, +) / Double(count)
      let deviation = (values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(count)).squareRoot()
      return values.map { deviation > 0 ? Float(($0 - mean) / deviation) : 0 }
    }
  }
}
