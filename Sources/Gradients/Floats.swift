import Bytes
import Inference

/// A dense matrix of floats, written once and then read.
package struct Floats: Sendable {
  package let rows, columns: Int
  private let buffer: Buffer

  /// Memory that is not set.
  package init(_ rows: Int, _ columns: Int) throws(Failure) {
    guard let bytes = Checked.product([rows, columns, 4]) else {
      throw Failure(.limit, "a gradient of \(rows) × \(columns) is too large")
    }
    (self.rows, self.columns) = (rows, columns)
    buffer = try Buffer(count: bytes)
  }

  package static func zeros(_ rows: Int, _ columns: Int) throws(Failure) -> Floats {
    let result = try Floats(rows, columns)
    result.clear()
    return result
  }

  /// - Parameter values: `[rows, columns]`.
  package init(_ values: [Float], columns: Int) throws(Failure) {
    try self.init(columns == 0 ? 0 : values.count / columns, columns)
    buffer.with(Float.self) { _ = $0.update(fromContentsOf: values) }
  }

  package init(rows: Int, columns: Int, _ buffer: Buffer) {
    (self.rows, self.columns, self.buffer) = (rows, columns, buffer)
  }

  /// A row's first element, while this lives.
  package subscript(row: Int) -> UnsafeMutablePointer<Float> { buffer.floats + row * columns }

  package var count: Int { rows * columns }
  /// The memory itself, to be kept or filled.
  package var bytes: Buffer { buffer }
  package var values: [Float] { buffer.array(of: Float.self) }
  func clear() { buffer.clear() }
  var view: Rows { Rows(base: buffer.floats, stride: columns) }

  /// Element by element, in a matrix of its own.
  func plus(_ other: Floats) throws(Failure) -> Floats {
    let result = try Floats(rows, columns)
    for row in 0..<rows {
      let (a, b, c) = (self[row], other[row], result[row])
      for column in 0..<columns { c[column] = a[column] + b[column] }
    }
    return result
  }

  /// Columns `offset ..< offset + count` alone.
  func slice(_ offset: Int, _ count: Int) throws(Failure) -> Floats {
    let result = try Floats(rows, count)
    for row in 0..<rows { result[row].update(from: self[row] + offset, count: count) }
    return result
  }
}

extension CPUDevice {
  /// Rows that are added up one after the other before such sums are.
  private static let rowsPerSum = 64

  /// Adds up over rows what `body` adds, for each row, to sums `[parts, columns]`, in one order.
  func sums(
    _ rows: Int, parts: Int, columns: Int,
    _ body: @Sendable (_ row: Int, _ sums: UnsafeMutablePointer<Float>) -> Void
  ) throws(Failure) -> [Floats] {
    let spans = Checked.ceilDivide(rows, CPUDevice.rowsPerSum)
    let partial = try Floats.zeros(max(1, spans), parts * columns)
    try forRows(rows, step: CPUDevice.rowsPerSum) { range in
      for row in range { body(row, partial[range.lowerBound / CPUDevice.rowsPerSum]) }
    }
    let total = partial[0]
    for span in 1..<max(1, spans) {
      for column in 0..<parts * columns { total[column] += partial[span][column] }
    }
    defer { withExtendedLifetime(partial) {} }
    return try (0..<parts).map { (part) throws(Failure) in
      let result = try Floats(1, columns)
      result[0].update(from: total + part * columns, count: columns)
      return result
    }
  }
}
