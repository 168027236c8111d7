import Bytes

/// The least and the largest value of each column of some vectors: what 8-bit codes are steps between.
public struct ColumnRanges: Sendable, Equatable {
  public let low, high: [Float]
  public var width: Int { low.count }

  private static let rowsAtATime = 4_096

  /// - Parameter width: of the first columns, brought to length 1 again; nil for all, as they are.
  /// - Throws: `malformed` where a column holds what is no number.
  public init(of vectors: Embeddings, width: Int? = nil) throws(Failure) {
    let cut = try vectors.coded(by: VectorCoding(VectorForm(width: width), columns: vectors.width))
    var (low, high) = (
      [Float](repeating: .infinity, count: cut.width), [Float](repeating: -.infinity, count: cut.width)
    )
    var isFinite = true
    for first in stride(from: 0, to: cut.count, by: ColumnRanges.rowsAtATime) {
      let values = try cut.rows(first..<min(cut.count, first + ColumnRanges.rowsAtATime))
      for row in stride(from: 0, to: values.count, by: cut.width) {
        for column in 0..<cut.width {
          let value = values[row + column]
          isFinite = isFinite && value.isFinite
          low[column] = min(low[column], value)
          high[column] = max(high[column], value)
        }
      }
    }
    guard isFinite else { throw Failure(.malformed, "vectors hold what is no number: they have no ranges") }
    (self.low, self.high) = (low, high)
  }

  /// Of a `.npy` file: of two rows, least and largest values as sentence-transformers keeps them; of more, vectors.
  public init(numPy path: String, width: Int? = nil) throws(Failure) {
    let file = try Embeddings(numPy: path)
    do throws(Failure) {
      guard file.count == 2 else {
        self = try ColumnRanges(of: file, width: width)
        return
      }
      let (low, high) = (try file.rows(0..<1), try file.rows(1..<2))
      guard zip(low, high).allSatisfy({ $0.isFinite && $1.isFinite && $0 <= $1 }) else {
        throw Failure(
          .malformed, "two rows are least and largest values; here some are not in that order, or no number")
      }
      guard file.width == width ?? file.width else {
        throw Failure(.malformed, "has ranges of \(file.width) columns; \(width ?? 0) are wanted")
      }
      (self.low, self.high) = (low, high)
    } catch { throw error.inFile(path) }
  }

  /// The size of a step, 1 where a column is constant; single precision, as sentence-transformers has it.
  func step(_ column: Int) -> Float {
    let step = (high[column] - low[column]) / 255
    return step == 0 ? 1 : step
  }
}
