import Bytes
import CKernels
import COpenBLAS
import Passes
import Tensors

/// SignRound (Cheng et al. 2023, arXiv 2309.05516) on one weight: what is added to a weight before it is rounded, half
/// a step at most, goes a little against the sign of the loss's slope, as if rounding were not there, two hundred
/// times; what cost least on the way stays. The loss is that of the weight's own product, `(w - ŵ) H (w - ŵ)`, whose
/// slope the moments give; the paper's is that of a block of layers. Steps and zeros stay as they were found.
struct SignRound: Sendable {
  private static let steps = 200

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
    let (first, size, all) = (columns.lowerBound, columns.count, layout.columns)
    let (offsets, gradient, rest) = (
      try Buffer(count: rows * size * 4), try Buffer(count: rows * size * 4), try Buffer(count: rows * size * 4)
    )
    let codes = try Buffer(count: size)
    offsets.clear()
    gradient.clear()
    var least = [Double](repeating: .infinity, count: rows)
    let (bits, isAffine) = (Int32(grid.bits), Int32(grid.integers.isAffine ? 1 : 0))
    var tried = [[UInt8]](repeating: [], count: rows)
    for step in 0...SignRound.steps {
      let rate = step == 0 ? 0 : Float(SignRound.steps - step + 1) / Float(SignRound.steps * SignRound.steps)
      for row in 0..<rows {
        let groups = row * layout.groups
        codes.with(UInt8.self) {
          llv_offset_codes(
            original + row * all + first, size, first, grid.integers.groupSize, bits, isAffine, grid.isBook ? 1 : 0,
            part.scales + groups, part.zeros + groups, gradient.pointer + row * size, rate,
            offsets.pointer + row * size, $0.baseAddress, rest.pointer + row * size)
          tried[row] = Array($0)
        }
      }
      cblas_sgemm(
        CblasRowMajor, CblasNoTrans, CblasNoTrans, Int32(rows), Int32(size), Int32(size), 1, rest.pointer, Int32(size),
        moments.pointer + first * block, Int32(block), 0, gradient.pointer, Int32(size))
      for row in 0..<rows {
        let (d, slope) = (rest.pointer + row * size, gradient.pointer + row * size)
        let error = (0..<size).reduce(0.0) { $0 + Double(d[$1]) * Double(slope[$1]) }
        guard error < least[row] else { continue }
        least[row] = error
        tried[row].withUnsafeBufferPointer {
          if let from = $0.baseAddress { (part.codes + row * all + first).update(from: from, count: size) }
        }
      }
    }
  }
}
