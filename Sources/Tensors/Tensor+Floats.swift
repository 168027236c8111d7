import Bytes
import CKernels

extension Tensor {
  /// All elements as Float32, decoded from any weight encoding. For small tensors and for passes; a device decodes what
  /// it needs when it needs it.
  ///
  /// - Rounding: exact for F16, BF16 and F32; F64 to nearest; grouped integers as `GroupedInteger` defines.
  /// - Throws: `unsupported` for element types that no weight has.
  public func floats(threads: Int = availableThreads) throws(Failure) -> Buffer {
    let bytes = try load(threads: threads)
    if encoding == .plain(.F32) { return bytes }
    guard let size = Checked.multiply(count, 4) else { throw Failure(.limit, "tensor \(name.quoted) is too large") }
    let result = try Buffer(count: size)
    // Without columns there can be any number of rows.
    guard count > 0 else { return result }
    let step = max(1, (1 << 18) / max(1, columns))
    let columns = columns
    try parallel(Checked.ceilDivide(rows, step), threads: threads) { (task) throws(Failure) in
      let range = task * step..<min(rows, (task + 1) * step)
      try bytes.withBytes { (source) throws(Failure) in
        try result.with(Float.self) { (target) throws(Failure) in
          let part = target[range.lowerBound * columns..<range.upperBound * columns]
          try decodeRows(range, of: source, into: UnsafeMutableBufferPointer(rebasing: part))
        }
      }
    }
    return result
  }

  /// Decodes `range` of the rows of `source`, this tensor's bytes, to Float32 `[range.count, columns]`.
  public func decodeRows(
    _ range: Range<Int>, of source: UnsafeRawBufferPointer, into target: UnsafeMutableBufferPointer<Float>
  ) throws(Failure) {
    guard let from = source.baseAddress, let to = target.baseAddress else { return }
    let count = range.count * columns
    let first = range.lowerBound * columns
    switch encoding {
    case .plain(.F32): to.update(from: (from + first * 4).assumingMemoryBound(to: Float.self), count: count)
    case .plain(.F16): llv_f16_to_f32(from + first * 2, to, count)
    case .plain(.BF16): llv_bf16_to_f32(from + first * 2, to, count)
    case .plain(.F64):
      for index in 0..<count {
        to[index] = Float(source.loadUnaligned(fromByteOffset: (first + index) * 8, as: Double.self))
      }
    case .plain(let type):
      throw Failure(
        .unsupported, "element type \(type.rawValue) is not one that weights have", thing: "tensor \(name.quoted)")
    case .grouped(let integers):
      guard let layout = integers.layout(shape) else { throw Failure(.internal, "no layout for \(shape)") }
      let scales = try Buffer(count: layout.groups * 4)
      let zeros = try Buffer(count: layout.groups * 4)
      zeros.clear()
      scales.with(Float.self) { scales in
        zeros.with(Float.self) { zeros in
          for row in range {
            integers.decodeSteps(of: row, from, layout, scales: scales, zeros: zeros)
            llv_dequantize_row(
              from + row * layout.rowBytes, scales.baseAddress, zeros.baseAddress, layout.columns, integers.groupSize,
              Int32(integers.bits), integers.isAffine ? 1 : 0, to + (row - range.lowerBound) * layout.columns)
          }
        }
      }
    }
  }
}

extension GroupedInteger {
  /// Scales and, unless symmetric, zeros of a row's groups, so that an element is `code · scale + zero`, from the
  /// tensor's bytes.
  public func decodeSteps(
    of row: Int, _ bytes: UnsafeRawPointer, _ layout: Layout, scales: UnsafeMutableBufferPointer<Float>,
    zeros: UnsafeMutableBufferPointer<Float>
  ) {
    let from = bytes + layout.scalesAt + row * layout.scaleBytes
    switch form {
    case .symmetric: decodeScales(from, into: scales)
    case .affine:
      decodeScales(from, into: scales)
      decodeScales(bytes + layout.zerosAt + row * layout.zeroBytes, into: zeros)
    case .twoLevel:
      var scale: Float = 0
      withUnsafeMutablePointer(to: &scale) {
        decodeScales(from, into: UnsafeMutableBufferPointer(start: $0, count: 1))
      }
      llv_expand_steps(
        bytes + layout.zerosAt + row * layout.zeroBytes, &scale, layout.groups, 1, Int32(bits), scales.baseAddress,
        zeros.baseAddress)
    }
  }

  /// Widens as many scales (or zeros) as `target` holds.
  public func decodeScales(_ source: UnsafeRawPointer, into target: UnsafeMutableBufferPointer<Float>) {
    guard let to = target.baseAddress else { return }
    switch scaleType {
    case .F16: llv_f16_to_f32(source, to, target.count)
    case .BF16: llv_bf16_to_f32(source, to, target.count)
    default: UnsafeMutableRawPointer(to).copyMemory(from: source, byteCount: target.count * 4)
    }
  }
}
