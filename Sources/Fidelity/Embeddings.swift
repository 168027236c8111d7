import Bytes
import CKernels

/// Vectors of one width, row-major `[count, width]`.
public struct Embeddings: Sendable {
  public let width: Int
  public let values: [Float]
  public var count: Int { width > 0 ? values.count / width : 0 }

  public init(width: Int, values: [Float]) {
    precondition(width > 0 && values.count % width == 0, "whole rows")
    self.width = width
    self.values = values
  }

  public subscript(row: Int) -> ArraySlice<Float> { values[row * width..<(row + 1) * width] }

  /// Dot products of `query`, as wide as a row, with every row. For vectors of length 1 these are cosines.
  public func similarities(to query: ArraySlice<Float>) -> [Float] {
    precondition(query.count == width, "a query as wide as the rows")
    var result = [Float](repeating: 0, count: count)
    query.withUnsafeBufferPointer { query in
      values.withUnsafeBufferPointer { rows in llv_dot_rows(query.baseAddress, rows.baseAddress, count, width, &result)
      }
    }
    return result
  }
}
