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

  /// Calls `fill` for spans of rows on all threads. Scales and zeros must be exact in the encoding's type; they are rounded
  /// to it otherwise.
  public func forEachSpan(
    threads: Int, _ fill: @Sendable (_ rows: Range<Int>, _ part: Part) throws(Failure) -> Void
  ) throws(Failure) {
    let step = max(1, (1 << 16) / layout.columns)
    try parallel(Checked.ceilDivide(layout.rows, step), threads: threads) { (task) throws(Failure) in
      let rows = task * step..<min(layout.rows, (task + 1) * step)
      let codes = try Buffer(count: rows.count * layout.columns)
      let scales = try Buffer(count: rows.count * layout.groups * 4)
      let zeros = try Buffer(count: rows.count * layout.groups * 4)
      try codes.with(UInt8.self) { (codes) throws(Failure) in
        try scales.with(Float.self) { (scales) throws(Failure) in
          try zeros.with(Float.self) { (zeros) throws(Failure) in
            guard let c = codes.baseAddress, let s = scales.baseAddress, let z = zeros.baseAddress else { return }
            try fill(rows, Part(codes: c, scales: s, zeros: z))
            store(rows, c, UnsafeBufferPointer(scales), UnsafeBufferPointer(zeros))
          }
        }
      }
    }
  }

  private func store(
    _ rows: Range<Int>, _ codes: UnsafePointer<UInt8>, _ scales: UnsafeBufferPointer<Float>,
    _ zeros: UnsafeBufferPointer<Float>
  ) {
    result.withMutableBytes { bytes in
      guard let base = bytes.baseAddress else { return }
      let target = (base + rows.lowerBound * layout.rowBytes).assumingMemoryBound(to: UInt8.self)
      if integers.bits == 8 {
        target.update(from: codes, count: rows.count * layout.columns)
      } else {
        for row in 0..<rows.count {
          llv_pack_nibbles(codes + row * layout.columns, layout.columns, target + row * layout.rowBytes)
        }
      }
      let offset = rows.lowerBound * layout.groups * integers.scaleType.bits / 8
      integers.encodeScales(scales, into: base + layout.scalesAt + offset)
      if integers.isAffine { integers.encodeScales(zeros, into: base + layout.zerosAt + offset) }
    }
  }
}

extension GroupedInteger {
  /// Rounds scales (or zeros) to their type.
  public func encodeScales(_ values: UnsafeBufferPointer<Float>, into target: UnsafeMutableRawPointer) {
    switch scaleType {
    case .F16: llv_f32_to_f16(values.baseAddress, target, values.count)
    case .BF16: llv_f32_to_bf16(values.baseAddress, target, values.count)
    default: UnsafeMutableRawBufferPointer(start: target, count: values.count * 4).copyMemory(from: .init(values))
    }
  }
}
