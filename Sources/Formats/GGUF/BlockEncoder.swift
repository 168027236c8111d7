import Bytes
import CKernels
import Synchronization
import Tensors

/// A tensor's bytes as one of ggml's types. Grouped integers that a type holds exactly are taken over code by code;
/// anything else is decoded and encoded again, with the least error that a search finds.
struct BlockEncoder: Sendable {
  let tensor: Tensor
  let type: BlockType

  /// Types that can be made from weights.
  static let writable = [
    "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL",
  ]

  /// Whether the tensor's values survive bit for bit.
  static func isExact(_ tensor: Tensor, _ type: BlockType) -> Bool {
    if tensor.encoding == type.encoding {
      return tensor.encoding.isPlain || ["Q8_0", "Q4_0", "Q4_1"].contains(type.name)
    }
    return type.name == "F32" && [.plain(.F16), .plain(.BF16)].contains(tensor.encoding)
  }

  /// The type that holds the tensor as it is; nil when none does.
  static func keeping(_ tensor: Tensor) -> BlockType? {
    switch tensor.encoding {
    case .plain(let type): type.isWeight ? BlockType.named(type.rawValue) : nil
    case .grouped: ["Q8_0", "Q4_0", "Q4_1"].lazy.compactMap(BlockType.named).first { $0.encoding == tensor.encoding }
    }
  }

  /// - Throws: `malformed` for NaN and infinities, `limit` where half precision cannot hold a value or a scale.
  func run(threads: Int) throws(Failure) -> (bytes: Buffer, loss: TensorLoss?) {
    do throws(Failure) {
      if tensor.encoding == type.encoding, tensor.encoding.isPlain { return (try tensor.load(threads: threads), nil) }
      if type.elements == 1 { return (try plain(threads: threads), nil) }
      if BlockEncoder.isExact(tensor, type), case .grouped(let integers) = tensor.encoding {
        return (try joined(integers, threads: threads), nil)
      }
      return try packed(threads: threads)
    } catch { throw error.about("tensor \(tensor.name.quoted)") }
  }

  private func plain(threads: Int) throws(Failure) -> Buffer {
    let (columns, bytes, name) = (tensor.columns, type.bytes, type.name)
    let result = try Buffer(count: try type.byteCount(tensor.shape))
    try tensor.rowReader(threads: threads).forEachSpan(rows: tensor.rows, columns: columns, threads: threads) {
      (_, span, values) throws(Failure) in
      let count = span.count * columns
      result.withMutableBytes { target in
        guard let to = target.baseAddress.map({ $0 + span.lowerBound * columns * bytes }) else { return }
        switch name {
        case "F32": to.copyMemory(from: values, byteCount: count * 4)
        case "BF16": llv_f32_to_bf16(values, to, count)
        default: llv_f32_to_f16(values, to, count)
        }
      }
      guard name == "F16", let large = (0..<count).first(where: { abs(values[$0]) >= 65_520 && values[$0].isFinite })
      else { return }
      throw Failure(.limit, "holds \(values[large]), which half precision cannot; keep this tensor in F32 or BF16")
    }
    return result
  }

  private func joined(_ integers: GroupedInteger, threads: Int) throws(Failure) -> Buffer {
    guard let layout = integers.layout(tensor.shape) else { throw Failure(.internal, "no layout") }
    let source = try tensor.load(threads: threads)
    let result = try Buffer(count: try type.byteCount(tensor.shape))
    let (number, rowBlocks) = (Int32(type.number), layout.groups)
    let blockBytes = type.bytes
    let step = max(1, (1 << 16) / layout.columns)
    try parallel(Checked.ceilDivide(layout.rows, step), threads: threads) { (task) throws(Failure) in
      let rows = task * step..<min(layout.rows, (task + 1) * step)
      let codes = try Buffer(count: rows.count * layout.columns)
      source.withBytes { bytes in
        codes.with(UInt8.self) { codes in
          result.withMutableBytes { target in
            guard let from = bytes.baseAddress, let to = codes.baseAddress, let out = target.baseAddress else { return }
            for (index, row) in rows.enumerated() {
              llv_unpack_bytes(
                from + row * layout.rowBytes, layout.columns, Int32(integers.bits), integers.isAffine ? 1 : 0,
                to + index * layout.columns)
            }
            let first = rows.lowerBound * rowBlocks
            let scales = (from + layout.scalesAt).assumingMemoryBound(to: UInt16.self) + first
            let zeros = (from + layout.zerosAt).assumingMemoryBound(to: UInt16.self) + first
            llv_ggml_join(
              number, to, scales, integers.isAffine ? zeros : nil, rows.count * rowBlocks, out + first * blockBytes)
          }
        }
      }
    }
    return result
  }

  /// Bits of the codes of types that are one search for each group.
  private static let searched: [String: (bits: Int32, isAffine: Int32)] = [
    "Q8_0": (8, 0), "Q4_0": (4, 0), "Q4_1": (4, 1), "Q5_0": (5, 0), "Q5_1": (5, 1),
  ]

  private func packed(threads: Int) throws(Failure) -> (Buffer, TensorLoss?) {
    let (rows, columns) = (tensor.rows, tensor.columns)
    let result = try Buffer(count: try type.byteCount(tensor.shape))
    let losses = Mutex([llv_loss](repeating: llv_loss(), count: RowReader.spans(rows, columns)))
    try tensor.rowReader(threads: threads).forEachSpan(rows: rows, columns: columns, threads: threads) {
      (number, span, values) throws(Failure) in
      let count = span.count * columns
      let bad = llv_first_nonfinite(values, count)
      guard bad == count else {
        throw Failure(
          .malformed,
          "holds \(values[bad]) at [\(span.lowerBound + bad / columns), \(bad % columns)]; cannot be quantized")
      }
      let blocks = count / type.elements
      let start = span.lowerBound * columns / type.elements * type.bytes
      let loss = try pack(values, blocks, result, start)
      losses.withLock { $0[number] = loss }
    }
    return (result, try TensorLoss(losses.withLock { $0 }))
  }

  private func pack(
    _ values: UnsafePointer<Float>, _ blocks: Int, _ result: Buffer, _ start: Int
  ) throws(Failure) -> llv_loss {
    var loss = llv_loss()
    let scratch = try Buffer(count: 256 * 4)
    let codes = try Buffer(count: blocks * 32)
    let scales = try Buffer(count: blocks * 2)
    let zeros = try Buffer(count: blocks * 2)
    result.withMutableBytes { target in
      scratch.with(Float.self) { scratch in
        guard let to = target.baseAddress.map({ $0 + start }), let scratch = scratch.baseAddress else { return }
        guard let kind = BlockEncoder.searched[type.name] else {
          return llv_ggml_pack(Int32(type.number), values, blocks, scratch, to, &loss)
        }
        codes.with(UInt8.self) { codes in
          scales.with(UInt16.self) { scales in
            zeros.with(UInt16.self) { zeros in
              llv_quantize_groups(
                values, 32, blocks, 32, kind.bits, kind.isAffine, scratch, codes.baseAddress, scales.baseAddress,
                zeros.baseAddress, 1, &loss)
              llv_ggml_join(Int32(type.number), codes.baseAddress, scales.baseAddress, zeros.baseAddress, blocks, to)
            }
          }
        }
      }
    }
    return loss
  }
}
