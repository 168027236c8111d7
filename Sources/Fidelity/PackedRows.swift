import Bytes
import CKernels

/// Rows that others are multiplied with, packed for the kernel: `a bᵀ`, the same bits whatever stands beside a row.
struct PackedRows: Sendable {
  let count: Int
  private let width: Int
  /// Panels `[width, LLV_PANEL]`.
  private let panels: [Float]
  private static let panel = Int(LLV_PANEL)

  /// - Parameter values: `[count, width]`.
  init(_ values: [Float], width: Int, threads: Int = 1) throws(Failure) {
    (self.width, count) = (width, values.count / width)
    let (count, size, panel) = (count, width * PackedRows.panel, PackedRows.panel)
    var panels = [Float](repeating: 0, count: Checked.ceilDivide(count, panel) * size)
    try panels.withUnsafeMutableBufferPointer { (target) throws(Failure) in
      try values.withUnsafeBufferPointer { (values) throws(Failure) in
        guard let to = target.baseAddress, let from = values.baseAddress else { return }
        let (shared, source) = (SharedPointer(to), SharedPointer(UnsafeMutablePointer(mutating: from)))
        try parallel(Checked.ceilDivide(count, panel), threads: threads) { place in
          llv_pack_panel_f32(
            source.pointer + place * size, width, min(panel, count - place * panel), width,
            shared.pointer + place * size)
        }
      }
    }
    self.panels = panels
  }

  /// Calls `body` with the products of some rows `[rows, width]` and each panel: `[rows, columns]`, rows `stride`
  /// apart.
  func products(
    with x: UnsafePointer<Float>, rows: Int,
    _ body: (_ first: Int, _ columns: Int, _ products: UnsafePointer<Float>, _ stride: Int) -> Void
  ) {
    // Two panels at a time, which the kernel does faster than one after the other.
    let stride = 2 * PackedRows.panel
    withUnsafeTemporaryAllocation(of: Float.self, capacity: rows * stride) { result in
      panels.withUnsafeBufferPointer { panels in
        guard let base = panels.baseAddress, let y = result.baseAddress else { return }
        for first in Swift.stride(from: 0, to: count, by: stride) {
          let columns = min(stride, count - first)
          var out = llv_output(bias: nil, steps: nil, step_count: 0, n: columns, y: y, stride: stride)
          llv_gemm_f32(x, width, rows, width, base + first * width, &out)
          body(first, columns, y, stride)
        }
      }
    }
  }

  /// All products of one row.
  func products(with x: UnsafePointer<Float>) -> [Float] {
    var all: [Float] = []
    all.reserveCapacity(count)
    products(with: x, rows: 1) { _, columns, products, _ in
      all += UnsafeBufferPointer(start: products, count: columns)
    }
    return all
  }
}
