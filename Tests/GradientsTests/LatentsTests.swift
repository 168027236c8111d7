import Bytes
import CKernels
import Gradients
import Passes
import Tensors
import TestSupport
import Testing

/// Codes that training moves.
struct LatentsTests {
  private static let (rows, columns) = (5, 43)

  /// Weights, and what rounding makes of them.
  private static func rounded(_ bits: Int, _ form: GroupedInteger.Form) throws -> (weights: Tensor, rounded: Tensor) {
    let integers = try #require(
      GroupedInteger(bits: bits, groupSize: 16, form: form, scaleType: form == .twoLevel ? .BF16 : .F16))
    let layout = try #require(integers.layout([rows, columns]))
    var random = Random(seed: UInt64(bits))
    let values = (0..<rows * columns).map { _ in Float(random.below(2_001)) / 1_000 - 1 }
    let writer = try GroupedWriter(integers, layout)
    let (low, step) = (form == .symmetric ? -Float(1 << (bits - 1)) : 0, 2 / Float((1 << bits) - 1))
    try writer.write(0..<rows) { part in
      for group in 0..<rows * layout.groups {
        // Steps of two levels are whole multiples, and zeros, in codes of four bits, whole too.
        part.scales[group] = form == .twoLevel ? step : step * (1 + Float(group % 3) / 8)
        part.zeros[group] = form == .twoLevel ? -step * Float(1 << (bits - 1)) : -1 + Float(group % 5) / 16
      }
      for row in 0..<rows {
        part.rowScales[row] = step / Float(4 * integers.unit)
        for column in 0..<columns {
          let group = row * layout.groups + column / 16
          let zero = form == .symmetric ? 0 : part.zeros[group]
          let code = ((values[row * columns + column] - zero) / part.scales[group]).rounded()
          let kept = max(low, min(low + Float((1 << bits) - 1), code))
          part.codes[row * columns + column] = UInt8(truncatingIfNeeded: Int(kept))
        }
      }
    }
    let tensor = Tensor(
      "w", shape: [rows, columns], encoding: .grouped(integers), content: .bytes(ByteView(writer.result)))
    return (try Tensor("w", floats: values, shape: [rows, columns]), tensor)
  }

  private static let forms: [(Int, GroupedInteger.Form)] = [
    (4, .affine), (4, .symmetric), (8, .symmetric), (4, .twoLevel), (3, .twoLevel), (2, .twoLevel), (2, .affine),
  ]

  /// Nothing moves; running means become the gradient itself.
  private static let reading = llv_adam(mean: 0, square: 0, factor: 0, root: 0, least: 1)

  @Test("a latent's gradient is what a code more makes of the loss", arguments: forms)
  func gradientIsADifference(_ bits: Int, _ form: GroupedInteger.Form) throws {
    let (weights, rounded) = try LatentsTests.rounded(bits, form)
    let (rows, columns) = (LatentsTests.rows, LatentsTests.columns)
    var tunable = try Tunable(rounded, threads: 2)
    try tunable.freeCodes(towards: weights, threads: 2)
    let start = try tunable.next().floats().array(of: Float.self)
    #expect(try start == rounded.floats().array(of: Float.self))
    let slopes = (0..<rows * columns).map { Float(($0 * 37) % 11) - 5 }
    try tunable.add(Floats(slopes, columns: columns), threads: 2)
    try tunable.moveCodes(LatentsTests.reading, threads: 2)
    let (latents, gradient) = (tunable.kept[0].values, tunable.kept[1].values)
    guard case .grouped(let integers) = rounded.encoding else { return }
    let layout = try #require(integers.layout(rounded.shape))
    let codes = try #require(tunable.place().codes)
    let (lowest, highest) = form == .symmetric ? (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) : (0, (1 << bits) - 1)
    var compared = 0
    for index in slopes.indices {
      let code = Int(latents[index].rounded())
      // Latents lie where weights were, as far as these round to the codes that there are.
      #expect(abs(latents[index] - Float(code)) <= 0.4901)
      let up = code < highest ? 1 : -1
      guard code + up > lowest || bits < 8 else { continue }
      let changed = try Buffer(codes.withBytes { Array($0) })
      changed.withMutableBytes { bytes in
        for bit in 0..<bits {
          let (at, value) = (index % columns * bits + bit, UInt8((code + up) >> bit & 1))
          let byte = index / columns * layout.rowBytes + at / 8
          bytes[byte] = bytes[byte] & ~(1 << UInt8(at % 8)) | value << UInt8(at % 8)
        }
      }
      let moved = try tunable.current(Tunable.Place(moves: tunable.moves, codes: changed)).floats().array(
        of: Float.self)
      #expect(zip(moved, start).enumerated().allSatisfy { $0.offset == index || $0.element.0 == $0.element.1 })
      var difference = Float(up) * (moved[index] - start[index]) * slopes[index]
      // Nothing pushes a latent further out.
      let atEnd = latents[index] >= Float(highest) + 0.489 ? -1 : latents[index] <= Float(lowest) - 0.489 ? 1 : 0
      if Float(atEnd) * difference > 0 { difference = 0 }
      #expect(abs(difference - gradient[index]) <= 1e-4 * max(abs(difference), 1e-3), "\(index)")
      compared += 1
    }
    #expect(compared == slopes.count)
  }

  @Test("codes follow latents, stay what they can be, and depend on no thread count", arguments: forms)
  func codesFollowLatents(_ bits: Int, _ form: GroupedInteger.Form) throws {
    let (weights, rounded) = try LatentsTests.rounded(bits, form)
    var results: [[UInt8]] = []
    for threads in [1, 3] {
      var tunable = try Tunable(rounded, threads: threads)
      try tunable.freeCodes(towards: weights, threads: threads)
      let before = try tunable.place().codes.map { $0.withBytes { Array($0) } }
      for step in 1...40 {
        tunable.clearGradient()
        let slopes = (0..<LatentsTests.rows * LatentsTests.columns).map { Float(($0 * 37) % 11) - 5 }
        try tunable.add(Floats(slopes, columns: LatentsTests.columns), threads: threads)
        try AdamW().move(&tunable, rate: 1e-9, codeRate: 0.5, step: step, threads: threads)
        _ = try tunable.next()
      }
      let values = try tunable.current().floats().array(of: Float.self)
      let start = try rounded.floats().array(of: Float.self)
      for index in values.indices {
        let slope = Float((index * 37) % 11) - 5
        #expect((values[index] - start[index]) * slope <= 1e-6, "\(index)")
      }
      let after = try #require(tunable.place().codes).withBytes { Array($0) }
      #expect(after != before)
      let latents = tunable.kept[0].values
      let highest = form == .symmetric ? (1 << (bits - 1)) - 1 : (1 << bits) - 1
      #expect(latents.allSatisfy { $0 <= Float(highest) + 0.491 && $0 >= Float(highest - (1 << bits)) + 0.5 })
      results.append(after)
    }
    #expect(results[0] == results[1])
  }
}
