import Bytes
import CKernels
import Inference

/// The right side of products, `[k, n]`, in the order in which the kernels read it. Each element of a product is a
/// chain of fused multiply-adds in the order of `k`: no bit depends on the thread count, nor on the processor.
struct RightSide: Sendable {
  private let k, n: Int
  private let panels: Floats
  private static let width = Int(LLV_PANEL)

  /// - Parameters:
  ///   - b: `[k, n]`, or `[n, k]` where transposed.
  ///   - threads: that share the work.
  init(_ b: Rows, transposed: Bool, k: Int, n: Int, threads: Int) throws(Failure) {
    let width = RightSide.width
    (self.k, self.n) = (k, n)
    panels = try Floats(Checked.ceilDivide(n, width), k * width)
    let panels = panels
    try parallel(panels.rows, threads: threads) { (panel) throws(Failure) in
      let (first, target) = (panel * width, panels[panel])
      let columns = min(width, n - first)
      if transposed {
        llv_pack_panel_f32(b[first], b.stride, columns, k, target)
        return
      }
      for row in 0..<k {
        let to = target + row * width
        to.update(from: b[row] + first, count: columns)
        for column in columns..<max(columns, width) { to[column] = 0 }
      }
    }
  }

  /// Rows `a` of `[m, k]` times this, to memory that is there, or added to it.
  func multiply(_ a: Rows, m: Int, into c: Rows, adding: Bool = false) {
    for first in stride(from: 0, to: n, by: 2 * RightSide.width) {
      let target = c.base + first
      var step = llv_step(kind: Int32(LLV_ADD), other: target, stride: c.stride)
      var out = llv_output(
        bias: nil, steps: nil, step_count: adding ? 1 : 0, n: min(2 * RightSide.width, n - first), y: target,
        stride: c.stride)
      withUnsafePointer(to: &step) {
        out.steps = $0
        llv_gemm_f32(a.base, a.stride, m, k, panels[first / RightSide.width], &out)
      }
    }
    withExtendedLifetime(panels) {}
  }
}

extension CPUDevice {
  /// Rows of a product that one task computes.
  private static let rowsPerProduct = 96

  /// `a b`, or with one of them transposed, `[m, k] [k, n]`.
  func product(
    _ a: Rows, transposed: Bool = false, _ b: Rows, otherTransposed: Bool = false, m: Int, n: Int, k: Int
  ) throws(Failure) -> Floats {
    let result = try Floats(m, n)
    let right = try RightSide(b, transposed: otherTransposed, k: k, n: n, threads: threads)
    try forRows(m, step: CPUDevice.rowsPerProduct) { (rows) throws(Failure) in
      let to = Rows(base: result[rows.lowerBound], stride: n)
      guard transposed else {
        right.multiply(Rows(base: a[rows.lowerBound], stride: a.stride), m: rows.count, into: to)
        return
      }
      let left = try CPUDevice.turned(Rows(base: a.base + rows.lowerBound, stride: a.stride), m: rows.count, k: k)
      right.multiply(left.view, m: rows.count, into: to)
      withExtendedLifetime(left) {}
    }
    return result
  }

  /// The same on one thread, into memory that is there, or added to it.
  static func multiply(
    _ a: Rows, transposed: Bool = false, _ b: Rows, otherTransposed: Bool = false, m: Int, n: Int, k: Int,
    into c: Rows, adding: Bool = false
  ) throws(Failure) {
    let right = try RightSide(b, transposed: otherTransposed, k: k, n: n, threads: 1)
    guard transposed else { return right.multiply(a, m: m, into: c, adding: adding) }
    let left = try turned(a, m: m, k: k)
    right.multiply(left.view, m: m, into: c, adding: adding)
    withExtendedLifetime(left) {}
  }

  /// `[k, m]` as `[m, k]`.
  private static func turned(_ a: Rows, m: Int, k: Int) throws(Failure) -> Floats {
    let result = try Floats(m, k)
    llv_transpose(a.base, a.stride, k, m, result[0])
    return result
  }
}
