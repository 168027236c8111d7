import Bytes
import Tensors

// Tensors made from the rows of another when they are written, span by span on all threads: a fold over a large weight
// costs one pass over it and no memory of its size.
extension Model {
  /// Adds a Float32 tensor of `source`'s shape. Its name must be free.
  ///
  /// - Parameters:
  ///   - vector: a small tensor that `body` reads, empty when nil.
  ///   - body: changes one row in place.
  mutating func addRows(
    _ name: TensorName, of source: Tensor, with vector: Tensor? = nil,
    _ body: @escaping @Sendable (_ row: UnsafeMutableBufferPointer<Float>, _ vector: UnsafeBufferPointer<Float>) -> Void
  ) -> Graph.Source {
    let columns = source.columns
    return add(name, shape: source.shape) { (threads) throws(Failure) in
      let reader = try source.rowReader(threads: threads)
      let small = if let vector { try vector.floats(threads: threads) } else { try Buffer(count: 0) }
      return RowReader { (span, target) throws(Failure) in
        try reader.read(span, into: target)
        small.with(Float.self) { vector in
          for row in 0..<span.count {
            body(UnsafeMutableBufferPointer(start: target + row * columns, count: columns), UnsafeBufferPointer(vector))
          }
        }
      } end: { (isComplete) throws(Failure) in
        try reader.finish(isComplete: isComplete)
      }
    }
  }

  /// Adds a Float32 vector with an element for each row of `source`: `bias` (0 when nil) plus what `body` makes of the
  /// row, added in double and rounded once.
  mutating func addSums(
    _ name: TensorName, of source: Tensor, plus bias: Tensor?, with vector: Tensor? = nil,
    _ body: @escaping @Sendable (_ row: UnsafeBufferPointer<Float>, _ vector: UnsafeBufferPointer<Float>) -> Double
  ) -> Graph.Source {
    let (rows, columns) = (source.rows, source.columns)
    let computation = Tensor.Computation { (threads) throws(Failure) in
      let result = try Buffer(count: rows * 4)
      let start = try bias?.floats(threads: threads)
      let small = if let vector { try vector.floats(threads: threads) } else { try Buffer(count: 0) }
      try source.rowReader(threads: threads).forEachSpan(rows: rows, columns: columns, threads: threads) {
        _, span, values in
        small.with(Float.self) { vector in
          for row in span {
            let values = UnsafeBufferPointer(start: values + (row - span.lowerBound) * columns, count: columns)
            let first = Double(start?.with(Float.self) { $0[row] } ?? 0)
            let sum = first + body(values, UnsafeBufferPointer(vector))
            result.with(Float.self) { $0[row] = Float(sum) }
          }
        }
      }
      return (result, nil)
    }
    set(Tensor(name, shape: [rows], encoding: .plain(.F32), content: .computed(computation)))
    return .tensor(name)
  }

  /// Adds a Float32 tensor whose rows a reader makes. Its name must be free.
  mutating func add(
    _ name: TensorName, shape: [Int], _ open: @escaping @Sendable (_ threads: Int) throws(Failure) -> RowReader
  ) -> Graph.Source {
    set(Tensor(name, shape: shape, encoding: .plain(.F32), content: .rows(open)))
    return .tensor(name)
  }
}
