import Bytes
import CKernels
import Tensors

/// Codes of a weight that training moves: of each a latent, counted in codes, which is rounded to the code that runs.
/// Gradients go straight through that rounding.
///
/// Sixteen bytes a code: latent, gradient, and the running means of the gradient and of its square. Copies share them.
struct Latents: Sendable {
  private let integers: GroupedInteger
  private let layout: GroupedInteger.Layout
  let values, gradient, means, squares: Floats

  /// Latents lie where the weights were before they were rounded, as far as these round to the codes that there are.
  ///
  /// - Parameters:
  ///   - bytes: of the tensor as it is.
  ///   - wanted: the weights that it was; nil where they are not known: latents are then the codes.
  init(
    _ bytes: Buffer, _ integers: GroupedInteger, _ layout: GroupedInteger.Layout, wanted: Floats?, threads: Int
  ) throws(Failure) {
    (self.integers, self.layout) = (integers, layout)
    values = try Floats(layout.rows, layout.columns)
    gradient = try Floats.zeros(layout.rows, layout.columns)
    means = try Floats.zeros(layout.rows, layout.columns)
    squares = try Floats.zeros(layout.rows, layout.columns)
    let values = values
    try forSpans(threads: threads) { (rows) throws(Failure) in
      let steps = try Steps(layout.groups)
      let codes = try Buffer(count: layout.columns)
      for row in rows {
        steps.decode(row, of: bytes, integers, layout)
        llv_unpack_bytes(
          bytes.start + row * layout.rowBytes, layout.columns, Int32(integers.bits), integers.isAffine ? 1 : 0,
          codes.start.assumingMemoryBound(to: UInt8.self))
        for column in 0..<layout.columns {
          let byte = codes.start.load(fromByteOffset: column, as: UInt8.self)
          let code = integers.isAffine ? Float(byte) : Float(Int8(bitPattern: byte))
          values[row][column] = code
          let (scale, zero) = steps[column / integers.groupSize]
          guard let wanted, scale != 0 else { continue }
          let distance = (wanted[row][column] - zero) / scale - code
          values[row][column] = code + max(-LLV_LATENT_REACH, min(LLV_LATENT_REACH, distance))
        }
      }
      withExtendedLifetime(wanted) {}
    }
  }

  /// Scales and zeros of one row's groups.
  private struct Steps {
    let scales, zeros: Buffer

    init(_ groups: Int) throws(Failure) {
      (scales, zeros) = (try Buffer(count: groups * 4), try Buffer(count: groups * 4))
      zeros.clear()
    }

    func decode(_ row: Int, of bytes: Buffer, _ integers: GroupedInteger, _ layout: GroupedInteger.Layout) {
      scales.with(Float.self) { scales in
        zeros.with(Float.self) { zeros in
          integers.decodeSteps(of: row, bytes.start, layout, scales: scales, zeros: zeros)
        }
      }
    }

    subscript(group: Int) -> (scale: Float, zero: Float) {
      (
        scales.start.load(fromByteOffset: group * 4, as: Float.self),
        zeros.start.load(fromByteOffset: group * 4, as: Float.self)
      )
    }
  }

  private func forSpans(
    threads: Int, _ body: @Sendable (_ rows: Range<Int>) throws(Failure) -> Void
  ) throws(Failure) {
    let (rows, step) = (layout.rows, max(1, (1 << 16) / layout.columns))
    try parallel(Checked.ceilDivide(rows, step), threads: threads) { (task) throws(Failure) in
      try body(task * step..<min(rows, (task + 1) * step))
    }
  }

  /// Adds what latents are moved by.
  ///
  /// - Parameters:
  ///   - own: the gradient by the tensor's elements, of its shape as a matrix.
  ///   - bytes: of the tensor that it was found with.
  func add(_ own: Floats, _ bytes: Buffer, threads: Int) throws(Failure) {
    try forSpans(threads: threads) { (rows) throws(Failure) in
      let steps = try Steps(layout.groups)
      for row in rows {
        steps.decode(row, of: bytes, integers, layout)
        llv_add_scaled(
          own[row], steps.scales.start.assumingMemoryBound(to: Float.self), layout.columns, integers.groupSize,
          gradient[row])
      }
    }
  }

  func clearGradient() { gradient.clear() }

  /// Takes a step, and leaves the latents' codes in a tensor's bytes.
  func move(_ adam: llv_adam, _ bytes: Buffer, threads: Int) throws(Failure) {
    let half = 1 << (integers.bits - 1)
    // Bytes are -127 to 127.
    let (lowest, highest) = integers.isAffine ? (0, 2 * half - 1) : (integers.bits == 8 ? 1 - half : -half, half - 1)
    try forSpans(threads: threads) { (rows) throws(Failure) in
      let codes = try Buffer(count: layout.columns)
      let target = codes.start.assumingMemoryBound(to: UInt8.self)
      var adam = adam
      for row in rows {
        llv_move_latents(
          &adam, gradient[row], layout.columns, Int32(lowest), Int32(highest), values[row], means[row],
          squares[row], target)
        llv_pack_codes(
          target, layout.columns, Int32(integers.bits),
          (bytes.start + row * layout.rowBytes).assumingMemoryBound(to: UInt8.self))
      }
      withExtendedLifetime(codes) {}
    }
  }
}
