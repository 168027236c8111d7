import Bytes
import CKernels

/// Makes a tensor of grouped integers from codes, scales and zeros that some other format held.
public final class GroupedWriter: Sendable {
  /// The tensor's bytes, whole when all spans are done.
  public let result: Buffer
  private let integers: GroupedInteger
  private let layout: GroupedInteger.Layout

  /// Memory to fill for a span of rows.
  public struct Part {
    /// `[rows, columns]`, one byte each; two's complement where symmetric.
    public let codes: UnsafeMutablePointer<UInt8>
    /// `[rows, groups]`. Zeros are not read where symmetric.
    public let scales, zeros: UnsafeMutablePointer<Float>
    /// `[rows]`, read only with two levels: scales are then whole multiples of it, and zeros of the scales.
    public let rowScales: UnsafeMutablePointer<Float>
  }

  public init(_ integers: GroupedInteger, _ layout: GroupedInteger.Layout) throws(Failure) {
    self.integers = integers
    self.layout = layout
    result = try Buffer(count: layout.byteCount)
    // The gaps before scales and zeros.
    result.withMutableBytes { bytes in
      for part in [layout.scalesAt, layout.zerosAt] where part >= 64 {
        bytes[(part - 64)..<part].initializeMemory(as: UInt8.self, repeating: 0)
      }
    }
  }

  /// Calls `fill` for spans of rows on all threads. Scales and zeros must be exact in the encoding's type; they are
  /// rounded to it otherwise.
  public func forEachSpan(
    threads: Int, _ fill: @Sendable (_ rows: Range<Int>, _ part: Part) throws(Failure) -> Void
  ) throws(Failure) {
    let step = max(1, (1 << 16) / layout.columns)
    try parallel(Checked.ceilDivide(layout.rows, step), threads: threads) { (task) throws(Failure) in
      let rows = task * step..<min(layout.rows, (task + 1) * step)
      try write(rows) { (part) throws(Failure) in try fill(rows, part) }
    }
  }

  /// Takes one span of rows, which nobody else fills.
  public func write(_ rows: Range<Int>, _ fill: (_ part: Part) throws(Failure) -> Void) throws(Failure) {
    let codes = try Buffer(count: rows.count * layout.columns)
    let (scales, zeros) = (
      try Buffer(count: rows.count * layout.groups * 4), try Buffer(count: rows.count * layout.groups * 4)
    )
    let rowScales = try Buffer(count: rows.count * 4)
    let part = Part(
      codes: codes.start.assumingMemoryBound(to: UInt8.self), scales: scales.start.assumingMemoryBound(to: Float.self),
      zeros: zeros.start.assumingMemoryBound(to: Float.self),
      rowScales: rowScales.start.assumingMemoryBound(to: Float.self))
    try fill(part)
    store(rows, part)
    withExtendedLifetime((codes, scales, zeros, rowScales)) {}
  }

  private func store(_ rows: Range<Int>, _ part: Part) {
    result.withMutableBytes { bytes in
      guard let base = bytes.baseAddress else { return }
      let target = (base + rows.lowerBound * layout.rowBytes).assumingMemoryBound(to: UInt8.self)
      for row in 0..<rows.count {
        llv_pack_codes(
          part.codes + row * layout.columns, layout.columns, Int32(integers.bits), target + row * layout.rowBytes)
      }
      let scales = base + layout.scalesAt + rows.lowerBound * layout.scaleBytes
      let zeros = base + layout.zerosAt + rows.lowerBound * layout.zeroBytes
      let count = rows.count * layout.groups
      if integers.form == .twoLevel {
        integers.encodeScales(UnsafeBufferPointer(start: part.rowScales, count: rows.count), into: scales)
        for row in 0..<rows.count {
          llv_join_steps(
            part.scales + row * layout.groups, part.zeros + row * layout.groups, part.rowScales[row], layout.groups,
            Int32(integers.bits), (zeros + row * layout.zeroBytes).assumingMemoryBound(to: UInt8.self))
        }
        return
      }
      integers.encodeScales(UnsafeBufferPointer(start: part.scales, count: count), into: scales)
      if integers.form == .affine {
        integers.encodeScales(UnsafeBufferPointer(start: part.zeros, count: count), into: zeros)
      }
    }
  }
}

extension GroupedInteger {
  /// Rounds scales (or zeros) to their type.
  public func encodeScales(_ values: UnsafeBufferPointer<Float>, into target: UnsafeMutableRawPointer) {
    scaleType.encode(values, into: target)
  }
}

extension DType {
  /// Rounds numbers to this type, F16, BF16 or F32: nearest, ties to even.
  public func encode(_ values: UnsafeBufferPointer<Float>, into target: UnsafeMutableRawPointer) {
    switch self {
    case .F16: llv_f32_to_f16(values.baseAddress, target, values.count)
    case .BF16: llv_f32_to_bf16(values.baseAddress, target, values.count)
    default: UnsafeMutableRawBufferPointer(start: target, count: values.count * 4).copyMemory(from: .init(values))
    }
  }
}
