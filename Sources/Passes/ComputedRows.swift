import Bytes

/// A Float32 matrix `[rows, columns]` computed row by row, in parallel.
///
/// - Parameter body: fills one row; must depend on the row alone.
func computedRows(
  _ rows: Int, _ columns: Int, threads: Int,
  _ body: @Sendable (_ row: Int, _ target: UnsafeMutableBufferPointer<Float>) -> Void
) throws(Failure) -> Buffer {
  guard let elements = Checked.multiply(rows, columns), let size = Checked.multiply(elements, 4) else {
    throw Failure(.limit, "a tensor of \(rows) × \(columns) is too large")
  }
  let result = try Buffer(count: size)
  // Enough rows to hide the start of a thread.
  let step = max(1, (1 << 16) / max(1, columns))
  try parallel(Checked.ceilDivide(rows, step), threads: threads) { task in
    result.with(Float.self) { all in
      for row in task * step..<min(rows, (task + 1) * step) {
        body(row, UnsafeMutableBufferPointer(rebasing: all[row * columns..<(row + 1) * columns]))
      }
    }
  }
  return result
}

extension Buffer {
  /// Calls `body` with one row of a Float32 matrix of `columns`.
  func withRow<R>(_ row: Int, _ columns: Int, _ body: (UnsafePointer<Float>) -> R?) -> R? {
    with(Float.self) { all in all.baseAddress.flatMap { body(UnsafePointer($0) + row * columns) } }
  }
}
