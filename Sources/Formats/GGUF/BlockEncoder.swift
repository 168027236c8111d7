import Bytes
import CKernels
import Tensors

/// A tensor's bytes as one of ggml's types. Grouped integers that a type holds exactly are taken over code by code;
/// anything else is decoded and encoded again, with the least error that a search finds.
struct BlockEncoder: Sendable {
  let tensor: Tensor
  let type: BlockType
  /// Whether anything but the tensor's own values is an error.
  var isKept = false

  /// Types that can be made from weights.
  static let writable = [
    "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL",
  ]

  /// The block form of the type; nil for types of single numbers.
  private var form: BlockForm? { BlockForm(rawValue: type.name) }

  /// The smallest type that holds the tensor as it is; nil when none does. Where types share an encoding their codes
  /// are looked at.
  static func keeping(_ tensor: Tensor, threads: Int = availableThreads) throws(Failure) -> BlockType? {
    if case .plain(let type) = tensor.encoding { return type.isWeight ? BlockType.named(type.rawValue) : nil }
    let forms = BlockForm.allCases.filter { $0.isHeld(by: tensor.encoding) && tensor.columns % $0.elements == 0 }
      .sorted { $0.bytes < $1.bytes }
    for form in forms {
      guard form != forms.last || form.hasNarrowCodes else { return BlockType.named(form.rawValue) }
      if try form.holdsCodes(of: tensor, threads: threads) { return BlockType.named(form.rawValue) }
    }
    return nil
  }

  /// - Throws: `malformed` for NaN and infinities, `limit` where half precision cannot hold a value or a scale.
  func run(threads: Int) throws(Failure) -> (bytes: Buffer, loss: TensorLoss?) {
    do throws(Failure) {
      if tensor.encoding == type.encoding, tensor.encoding.isPlain { return (try tensor.load(threads: threads), nil) }
      if type.elements == 1 { return (try plain(threads: threads), nil) }
      if let form, form.isHeld(by: tensor.encoding), let blocks = try joined(form, threads: threads) {
        return (blocks, nil)
      }
      guard !isKept || form.map({ !$0.isHeld(by: tensor.encoding) }) ?? (tensor.encoding != type.encoding) else {
        throw Failure(.unsupported, "has steps or codes that no block of \(type.name) holds; choose a type with --type")
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

  /// The blocks that hold codes, steps and zeros as they are; nil where some are none of the type's.
  private func joined(_ form: BlockForm, threads: Int) throws(Failure) -> Buffer? {
    guard case .grouped(let integers) = tensor.encoding, let layout = integers.layout(tensor.shape) else {
      throw Failure(.internal, "no layout")
    }
    let source = try tensor.load(threads: threads)
    let result = try Buffer(count: try type.byteCount(tensor.shape))
    let (number, isAffine) = (Int32(type.number), integers.isAffine)
    let unfit = Lock(false)
    let step = max(1, (1 << 16) / layout.columns)
    try parallel(Checked.ceilDivide(layout.rows, step), threads: threads) { (task) throws(Failure) in
      let rows = task * step..<min(layout.rows, (task + 1) * step)
      let codes = try Buffer(count: rows.count * layout.columns)
      let blocks = rows.count * layout.columns / form.elements
      source.withBytes { bytes in
        codes.with(UInt8.self) { codes in
          result.withMutableBytes { target in
            guard let from = bytes.baseAddress, let to = codes.baseAddress, let out = target.baseAddress else { return }
            for (index, row) in rows.enumerated() {
              llv_unpack_bytes(
                from + row * layout.rowBytes, layout.columns, Int32(integers.bits), isAffine ? 1 : 0,
                to + index * layout.columns)
            }
            let scales = from + layout.scalesAt + rows.lowerBound * layout.scaleBytes
            let zeros = isAffine ? from + layout.zerosAt + rows.lowerBound * layout.zeroBytes : scales
            let target = out + rows.lowerBound * layout.columns / form.elements * type.bytes
            var fits = llv_first_unfit_code(number, to, rows.count * layout.columns) == rows.count * layout.columns
            if !form.hasSuperBlocks {
              llv_ggml_join(
                number, to, scales.assumingMemoryBound(to: UInt16.self), zeros.assumingMemoryBound(to: UInt16.self),
                blocks, target)
            } else if fits {
              fits =
                llv_ggml_join_super(
                  number, to, scales.assumingMemoryBound(to: Float.self), zeros.assumingMemoryBound(to: Float.self),
                  blocks, target) == blocks
            }
            if !fits { unfit.withLock { $0 = true } }
          }
        }
      }
    }
    return unfit.withLock { $0 } ? nil : result
  }

  /// Bits of the codes of types that are one search for each group.
  private static let searched: [String: (bits: Int32, isAffine: Int32)] = [
    "Q8_0": (8, 0), "Q4_0": (4, 0), "Q4_1": (4, 1), "Q5_0": (5, 0), "Q5_1": (5, 1),
  ]

  private func packed(threads: Int) throws(Failure) -> (Buffer, TensorLoss?) {
    let (rows, columns) = (tensor.rows, tensor.columns)
    let result = try Buffer(count: try type.byteCount(tensor.shape))
    let losses = Lock([llv_loss](repeating: llv_loss(), count: RowReader.spans(rows, columns)))
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

extension BlockForm {
  /// Whether the encoding has codes that the type has not.
  fileprivate var hasNarrowCodes: Bool {
    switch self {
    case .q8_0, .q4_0, .q4_1, .q4K: false
    default: true
    }
  }

  /// Whether the type has all codes of a tensor in its encoding.
  fileprivate func holdsCodes(of tensor: Tensor, threads: Int) throws(Failure) -> Bool {
    guard case .grouped(let integers) = tensor.encoding, let layout = integers.layout(tensor.shape) else {
      return false
    }
    let source = try tensor.load(threads: threads)
    let codes = try Buffer(count: layout.columns)
    return source.withBytes { bytes in
      codes.with(UInt8.self) { codes in
        guard let from = bytes.baseAddress, let to = codes.baseAddress else { return true }
        for row in 0..<layout.rows {
          llv_unpack_bytes(
            from + row * layout.rowBytes, layout.columns, Int32(integers.bits), integers.isAffine ? 1 : 0, to)
          guard llv_first_unfit_code(Int32(number), to, layout.columns) == layout.columns else { return false }
        }
        return true
      }
    }
  }
}
