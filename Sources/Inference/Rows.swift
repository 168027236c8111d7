import Bytes

/// Rows of floats in memory that somebody else keeps, for work that is shared out to threads; no two tasks may write
/// one element.
///
/// - Note: valid while the value it was taken from lives, which the caller of an operation sees to.
package struct Rows: @unchecked Sendable {
  package let base: UnsafeMutablePointer<Float>
  /// Elements from one row to the next; 0 where one row stands for all.
  package let stride: Int

  package init(base: UnsafeMutablePointer<Float>, stride: Int) { (self.base, self.stride) = (base, stride) }

  package subscript(row: Int) -> UnsafeMutablePointer<Float> { base + row * stride }
}

extension Buffer {
  /// The memory as floats, while this buffer lives.
  package var floats: UnsafeMutablePointer<Float> { start.assumingMemoryBound(to: Float.self) }
}

/// Memory for each thread of one operation, so that tasks need not ask for any.
struct Scratch: @unchecked Sendable {
  private let buffer: Buffer
  private let bytesPerThread: Int

  /// Pieces of these sizes, in bytes, for each thread.
  init(_ sizes: [Int], threads: Int) throws(Failure) {
    var total = 0
    var places: [Int] = []
    for size in sizes {
      places.append(total)
      guard let end = Checked.add(total, size), let next = Checked.roundUp(end, to: 64) else {
        throw Failure(.limit, "no memory for \(size) bytes of scratch")
      }
      total = next
    }
    guard let all = Checked.multiply(total, threads) else { throw Failure(.limit, "no memory for \(threads) threads") }
    self.places = places
    bytesPerThread = total
    buffer = try Buffer(count: all)
  }

  private let places: [Int]

  /// Piece `index` of a thread, while this scratch lives.
  func piece(_ index: Int, _ thread: Int) -> UnsafeMutableRawPointer {
    buffer.start + (thread * bytesPerThread + places[index])
  }

  func floats(_ index: Int, _ thread: Int) -> UnsafeMutablePointer<Float> {
    piece(index, thread).assumingMemoryBound(to: Float.self)
  }
}
