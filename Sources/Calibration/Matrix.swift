import Bytes
import COpenBLAS

/// Matrices in double precision, row after row, by OpenBLAS on one thread: the same bits however many there are.
struct Matrix: Sendable {
  let rows, columns: Int
  var values: [Double]

  init(_ rows: Int, _ columns: Int) {
    (self.rows, self.columns) = (rows, columns)
    values = [Double](repeating: 0, count: rows * columns)
  }

  /// - Parameter values: `[rows, columns]`.
  init(_ rows: Int, _ columns: Int, _ values: [Double]) {
    precondition(values.count == rows * columns, "whole rows")
    (self.rows, self.columns, self.values) = (rows, columns, values)
  }

  /// `self · other`, or with one of them transposed.
  func times(_ other: Matrix, transposed: Bool = false, otherTransposed: Bool = false) -> Matrix {
    let (m, k) = transposed ? (columns, rows) : (rows, columns)
    let (inner, n) = otherTransposed ? (other.columns, other.rows) : (other.rows, other.columns)
    precondition(k == inner, "matrices that go together")
    var result = Matrix(m, n)
    openblas_set_num_threads(1)
    cblas_dgemm(
      CblasRowMajor, transposed ? CblasTrans : CblasNoTrans, otherTransposed ? CblasTrans : CblasNoTrans, Int32(m),
      Int32(n), Int32(k), 1, values, Int32(columns), other.values, Int32(other.columns), 0, &result.values, Int32(n))
    return result
  }

  /// Eigenvalues of a symmetric matrix, rising, and its eigenvectors as rows.
  func eigen() throws(Failure) -> (values: [Double], vectors: Matrix) {
    // Columns of Fortran's matrix are rows of ours, and the matrix is its own transpose.
    var (vectors, found) = (self, [Double](repeating: 0, count: rows))
    var (n, info, size, integers) = (Int32(rows), Int32(0), Int32(-1), Int32(-1))
    var (work, whole) = ([0.0], [Int32(0)])
    openblas_set_num_threads(1)
    dsyevd_("V", "U", &n, &vectors.values, &n, &found, &work, &size, &whole, &integers, &info)
    (size, integers) = (Int32(work[0]), whole[0])
    work = [Double](repeating: 0, count: Int(size))
    whole = [Int32](repeating: 0, count: Int(integers))
    dsyevd_("V", "U", &n, &vectors.values, &n, &found, &work, &size, &whole, &integers, &info)
    guard info == 0, found.allSatisfy(\.isFinite) else {
      throw Failure(.malformed, "the vectors' moments are not those of any numbers")
    }
    return (found, vectors)
  }

  /// `U Vᵀ` of the singular value decomposition `U S Vᵀ`: of all matrices with orthonormal rows or columns the one that
  /// is nearest.
  func orthogonalFactor() throws(Failure) -> Matrix {
    let least = min(rows, columns)
    // As Fortran sees it this is the transpose `V S Uᵀ`: its left vectors are V's columns, its right ones U's.
    var (a, s) = (self, [Double](repeating: 0, count: least))
    var (left, right) = (Matrix(least, columns), Matrix(rows, least))
    var (m, n, k, info, size) = (Int32(columns), Int32(rows), Int32(least), Int32(0), Int32(-1))
    var (work, whole) = ([0.0], [Int32](repeating: 0, count: 8 * least))
    openblas_set_num_threads(1)
    dgesdd_("S", &m, &n, &a.values, &m, &s, &left.values, &m, &right.values, &k, &work, &size, &whole, &info)
    size = Int32(work[0])
    work = [Double](repeating: 0, count: Int(size))
    dgesdd_("S", &m, &n, &a.values, &m, &s, &left.values, &m, &right.values, &k, &work, &size, &whole, &info)
    guard info == 0 else { throw Failure(.malformed, "the vectors' moments are not those of any numbers") }
    return right.times(left)
  }
}
