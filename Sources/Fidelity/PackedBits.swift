import Bytes
import CKernels

/// The same of rows of bits, which stand for 1 and -1: products are whole numbers.
struct PackedBits: Sendable {
  let count: Int
  private let width: Int
  /// Panels `[words, LLV_PANEL]`.
  private let panels: [UInt64]
  private static let panel = Int(LLV_PANEL)

  /// - Parameters:
  ///   - width: columns, filled up to whole bytes.
  ///   - bytes: `[count, width / 8]`.
  init(_ bytes: [UInt8], width: Int) {
    let (words, size, panel, count) = (PackedBits.words(width), width / 8, PackedBits.panel, bytes.count / (width / 8))
    (self.width, self.count) = (width, count)
    panels = [UInt64](unsafeUninitializedCapacity: Checked.ceilDivide(count, panel) * words * panel) { target, filled in
      filled = target.count
      target.update(repeating: 0)
      for row in 0..<count {
        let first = row / panel * words * panel + row % panel
        for byte in 0..<size {
          target[first + byte / 8 * panel] |= PackedBits.placed(bytes[row * size + byte], byte)
        }
      }
    }
  }

  static func words(_ width: Int) -> Int { Checked.ceilDivide(width, 64) }

  /// Rows of bytes as rows of words; what is missing in the last word is zero in every row.
  static func words(of bytes: [UInt8], width: Int) -> [UInt64] {
    let (words, size) = (words(width), width / 8)
    var result = [UInt64](repeating: 0, count: bytes.count / size * words)
    for (place, byte) in bytes.enumerated() {
      result[place / size * words + place % size / 8] |= placed(byte, place % size)
    }
    return result
  }

  private static func placed(_ byte: UInt8, _ place: Int) -> UInt64 { UInt64(byte) << UInt64(place % 8 * 8) }

  /// As `PackedRows.products`, of rows of words.
  func products(
    with x: UnsafePointer<UInt64>, rows: Int,
    _ body: (_ first: Int, _ columns: Int, _ products: UnsafePointer<Float>, _ stride: Int) -> Void
  ) {
    let (panel, words) = (PackedBits.panel, PackedBits.words(width))
    withUnsafeTemporaryAllocation(of: Float.self, capacity: rows * panel) { result in
      panels.withUnsafeBufferPointer { panels in
        guard let base = panels.baseAddress, let y = result.baseAddress else { return }
        for place in 0..<Checked.ceilDivide(count, panel) {
          llv_dot_bits(x, rows, words, width, base + place * words * panel, y, panel)
          body(place * panel, min(panel, count - place * panel), y, panel)
        }
      }
    }
  }
}
