import Bytes
import CKernels
import Synchronization
import Tensors

/// Turns one tensor into grouped integers, in parallel over spans of rows. Working memory is the result, and a span of
/// floats for each thread.
struct GroupQuantizer: Sendable {
  private let tensor: Tensor
  private let integers: GroupedInteger

  init(_ tensor: Tensor, _ integers: GroupedInteger) {
    self.tensor = tensor
    self.integers = integers
  }

  /// - Throws: `malformed` naming the first NaN or infinity; `limit` when a scale is too large for half precision.
  func run(threads: Int) throws(Failure) -> (Buffer, TensorLoss?) {
    guard let layout = integers.layout(tensor.shape) else {
      throw Failure(.internal, "shape \(tensor.shape) does not fit \(integers.text)")
    }
    let result = try Buffer(count: layout.byteCount)
    result.withMutableBytes { bytes in
      // The gaps before scales and zeros; everything else is written below.
      for part in [layout.scalesAt, layout.zerosAt] where part >= 64 {
        bytes[(part - 64)..<part].initializeMemory(as: UInt8.self, repeating: 0)
      }
    }
    let losses = Mutex([llv_loss](repeating: llv_loss(), count: RowReader.spans(layout.rows, layout.columns)))
    try tensor.rowReader(threads: threads).forEachSpan(rows: layout.rows, columns: layout.columns, threads: threads) {
      (number, span, values) throws(Failure) in
      let loss = try quantize(values, span, layout, result)
      losses.withLock { $0[number] = loss }
    }
    return (result, try TensorLoss(losses.withLock { $0 }))
  }

  private func quantize(
    _ w: UnsafePointer<Float>, _ span: Range<Int>, _ layout: GroupedInteger.Layout, _ result: Buffer
  ) throws(Failure) -> llv_loss {
    let columns = layout.columns
    let codes = try Buffer(count: span.count * columns)
    let scratch = try Buffer(count: 8 * integers.groupSize * 4)
    var loss = llv_loss()
    let bad = llv_first_nonfinite(w, span.count * columns)
    guard bad == span.count * columns else {
      throw Failure(
        .malformed, "holds \(w[bad]) at [\(span.lowerBound + bad / columns), \(bad % columns)]; cannot be quantized")
    }
    result.withMutableBytes { target in
      codes.with(UInt8.self) { codes in
        scratch.with(Float.self) { scratch in
          guard let codes = codes.baseAddress, let base = target.baseAddress, let scratch = scratch.baseAddress else {
            return
          }
          let scales = (base + layout.scalesAt).assumingMemoryBound(to: UInt16.self) + span.lowerBound * layout.groups
          let zeros = (base + layout.zerosAt).assumingMemoryBound(to: UInt16.self) + span.lowerBound * layout.groups
          search(w, rows: span.count, layout, scratch, codes, scales, zeros, &loss)
          let out = (base + span.lowerBound * layout.rowBytes).assumingMemoryBound(to: UInt8.self)
          if integers.bits == 8 {
            out.update(from: codes, count: span.count * columns)
          } else {
            for row in 0..<span.count {
              llv_pack_nibbles(codes + row * columns, columns, out + row * layout.rowBytes)
            }
          }
        }
      }
    }
    return loss
  }

  /// Groups that follow each other go to the search together; the short last groups of all rows make a call of their own.
  private func search(
    _ w: UnsafePointer<Float>, rows: Int, _ layout: GroupedInteger.Layout, _ scratch: UnsafeMutablePointer<Float>,
    _ codes: UnsafeMutablePointer<UInt8>, _ scales: UnsafeMutablePointer<UInt16>, _ zeros: UnsafeMutablePointer<UInt16>,
    _ loss: inout llv_loss
  ) {
    let (size, columns, groups) = (integers.groupSize, layout.columns, layout.groups)
    let (bits, isAffine) = (Int32(integers.bits), Int32(integers.isAffine ? 1 : 0))
    let whole = columns / size
    if whole == groups {
      llv_quantize_groups(w, size, rows * groups, size, bits, isAffine, scratch, codes, scales, zeros, 1, &loss)
      return
    }
    for row in 0..<rows {
      llv_quantize_groups(
        w + row * columns, size, whole, size, bits, isAffine, scratch, codes + row * columns, scales + row * groups,
        zeros + row * groups, 1, &loss)
    }
    llv_quantize_groups(
      w + whole * size, columns, rows, columns - whole * size, bits, isAffine, scratch, codes + whole * size,
      scales + whole,
      zeros + whole, groups, &loss)
  }
}
