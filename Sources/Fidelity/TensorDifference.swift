import Bytes
import Tensors

/// How far two tensors of one shape are apart, element by element.
public struct TensorDifference: Sendable, Equatable {
  /// Cosine of the angle between them as vectors; 1 when both are zero, 0 when one is.
  public var cosine = 1.0
  /// `‖a - b‖ / ‖a‖`; infinite when a is zero and b is not.
  public var relativeError = 0.0
  /// Largest `|a - b|`.
  public var largestError = 0.0
  /// Whether all bits are equal. NaN equals the same NaN here, and 0 is not -0.
  public var isIdentical = true
  /// Of each row, `Σ a²` and `Σ (a - b)²`.
  public private(set) var rows: [Row] = []

  public struct Row: Sendable, Equatable {
    public let squares, difference: Double

    public init(squares: Double, difference: Double) { (self.squares, self.difference) = (squares, difference) }
  }

  /// - Parameter weights: what squares in each column count, in the relative error and the cosine; 1 when nil.
  /// - Rounding: differences in Float32, sums in double.
  /// - Cost: each tensor is read once; nothing of their size is in memory.
  /// - Throws: `unsupported` for element types that no weight has, `malformed` for damaged files.
  public init(_ a: Tensor, _ b: Tensor, weights: [Float]? = nil, threads: Int) throws(Failure) {
    precondition(a.shape == b.shape, "tensors of one shape")
    let (count, columns) = (a.rows, a.columns)
    guard a.count > 0 else { return }
    let parts = Lock([Sums](repeating: Sums(), count: RowReader.spans(count, columns)))
    let other = try b.rowReader(threads: threads)
    do throws(Failure) {
      try a.rowReader(threads: threads).forEachSpan(rows: count, columns: columns, threads: threads) {
        (number, span, values) throws(Failure) in
        do throws(Failure) {
          let memory = try Buffer(count: span.count * columns * 4)
          let sums = try memory.with(Float.self) { (second) throws(Failure) -> Sums in
            guard let start = second.baseAddress else { return Sums() }
            try other.read(span, into: start)
            var sums = Sums()
            for row in 0..<span.count {
              var own = Sums()
              own.add(values + row * columns, start + row * columns, columns, weights)
              sums.add(own)
              sums.rows.append(Row(squares: own.aa, difference: own.difference))
            }
            return sums
          }
          parts.withLock { $0[number] = sums }
        } catch {
          // Nobody waits for rows that will not come.
          try? other.finish(isComplete: false)
          throw error
        }
      }
      try other.finish(isComplete: true)
    } catch { throw error.thing == nil ? error.about("tensor \(a.name.quoted)") : error }
    var sum = Sums()
    for part in parts.withLock({ $0 }) {
      sum.add(part)
      rows += part.rows
    }
    isIdentical = sum.isIdentical
    largestError = sum.largest
    cosine =
      sum.aa > 0 && sum.bb > 0 ? sum.ab / (sum.aa.squareRoot() * sum.bb.squareRoot()) : sum.aa == sum.bb ? 1 : 0
    relativeError = sum.difference == 0 ? 0 : (sum.difference / sum.aa).squareRoot()
  }

  private struct Sums {
    var aa = 0.0, ab = 0.0, bb = 0.0, difference = 0.0, largest = 0.0
    var isIdentical = true
    var rows: [Row] = []

    mutating func add(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ count: Int, _ weights: [Float]?) {
      for index in 0..<count {
        let (x, y) = (a[index], b[index])
        if x.bitPattern == y.bitPattern, !x.isFinite { continue }
        isIdentical = isIdentical && x.bitPattern == y.bitPattern
        let (d, weight) = (Double(x - y), weights.map { Double($0[index]) } ?? 1)
        aa += weight * Double(x) * Double(x)
        ab += weight * Double(x) * Double(y)
        bb += weight * Double(y) * Double(y)
        difference += weight * d * d
        largest = d.isNaN ? .infinity : max(largest, abs(d))
      }
    }

    mutating func add(_ other: Sums) {
      aa += other.aa
      ab += other.ab
      bb += other.bb
      difference += other.difference
      largest = max(largest, other.largest)
      isIdentical = isIdentical && other.isIdentical
    }
  }

  public var json: JSONText {
    [
      "cosine": .number(cosine), "relative_error": .number(relativeError), "largest_error": .number(largestError),
      "identical": .bool(isIdentical),
    ]
  }
}
