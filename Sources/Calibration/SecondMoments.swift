import Bytes
import COpenBLAS
import Inference
import Tensors

/// First and second moments of the inputs of linear operations, `Σ x` and `Σ x xᵀ` over tokens: how much an error in
/// one weight costs, alone and together with errors in others.
///
/// Of wide inputs only square blocks on the diagonal are kept, of at most `widest` columns: memory and time grow with
/// the square.
///
/// - Note: sums run in Float32 in the order of the batches, so they do not depend on the number of threads.
public final class SecondMoments: LinearObserver {
  public static let widest = 2_560

  private struct Sum: Sendable {
    let columns: Int
    let buffer: Buffer  // [columns, block]; only the upper triangle of each block is filled
    /// Of tokens, and of those that stand for parts of pictures.
    var kinds: [Channels]
  }

  /// Sums over tokens of each column, and largest magnitudes.
  private struct Channels: Sendable {
    var tokens = 0
    var totals, squares: [Double]
    var largest: [Float]

    init(columns: Int) {
      totals = .init(repeating: 0, count: columns)
      squares = totals
      largest = .init(repeating: 0, count: columns)
    }

    mutating func add(_ row: UnsafePointer<Float>) {
      tokens += 1
      let columns = totals.count
      totals.withUnsafeMutableBufferPointer { for column in 0..<columns { $0[column] += Double(row[column]) } }
      squares.withUnsafeMutableBufferPointer {
        for column in 0..<columns { $0[column] += Double(row[column]) * Double(row[column]) }
      }
      largest.withUnsafeMutableBufferPointer {
        for column in 0..<columns {
          let size = row[column].magnitude
          $0[column] = size > $0[column] ? size : $0[column]
        }
      }
    }
  }

  private let sums = Lock<[TensorName: Sum]>([:])
  private let threads: Int
  private let pictureWeight: Float

  /// - Parameter pictureWeight: what a text model's token that stands for a part of a picture counts, beside others' 1.
  public init(threads: Int = availableThreads, pictureWeight: Float = 1) {
    self.threads = threads
    self.pictureWeight = pictureWeight
    openblas_set_num_threads(1)
  }

  /// Columns of a block; the last one of an input may be narrower.
  public static func block(_ columns: Int) -> Int {
    let blocks = Checked.ceilDivide(columns, widest)
    return min(columns, Checked.roundUp(Checked.ceilDivide(columns, blocks), to: 128) ?? columns)
  }

  /// Of the tensors of one weight, as `tensors()` gives them.
  public static func byteCount(columns: Int) -> Int { 4 * columns * (block(columns) + 5) }

  static func isShape(_ shape: [Int]) -> Bool { shape.count == 2 && shape[0] > 0 && shape[1] == block(shape[0]) }

  static func mean(_ weight: TensorName) -> TensorName { weight.made("mean") }
  static func channels(_ weight: TensorName) -> TensorName { weight.made("channels") }

  public func sees(
    _ weight: TensorName, _ seen: [Float], rows: Int, columns: Int, isPicture: ArraySlice<Bool>
  ) throws(Failure) {
    // No token may go to an expert.
    guard rows > 0 else { return }
    let block = SecondMoments.block(columns)
    var sum: Sum
    if let known = sums.withLock({ $0[weight] }) {
      sum = known
    } else {
      guard let size = Checked.product([columns, block, 4]) else {
        throw Failure(.limit, "too many columns: \(columns)")
      }
      sum = Sum(
        columns: columns,
        buffer: try Buffer(count: size), kinds: .init(repeating: Channels(columns: columns), count: 2))
      sum.buffer.clear()
    }
    let values = weighed(seen, columns, isPicture)
    // Tiles of the upper triangles.
    let tile = 256
    var tiles: [(first: Int, row: Int, column: Int, end: Int)] = []
    for first in stride(from: 0, to: columns, by: block) {
      let end = min(columns, first + block)
      for row in stride(from: first, to: end, by: tile) {
        for column in stride(from: row, to: end, by: tile) { tiles.append((first, row, column, end)) }
      }
    }
    let (all, target) = (tiles, SharedPointer(sum.buffer.start.assumingMemoryBound(to: Float.self)))
    try values.withUnsafeBufferPointer { (values) throws(Failure) in
      guard let base = values.baseAddress else { return }
      let x = SharedPointer(UnsafeMutablePointer(mutating: base))
      try parallel(all.count, threads: threads) { task in
        let (first, row, column, end) = all[task]
        cblas_sgemm(
          CblasRowMajor, CblasTrans, CblasNoTrans, Int32(min(tile, end - row)), Int32(min(tile, end - column)),
          Int32(rows), 1, x.pointer + row, Int32(columns), x.pointer + column, Int32(columns), 1,
          target.pointer + row * block + (column - first), Int32(block))
      }
    }
    seen.withUnsafeBufferPointer { seen in
      for row in 0..<rows {
        guard let base = seen.baseAddress else { return }
        sum.kinds[!isPicture.isEmpty && isPicture[isPicture.startIndex + row] ? 1 : 0].add(base + row * columns)
      }
    }
    let done = sum
    sums.withLock { $0[weight] = done }
  }

  /// Rows that stand for parts of pictures, by the root of what they count.
  private func weighed(_ values: [Float], _ columns: Int, _ isPicture: ArraySlice<Bool>) -> [Float] {
    guard pictureWeight != 1, isPicture.contains(true) else { return values }
    var result = values
    for (row, isPicture) in isPicture.enumerated() where isPicture {
      for place in row * columns..<(row + 1) * columns { result[place] *= pictureWeight.squareRoot() }
    }
    return result
  }

  /// Means over all tokens seen, in order of names: for each weight a tensor `[columns, block]` of its name, one
  /// `[columns]` of the name with `+mean`, and one `[4, columns]` with `+channels`: mean squares and largest
  /// magnitudes, of tokens, and of those that stand for parts of pictures.
  public func tensors() throws(Failure) -> [Tensor] {
    var result: [Tensor] = []
    for (name, sum) in sums.withLock({ $0 }).sorted(by: { $0.key.text < $1.key.text }) {
      let (text, pictures, share) = (sum.kinds[0], sum.kinds[1], Double(pictureWeight))
      let tokens = max(Double(text.tokens) + share * Double(pictures.tokens), .leastNormalMagnitude)
      let factor = Float(1 / tokens)
      let block = SecondMoments.block(sum.columns)
      sum.buffer.with(Float.self) { values in
        for row in 0..<sum.columns {
          let first = row / block * block
          for column in 0..<min(block, sum.columns - first) {
            let at = row * block + column
            // The lower triangle from the upper one, which has been scaled already.
            values[at] =
              column >= row - first ? values[at] * factor : values[(first + column) * block + (row - first)]
          }
        }
      }
      result.append(
        Tensor(
          name, shape: [sum.columns, block], encoding: .plain(.F32), content: .bytes(ByteView(sum.buffer))))
      let means = zip(text.totals, pictures.totals).map { Float(($0 + share * $1) / tokens) }
      result.append(try Tensor(SecondMoments.mean(name), floats: means, shape: [sum.columns]))
      var channels: [Float] = []
      for kind in sum.kinds {
        let count = Double(max(1, kind.tokens))
        channels += kind.squares.map { Float($0 / count) } + kind.largest
      }
      result.append(try Tensor(SecondMoments.channels(name), floats: channels, shape: [4, sum.columns]))
    }
    return result
  }
}
