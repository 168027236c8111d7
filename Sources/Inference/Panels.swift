import Bytes
import CKernels
import Tensors

/// A weight matrix in the order in which the kernels read it: panels of outputs, one after the other. Made once, when the weight
/// is put on the device; it takes as much memory as the tensor, up to the last panel's filling.
final class Panels: EncodedStorage, Sendable {
  let rows, columns: Int
  let form: Form
  /// `[panels][bytesPerPanel]`.
  private let codes: Buffer
  private let bytesPerPanel: Int
  /// The first panel of these in the arrays.
  private let first: Int
  /// Scales and zeros of integers, `[panels][groups, width]` in the encoding's type.
  private let scales, zeros: Buffer?

  enum Form: Sendable {
    case float32
    /// F16, to be widened panel by panel.
    case float16
    /// Pairs of columns, to be multiplied with pairs, or widened panel by panel.
    case bfloat16
    case integers(GroupedInteger, groups: Int)
  }

  var encoding: Encoding {
    switch form {
    case .float32: .plain(.F32)
    case .float16: .plain(.F16)
    case .bfloat16: .plain(.BF16)
    case .integers(let integers, _): .grouped(integers)
    }
  }

  static let width = Int(LLV_PANEL)
  var count: Int { Checked.ceilDivide(rows, Panels.width) }

  /// The outputs of a panel.
  func outputs(_ panel: Int) -> Range<Int> { panel * Panels.width..<min(rows, (panel + 1) * Panels.width) }

  init(_ tensor: Tensor, threads: Int) throws(Failure) {
    (rows, columns) = (tensor.rows, tensor.columns)
    first = 0
    let (rows, columns, width) = (rows, columns, Panels.width)
    let count = Checked.ceilDivide(rows, width)
    func memory(_ size: Int) throws(Failure) -> Buffer {
      guard let bytes = Checked.multiply(count, size) else {
        throw Failure(.limit, "tensor \(tensor.name.quoted) is too large")
      }
      return try Buffer(count: bytes)
    }
    switch tensor.encoding {
    case .plain(.F16), .plain(.BF16):
      let isBFloat = tensor.encoding == .plain(.BF16)
      let bytes = try tensor.load(threads: threads)
      let size = (isBFloat ? llv_bf16_places(columns) : columns) * width * 2
      let codes = try memory(size)
      try parallel(count, threads: threads) { panel in
        (isBFloat ? llv_pack_panel_bf16 : llv_pack_panel_16)(
          bytes.start + panel * width * columns * 2, min(width, rows - panel * width), columns,
          codes.start + panel * size)
      }
      form = isBFloat ? .bfloat16 : .float16
      (self.codes, bytesPerPanel, scales, zeros) = (codes, size, nil, nil)
    case .plain:
      let floats = try tensor.floats(threads: threads)
      let size = columns * width * 4
      let codes = try memory(size)
      try parallel(count, threads: threads) { panel in
        llv_pack_panel_f32(
          floats.floats + panel * width * columns, columns, min(width, rows - panel * width), columns,
          (codes.start + panel * size).assumingMemoryBound(to: Float.self))
      }
      form = .float32
      (self.codes, bytesPerPanel, scales, zeros) = (codes, size, nil, nil)
    case .grouped(let integers):
      guard let layout = integers.layout(tensor.shape) else { throw Failure(.internal, "a weight without layout") }
      let bytes = try tensor.load(threads: threads)
      let size = llv_panel_bytes(columns, integers.groupSize, Int32(integers.bits))
      let codes = try memory(size)
      try parallel(count, threads: threads) { panel in
        llv_pack_panel(
          bytes.start + panel * width * layout.rowBytes, layout.rowBytes, min(width, rows - panel * width), columns,
          integers.groupSize, Int32(integers.bits), integers.isAffine ? 1 : 0,
          (codes.start + panel * size).assumingMemoryBound(to: UInt8.self))
      }
      let step = integers.scaleType.bits / 8
      func across(_ at: Int) throws(Failure) -> Buffer {
        let target = try memory(layout.groups * width * step)
        target.clear()
        for row in 0..<rows {
          let to = target.start + (row / width * layout.groups * width + row % width) * step
          let from = bytes.start + (at + row * layout.groups * step)
          for group in 0..<layout.groups {
            (to + group * width * step).copyMemory(from: from + group * step, byteCount: step)
          }
        }
        return target
      }
      form = .integers(integers, groups: layout.groups)
      (self.codes, bytesPerPanel) = (codes, size)
      scales = try across(layout.scalesAt)
      zeros = integers.isAffine ? try across(layout.zerosAt) : nil
    }
  }

