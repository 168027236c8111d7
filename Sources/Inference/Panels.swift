import Bytes
import CKernels
import Tensors

/// A weight matrix in the order in which the kernels read it (`PanelOrder`): as it lies in its file, or made once, when
/// the weight is put on the device.
final class Panels: EncodedStorage, Sendable {
  let rows, columns: Int
  let form: Form
  private let order: PanelOrder
  private let bytes: Buffer
  /// The first panel of these in the bytes.
  private let first: Int

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

  static let width = PanelOrder.width
  var count: Int { Checked.ceilDivide(rows, Panels.width) }

  /// The outputs of panels.
  func outputs(_ panels: Range<Int>) -> Range<Int> {
    panels.lowerBound * Panels.width..<min(rows, panels.upperBound * Panels.width)
  }

  init(_ given: Tensor, threads: Int) throws(Failure) {
    let tensor = try given.withPanels(threads: threads)
    (order, bytes) = try tensor.panels(threads: threads)
    (rows, columns, first) = (tensor.rows, tensor.columns, 0)
    switch tensor.encoding {
    case .plain(.F16): form = .float16
    case .plain(.BF16): form = .bfloat16
    case .plain: form = .float32
    case .grouped(let integers):
      form = .integers(integers, groups: Checked.ceilDivide(columns, integers.groupSize))
      try integers.checkSteps(bytes, order, tensor.name)
    }
  }

  /// Some outputs of others, the first of which starts a panel.
  init(_ all: Panels, outputs: Range<Int>) {
    (rows, columns, form) = (outputs.count, all.columns, all.form)
    (order, bytes) = (all.order, all.bytes)
    first = all.first + outputs.lowerBound / Panels.width
  }

  // MARK: Panels

  /// Whether the kernels of this processor take panels as they lie, so that using one several times costs nothing.
  func isReady(asFloats: Bool) -> Bool {
    switch form {
    case .float32: true
    case .float16: false
    case .bfloat16: !asFloats && llv_takes_bf16() != 0
    case .integers(let integers, _):
      !asFloats && integers.bits == 8 && llv_cpu_features() & UInt32(LLV_CPU_AVX_VNNI | LLV_CPU_AVX512_VNNI) != 0
    }
  }

  /// Bytes of scratch that a thread needs to make panels ready: for codes or pairs, scales, zeros, floats, scales of
  /// two levels.
  func scratch(panels: Int, asFloats: Bool) -> [Int] {
    let (floats, width) = (asFloats ? panels * columns * Panels.width * 4 : 0, panels * Panels.width * 4)
    switch form {
    case .float32: return [0, 0, 0, 0]
    case .float16: return [0, 0, 0, floats]
    case .bfloat16: return [asFloats ? 0 : llv_bf16_working(columns), 0, 0, floats]
    case .integers(let integers, let groups):
      return [
        llv_int8_working(columns, integers.groupSize), groups * width, integers.isAffine ? groups * width : 0, floats,
        asFloats && integers.form == .twoLevel ? groups * width : 0,
      ]
    }
  }

  private func start(_ panel: Int) -> UnsafeMutableRawPointer { bytes.start + (first + panel) * order.bytesPerPanel }

  /// Panels as floats, `[columns, width]` each.
  func floats(_ panels: Range<Int>, _ scratch: Scratch, _ thread: Int) -> UnsafePointer<Float> {
    if case .float32 = form {
      return UnsafePointer(start(panels.lowerBound).assumingMemoryBound(to: Float.self))
    }
    let all = scratch.floats(3, thread)
    for (place, panel) in panels.enumerated() {
      let (start, target) = (start(panel), all + place * columns * Panels.width)
      switch form {
      case .float32: break
      case .float16: llv_f16_to_f32(start, target, columns * Panels.width)
      case .bfloat16: llv_widen_panel_bf16(start, columns, 0, target)
      case .integers(let integers, let groups):
        var panel = integerPanels(panel..<panel + 1, integers, groups, asFloats: true, scratch, thread)
        llv_dequantize_panel(&panel, scratch.piece(0, thread), target)
      }
    }
    return UnsafePointer(all)
  }

  /// A panel of pairs, after which the next one lies.
  func pairs(_ panel: Int) -> UnsafeRawPointer { UnsafeRawPointer(start(panel)) }

  /// Panels of integers with their scales and zeros as floats, of groups in two levels for products of integers the
  /// steps as they are.
  func integerPanels(
    _ panels: Range<Int>, _ integers: GroupedInteger, _ groups: Int, asFloats: Bool = false, _ scratch: Scratch,
    _ thread: Int
  ) -> llv_int8_panel {
    let (panel, width) = (panels.lowerBound, panels.count * Panels.width)
    let count = groups * width
    let (scales, zeros) = (
      bytes.start + order.scalesAt + (first + panel) * order.scaleBytes,
      bytes.start + order.zerosAt + (first + panel) * order.zeroBytes
    )
    func floats(_ from: UnsafeRawPointer, _ count: Int, _ piece: Int) -> UnsafeMutablePointer<Float> {
      let target = scratch.floats(piece, thread)
      integers.decodeScales(from, into: UnsafeMutableBufferPointer(start: target, count: count))
      return target
    }
    var result = llv_int8_panel()
    (result.codes, result.columns) = (UnsafeRawPointer(start(panel)), columns)
    (result.group, result.bits) = (integers.groupSize, Int32(integers.bits))
    result.offset = Int32(asFloats && integers.isAffine ? 0 : integers.productOffset)
    guard integers.form == .twoLevel else {
      result.scales = UnsafePointer(floats(scales, count, 1))
      if integers.isAffine { result.zeros = UnsafePointer(floats(zeros, count, 2)) }
      return result
    }
    let steps = UnsafeRawPointer(zeros).assumingMemoryBound(to: UInt8.self)
    let rows = floats(scales, width, 1)
    if asFloats {
      let (all, from) = (scratch.floats(4, thread), scratch.floats(2, thread))
      llv_expand_steps(steps, rows, groups, width, Int32(integers.bits), all, from)
      (result.scales, result.zeros) = (UnsafePointer(all), UnsafePointer(from))
    } else {
      (result.scales, result.steps) = (UnsafePointer(rows), steps)
    }
    return result
  }
}

extension Tensor {
  /// The same, or for an element type that kernels do not take its elements as Float32.
  fileprivate func withPanels(threads: Int) throws(Failure) -> Tensor {
    switch encoding {
    case .grouped, .plain(.F32), .plain(.F16), .plain(.BF16): return self
    case .plain:
      let floats = try floats(threads: threads)
      return Tensor(name, shape: shape, encoding: .plain(.F32), content: .bytes(ByteView(floats)))
    }
  }
}
