import COpenBLAS

/// How many rows every Float32 product has.
///
/// OpenBLAS sums a row in one order or another depending on where the row stands in its product, and on how many rows there
/// are. Products of a fixed number of rows, chosen so that all places are treated alike, make a row's bits depend on the
/// row alone. Which number that is depends on the kernel that OpenBLAS picked for this processor, so it is found by trying.
enum SgemmTile {
  /// The first candidate for which equal rows give equal results in every place; 1 always does.
  static let rows: Int = [48, 96, 64, 32, 16, 8, 4].first(where: treatsRowsAlike) ?? 1

  private static func treatsRowsAlike(_ rows: Int) -> Bool {
    [(128, 384), (128, 1_536), (29, 37), (48, 64), (7, 1_000)].allSatisfy { (outputs: Int, columns: Int) in
      // One row many times over; the values only have to make rounding visible.
      let row = (0..<columns).map { Float(($0 * 7_919 + 13) % 1_009) / 1_009 - 0.4 }
      let x = (0..<rows).flatMap { _ in row }
      let w = (0..<outputs * columns).map { Float(($0 * 104_729 + 7) % 2_003) / 2_003 - 0.6 }
      var y = [Float](repeating: 0, count: rows * outputs)
      let (m, n, k) = (Int32(rows), Int32(outputs), Int32(columns))
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1, x, k, w, k, 0, &y, n)
      return (1..<rows).allSatisfy { y[$0 * outputs..<($0 + 1) * outputs].elementsEqual(y[..<outputs]) }
    }
  }
}
