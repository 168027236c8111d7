import Bytes
import Glibc
import Synchronization

/// Cosines and sines of the angles of rotary position embeddings, by position, made once for all layers.
package final class RotaryTurns: Sendable {
  private struct Form: Hashable {
    let theta: Double
    let headWidth: Int
  }
  private let tables = Mutex<[Form: Buffer]>([:])

  package init() {}

  /// `[positions or more][cosines headWidth / 2, sines headWidth / 2]`.
  package func table(theta: Double, headWidth: Int, positions: Int) throws(Failure) -> Buffer {
    let form = Form(theta: theta, headWidth: headWidth)
    let found = tables.withLock { $0[form] }
    if let found, found.count >= positions * headWidth * 4 { return found }
    guard let size = Checked.multiply((positions + 511) / 512 * 512, headWidth * 4) else {
      throw Failure(.limit, "position \(positions - 1) is too large")
    }
    let table = try Buffer(count: size)
    let half = headWidth / 2
    // `1 / theta^(2i / headWidth)` in Float32.
    let frequencies = (0..<half).map { 1 / powf(Float(theta), Float(2 * $0) / Float(headWidth)) }
    table.with(Float.self) { table in
      for position in 0..<table.count / headWidth {
        for i in 0..<half {
          let angle = Double(Float(position) * frequencies[i])
          table[position * headWidth + i] = Float(cos(angle))
          table[position * headWidth + half + i] = Float(sin(angle))
        }
      }
    }
    tables.withLock { $0[form] = table }
    return table
  }
}
