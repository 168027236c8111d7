import Bytes
import Glibc
import Tensors

/// Cosines and sines of the angles of rotary position embeddings, by position, made once for all layers.
package final class RotaryTurns: Sendable {
  private let tables = Lock<[Op.Rotation: Buffer]>([:])

  package init() {}

  /// `[positions or more][cosines headWidth / 2, sines headWidth / 2]`.
  package func table(_ rotation: Op.Rotation, positions: Int) throws(Failure) -> Buffer {
    let headWidth = rotation.headWidth
    let found = tables.withLock { $0[rotation] }
    if let found, found.count >= positions * headWidth * 4 { return found }
    guard let size = Checked.multiply((positions + 511) / 512 * 512, headWidth * 4) else {
      throw Failure(.limit, "position \(positions - 1) is too large")
    }
    let table = try Buffer(count: size)
    let half = headWidth / 2
    let (frequencies, magnitude) = (rotation.frequencies, Double(rotation.magnitude))
    table.with(Float.self) { table in
      for position in 0..<table.count / headWidth {
        for i in 0..<half {
          let angle = Double(Float(position) * frequencies[i])
          table[position * headWidth + i] = Float(cos(angle) * magnitude)
          table[position * headWidth + half + i] = Float(sin(angle) * magnitude)
        }
      }
    }
    tables.withLock { $0[rotation] = table }
    return table
  }
}
