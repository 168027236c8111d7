import Bytes
import COpenBLAS
import Inference
import Synchronization
import Tensors

/// First and second moments of the inputs of linear operations, `Σ x` and `Σ x xᵀ` over tokens: how much an error in one weight costs, alone and
/// together with errors in others.
///
/// Of wide inputs only square blocks on the diagonal are kept, of at most `widest` columns: memory and time grow with the square.
///
/// - Note: sums run in Float32 in the order of the batches, so they do not depend on the number of threads.
public final class SecondMoments: LinearObserver {
  public static let widest = 2_560

  private struct Sum: Sendable {
    let columns: Int
    let buffer: Buffer  // [columns, block]; only the upper triangle of each block is filled
    var totals: [Double]
    var tokens = 0
  }

  private let sums = Mutex<[TensorName: Sum]>([:])
  private let threads: Int

  public init(threads: Int = availableThreads) {
    self.threads = threads
    openblas_set_num_threads(1)
  }

  /// Columns of a block; the last one of an input may be narrower.
  public static func block(_ columns: Int) -> Int {
    let blocks = Checked.ceilDivide(columns, widest)
    return min(columns, Checked.roundUp(Checked.ceilDivide(columns, blocks), to: 128) ?? columns)
  }

  static func mean(_ weight: TensorName) -> TensorName { TensorName(weight.bytes + Array("+mean".utf8)) }

  public func sees(_ weight: TensorName, _ values: [Float], rows: Int, columns: Int) throws(Failure) {
    let block = SecondMoments.block(columns)
    var sum: Sum
    if let known = sums.withLock({ $0[weight] }) {
      sum = known
    } else {
      guard let size = Checked.product([columns, block, 4]) else {
        throw Failure(.limit, "too many columns: \(columns)")
      }
      sum = Sum(columns: columns, buffer: try Buffer(count: size), totals: .init(repeating: 0, count: columns))
      sum.buffer.clear()
    }
    // Tiles of the upper triangles.
    let tile = 256
    var tiles: [(first: Int, row: Int, column: Int, end: Int)] = []
    for first in stride(from: 0, to: columns, by: block) {
      let end = min(columns, first + block)
      for row in stride(from: first, to: end, by: tile) {
        for column in stride(from: row, to: end, by: tile) { tiles.append((first, row, column, end)) }
      }
    }
    let (all, target) = (tiles, sum.buffer.start.assumingMemoryBound(to: Float.self).sendable)
    try values.withUnsafeBufferPointer { (values) throws(Failure) in
      guard let base = values.baseAddress else { return }
      let x = UnsafeMutablePointer(mutating: base).sendable
      try parallel(all.count, threads: threads) { task in
        let (first, row, column, end) = all[task]
        cblas_sgemm(
          CblasRowMajor, CblasTrans, CblasNoTrans, Int32(min(tile, end - row)), Int32(min(tile, end - column)),
          Int32(rows), 1, x.pointer + row, Int32(columns), x.pointer + column, Int32(columns), 1,
          target.pointer + row * block + (column - first), Int32(block))
      }
    }
    for row in 0..<rows {
      for column in 0..<columns { sum.totals[column] += Double(values[row * columns + column]) }
    }
    sum.tokens += rows
    let done = sum
    sums.withLock { $0[weight] = done }
  }

  /// Means over all tokens seen, in order of names: for each weight a tensor `[columns, block]` of its name, and one `[columns]` of the
  /// name with `+mean`.
  public func tensors() throws(Failure) -> [Tensor] {
    var result: [Tensor] = []
    for (name, sum) in sums.withLock({ $0 }).sorted(by: { $0.key.text < $1.key.text }) {
      let factor = 1 / Float(max(1, sum.tokens))
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
      result.append(
        try Tensor(
          SecondMoments.mean(name), floats: sum.totals.map { Float($0 / Double(max(1, sum.tokens))) },
          shape: [sum.columns]))
    }
    return result
  }
}

/// A pointer for work that is shared out to threads, each with elements of its own.
struct SendablePointer: @unchecked Sendable { let pointer: UnsafeMutablePointer<Float> }

extension UnsafeMutablePointer<Float> {
  var sendable: SendablePointer { SendablePointer(pointer: self) }
}
