/// Pillow's bicubic resampling, to the bit (Pillow 10.3, `Resample.c`): Keys' cubic with a = -0.5, widened when
/// shrinking; weights in 22 bits fixed point; horizontally first, rounded to 8 bits between the passes.
enum Bicubic {
  private static let precision = 22

  /// Sources of one output pixel of an axis, and their weights times 2^22.
  private struct Taps {
    let first: Int
    let weights: [Int32]
  }

  static func resize(_ picture: Picture, to width: Int, _ height: Int) -> Picture {
    var pixels = picture.pixels
    if width != picture.width {
      pixels = horizontal(pixels, from: picture.width, to: width, rows: picture.height)
    }
    if height != picture.height {
      pixels = vertical(pixels, width: width, taps: taps(from: picture.height, to: height))
    }
    return Picture(width: width, height: height, pixels: pixels)
  }

  private static func kernel(_ given: Double) -> Double {
    let a = -0.5
    let x = abs(given)
    if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
    if x < 2 { return (((x - 5) * x + 8) * x - 4) * a }
    return 0
  }

  private static func taps(from source: Int, to target: Int) -> [Taps] {
    let scale = Double(source) / Double(target)
    let filter = max(scale, 1)
    let support = 2 * filter
    return (0..<target).map { index in
      let centre = (Double(index) + 0.5) * scale
      let low = max(0, Int(centre - support + 0.5))
      let high = min(source, Int(centre + support + 0.5))
      var weights = (low..<high).map { kernel((Double($0) - centre + 0.5) / filter) }
      let sum = weights.reduce(0, +)
      if sum != 0 { weights = weights.map { $0 / sum } }
      return Taps(
        first: low, weights: weights.map { Int32(($0 * Double(1 << precision)).rounded(.toNearestOrAwayFromZero)) })
    }
  }

  private static func clipped(_ sum: Int32) -> UInt8 { UInt8(clamping: sum >> Int32(precision)) }

  private static func horizontal(_ source: [UInt8], from: Int, to width: Int, rows: Int) -> [UInt8] {
    let taps = taps(from: from, to: width)
    return [UInt8](unsafeUninitializedCapacity: rows * width * 3) { target, count in
      source.withUnsafeBufferPointer { source in
        for row in 0..<rows {
          for x in 0..<width {
            let tap = taps[x]
            var sum = (Int32(1 << (precision - 1)), Int32(1 << (precision - 1)), Int32(1 << (precision - 1)))
            var at = (row * from + tap.first) * 3
            for weight in tap.weights {
              sum.0 &+= Int32(source[at]) &* weight
              sum.1 &+= Int32(source[at + 1]) &* weight
              sum.2 &+= Int32(source[at + 2]) &* weight
              at += 3
            }
            let out = (row * width + x) * 3
            (target[out], target[out + 1], target[out + 2]) = (clipped(sum.0), clipped(sum.1), clipped(sum.2))
          }
        }
      }
      count = rows * width * 3
    }
  }

  private static func vertical(_ source: [UInt8], width: Int, taps: [Taps]) -> [UInt8] {
    let line = width * 3
    return [UInt8](unsafeUninitializedCapacity: taps.count * line) { target, count in
      source.withUnsafeBufferPointer { source in
        var sums = [Int32](repeating: 0, count: line)
        for (row, tap) in taps.enumerated() {
          for column in 0..<line { sums[column] = Int32(1 << (precision - 1)) }
          for (index, weight) in tap.weights.enumerated() {
            let at = (tap.first + index) * line
            for column in 0..<line { sums[column] &+= Int32(source[at + column]) &* weight }
          }
          for column in 0..<line { target[row * line + column] = clipped(sums[column]) }
        }
      }
      count = taps.count * line
    }
  }
}
