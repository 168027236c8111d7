import Bytes
import CKernels
import Glibc
import Synchronization
import Tensors

/// Turns one tensor into grouped integers, in parallel over spans of rows. Working memory is the result, and a span of
/// floats for each thread.
struct GroupQuantizer: Sendable {
  private let tensor: Tensor
  private let integers: GroupedInteger
  /// Elements a task works on: enough to hide the start of a thread.
  private static let spanElements = 1 << 16

  init(_ tensor: Tensor, _ integers: GroupedInteger) {
    self.tensor = tensor
    self.integers = integers
  }

  /// - Throws: `malformed` naming the first NaN or infinity; `limit` when a scale is too large for half precision.
  func run(threads: Int) throws(Failure) -> (Buffer, TensorLoss?) {
    guard let layout = integers.layout(tensor.shape) else {
      throw Failure(.internal, "shape \(tensor.shape) does not fit \(integers.text)")
    }
    let source = try RowSource(tensor, threads: threads)
    let result = try Buffer(count: layout.byteCount)
    result.withMutableBytes { bytes in
      // The gaps before scales and zeros; everything else is written below.
      for part in [layout.scalesAt, layout.zerosAt] where part >= 64 {
        bytes[(part - 64)..<part].initializeMemory(as: UInt8.self, repeating: 0)
      }
    }
    let step = max(1, GroupQuantizer.spanElements / layout.columns)
    let spans = Checked.ceilDivide(layout.rows, step)
    let losses = Mutex([llv_loss](repeating: llv_loss(), count: spans))
    try parallel(spans, threads: threads) { (task) throws(Failure) in
      let span = task * step..<min(layout.rows, (task + 1) * step)
      let floats = try source.floats(span, number: task)
      let loss = try quantize(floats, span, layout, result)
      losses.withLock { $0[task] = loss }
    }
    try source.check()
    return (result, try total(losses.withLock { $0 }))
  }

  private func quantize(
    _ floats: Buffer, _ span: Range<Int>, _ layout: GroupedInteger.Layout, _ result: Buffer
  ) throws(Failure) -> llv_loss {
    let columns = layout.columns
    let codes = try Buffer(count: span.count * columns)
    let scratch = try Buffer(count: 8 * integers.groupSize * 4)
    var loss = llv_loss()
    try floats.with(Float.self) { (w) throws(Failure) in
      guard let w = w.baseAddress else { return }
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

  private func total(_ losses: [llv_loss]) throws(Failure) -> TensorLoss {
    var sum = llv_loss()
    for loss in losses {
      sum.error += loss.error
      sum.squares += loss.squares
      sum.largest = max(sum.largest, loss.largest)
      sum.clamped += loss.clamped
      sum.vanished += loss.vanished
      sum.overflowed += loss.overflowed
    }
    guard sum.overflowed == 0 else {
      throw Failure(
        .limit, "\(sum.overflowed) groups need a scale above 65504, the largest of half precision; keep this tensor")
    }
    return TensorLoss(
      relativeError: sum.squares > 0 ? (sum.error / sum.squares).squareRoot() : 0, largestError: sum.largest,
      clamped: Int(sum.clamped), vanishedGroups: Int(sum.vanished))
  }
}

/// Rows of a tensor as floats, read where they lie when that is possible, so that a large tensor is never in memory as a
/// whole. Spans are asked for once each, in order or nearly so.
private struct RowSource: Sendable {
  private let tensor: Tensor
  private let bytes: ByteView
  private let hash: HashInOrder?
  private let checksum: UInt64

  init(_ tensor: Tensor, threads: Int) throws(Failure) {
    self.tensor = tensor
    if case .stored(let stored) = tensor.content, stored.codec == .raw {
      (bytes, hash, checksum) = (stored.stored, HashInOrder(), stored.checksum)
    } else if case .bytes(let view) = tensor.content {
      (bytes, hash, checksum) = (view, nil, 0)
    } else {
      (bytes, hash, checksum) = (ByteView(try tensor.load(threads: threads)), nil, 0)
    }
  }

  /// `[span.count, columns]`. Spans are numbered from 0 in the order of their rows.
  func floats(_ span: Range<Int>, number: Int) throws(Failure) -> Buffer {
    let rowBytes = tensor.byteCount / max(1, tensor.rows)
    let part: Buffer
    do throws(Failure) {
      part = try Buffer(count: span.count * rowBytes)
      try part.withMutableBytes { (target) throws(Failure) in
        try bytes.read(at: span.lowerBound * rowBytes, into: target)
      }
    } catch {
      hash?.giveUp()
      throw error
    }
    hash?.add(part, number: number)
    if tensor.encoding == .plain(.F32) { return part }
    let rows = Tensor(
      tensor.name, shape: [span.count, tensor.columns], encoding: tensor.encoding, content: .bytes(ByteView(part)))
    return try rows.floats(threads: 1)
  }

  /// Holds what was read to the tensor's checksum.
  func check() throws(Failure) {
    guard let hash, hash.value() != checksum else { return }
    throw Failure(.malformed, "checksum does not match: the file is damaged", file: bytes.file?.path)
  }
}

/// A hash over parts that several threads bring, each waiting for the parts before its own.
private final class HashInOrder: Sendable {
  private struct State {
    var next = 0
    var hash = XXH64()
    var isGivenUp = false
  }

  private let state = Mutex(State())

  func add(_ part: Buffer, number: Int) {
    while true {
      let isDone = state.withLock { state in
        if state.next == number, !state.isGivenUp {
          part.withBytes { state.hash.update($0) }
          state.next += 1
          return true
        }
        return state.isGivenUp
      }
      if isDone { return }
      // The part before is being read by another thread, and will be here in microseconds.
      sched_yield()
    }
  }

  /// Nobody waits for a part that will not come.
  func giveUp() { state.withLock { $0.isGivenUp = true } }

  func value() -> UInt64 { state.withLock { $0.hash.value() } }
}
