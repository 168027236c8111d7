import Bytes
import CKernels
import COpenBLAS
import Passes
import Tensors

/// Coordinate descent on what a weight's rounding costs, `(w - ŵ) H (w - ŵ)` for each row, from codes and steps that
/// are there already: each code, then each group's step and zero, becomes the best while all others stay (QuantEase,
/// Behdin et al. 2023, arXiv 2309.01885, has the idea for codes). Nothing ever costs more than before. One look at all
/// codes takes as long as a product with the moments where all change, and few do.
struct Descent: Sendable {
  private static let rounds = 6
  /// Looks at all codes of a row for one at its steps.
  private static let looks = 3

  let grid: Grid
  let layout: GroupedInteger.Layout
  /// `[columns, block]`.
  let moments: Buffer
  let block: Int

  /// - Parameters:
  ///   - original: `[rows, columns of the weight]`.
  ///   - columns: those of one block of moments.
  func improve(
    _ part: GroupedWriter.Part, of original: UnsafePointer<Float>, _ rows: Int, _ columns: Range<Int>
  ) throws(Failure) {
    let (size, all) = (columns.count, layout.columns)
    let own = moments.pointer + columns.lowerBound * block
    let (values, short, gradient) = (
      try Buffer(count: rows * size * 4), try Buffer(count: rows * size * 4), try Buffer(count: rows * size * 4)
    )
    for _ in 0..<Descent.rounds {
      for row in 0..<rows {
        for column in columns {
          let (at, place) = (row * all + column, row * size + column - columns.lowerBound)
          values.pointer[place] = value(part, row, column)
          short.pointer[place] = original[at] - values.pointer[place]
        }
      }
      cblas_sgemm(
        CblasRowMajor, CblasNoTrans, CblasNoTrans, Int32(rows), Int32(size), Int32(size), 1, short.pointer, Int32(size),
        own, Int32(block), 0, gradient.pointer, Int32(size))
      var changes = 0
      for row in 0..<rows {
        changes += descend(
          part, row, columns, own, values.pointer + row * size, gradient.pointer + row * size)
      }
      guard changes > 0 else { return }
    }
  }

  private func value(_ part: GroupedWriter.Part, _ row: Int, _ column: Int) -> Float {
    let code = part.codes[row * layout.columns + column]
    let group = row * layout.groups + column / grid.integers.groupSize
    guard grid.integers.isAffine else { return Float(Int8(bitPattern: code)) * part.scales[group] }
    return Float(code) * part.scales[group] + part.zeros[group]
  }

  /// - Returns: how many codes changed.
  private func descend(
    _ part: GroupedWriter.Part, _ row: Int, _ columns: Range<Int>, _ own: UnsafePointer<Float>,
    _ values: UnsafeMutablePointer<Float>, _ gradient: UnsafeMutablePointer<Float>
  ) -> Int {
    let (first, size, group) = (columns.lowerBound, columns.count, grid.integers.groupSize)
    let (bits, isAffine) = (Int32(grid.bits), Int32(grid.integers.isAffine ? 1 : 0))
    let (scales, zeros) = (part.scales + row * layout.groups, part.zeros + row * layout.groups)
    let codes = part.codes + row * layout.columns + first
    var changes = 0
    for _ in 0..<Descent.looks {
      var now = 0
      llv_descend_codes(
        own, block, size, first, group, bits, isAffine, grid.isBook ? 1 : 0, scales, zeros, codes, values, gradient,
        &now)
      changes += now
      guard now > 0 else { break }
    }
    let rowScale: Float
    switch grid.steps {
    case .free: rowScale = 0
    case .levels: rowScale = part.rowScales[row]
    // What is above their steps would have to change with them.
    default: return changes
    }
    guard grid.steps == .free || rowScale > 0 else { return changes }
    for start in stride(from: Checked.ceilDivide(first, group) * group, to: columns.upperBound, by: group) {
      let end = min(start + group, layout.columns)
      // A group that goes on in the next block stays.
      guard end <= columns.upperBound else { break }
      llv_descend_steps(
        own, block, size, start - first, end - start, bits, isAffine, rowScale, scales + start / group,
        zeros + start / group, codes, values, gradient)
    }
    return changes
  }
}