  /// Some outputs of others, the first of which starts a panel.
  init(_ all: Panels, outputs: Range<Int>) {
    (rows, columns, form) = (outputs.count, all.columns, all.form)
    (codes, bytesPerPanel, scales, zeros) = (all.codes, all.bytesPerPanel, all.scales, all.zeros)
    first = all.first + outputs.lowerBound / Panels.width
  }

  // MARK: Panels

  /// Bytes of scratch that a thread needs to make a panel ready: for codes or pairs, scales, zeros, floats.
  func scratch(asFloats: Bool) -> [Int] {
    switch form {
    case .float32: [0, 0, 0, 0]
    case .float16: [0, 0, 0, columns * Panels.width * 4]
    case .bfloat16: [asFloats ? 0 : llv_bf16_working(columns), 0, 0, asFloats ? columns * Panels.width * 4 : 0]
    case .integers(let integers, let groups):
      [
        llv_int8_working(columns, integers.groupSize), groups * Panels.width * 4,
        integers.isAffine ? groups * Panels.width * 4 : 0, asFloats ? columns * Panels.width * 4 : 0,
      ]
    }
  }

  private func start(_ panel: Int) -> UnsafeMutableRawPointer { codes.start + (first + panel) * bytesPerPanel }

  /// A panel as floats `[columns, width]`.
  func floats(_ panel: Int, _ scratch: Scratch, _ thread: Int) -> UnsafePointer<Float> {
    let start = start(panel)
    let target = scratch.floats(3, thread)
    switch form {
    case .float32: return UnsafePointer(start.assumingMemoryBound(to: Float.self))
    case .float16: llv_f16_to_f32(start, target, columns * Panels.width)
    case .bfloat16: llv_widen_panel_bf16(start, columns, 0, target)
    case .integers(let integers, let groups):
      var panel = integerPanel(panel, integers, groups, scratch, thread)
      llv_dequantize_panel(&panel, scratch.piece(0, thread), target)
    }
    return UnsafePointer(target)
  }

  /// A panel of pairs.
  func pairs(_ panel: Int) -> UnsafeRawPointer { UnsafeRawPointer(start(panel)) }

  /// A panel of integers with its scales and zeros as floats.
  func integerPanel(
    _ panel: Int, _ integers: GroupedInteger, _ groups: Int, _ scratch: Scratch, _ thread: Int
  ) -> llv_int8_panel {
    let count = groups * Panels.width
    func floats(_ buffer: Buffer?, _ piece: Int) -> UnsafePointer<Float>? {
      guard let buffer else { return nil }
      let target = scratch.floats(piece, thread)
      integers.decodeScales(
        buffer.start + (first + panel) * count * integers.scaleType.bits / 8,
        into: UnsafeMutableBufferPointer(start: target, count: count))
      return UnsafePointer(target)
    }
    return llv_int8_panel(
      codes: UnsafeRawPointer(start(panel)), scales: floats(scales, 1), zeros: floats(zeros, 2), columns: columns,
      group: integers.groupSize, bits: Int32(integers.bits),
      offset: Int32(Panels.offset(integers)))
  }

  /// What the kernels' codes, which are unsigned, are larger by than the encoding's.
  static func offset(_ integers: GroupedInteger) -> Int { integers.isAffine ? 0 : 1 << (integers.bits - 1) }
}
