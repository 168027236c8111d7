import Bytes
import CKernels

/// A matrix in the order in which the processor's kernels read it: panels of sixteen rows, one after the other, the
/// last one filled up with zeros. Containers hold the weights of linear operations like this, so that they can be used
/// where they lie in the file.
///
/// - Bytes: codes or elements `[panels][bytesPerPanel]` as `llv_pack_panel` and its like make them; of integers then
///   the scales `[panels][groups, 16]`, `[panels][16]` with two levels; then zeros likewise, or the bytes of two levels
///   `[panels][groups, 16]`. Each part starts at a multiple of 64 bytes.
public struct PanelOrder: Sendable {
  public let rows, columns, bytesPerPanel: Int
  public let encoding: Encoding
  public let scalesAt, zerosAt, byteCount: Int
  /// Bytes of a panel's scales, and of its zeros or steps.
  public let scaleBytes, zeroBytes: Int

  public static let width = Int(LLV_PANEL)
  public var panels: Int { Checked.ceilDivide(rows, PanelOrder.width) }

  /// nil for element types that kernels do not take, for what is no matrix, and where sizes overflow.
  public init?(_ encoding: Encoding, _ shape: [Int]) {
    // A panel takes less than 1,024 bytes for a column, groups of one column that are filled up to four and have a zero
    // each included.
    guard shape.count == 2, encoding.byteCount(shape) != nil, shape[1] > 0, Checked.multiply(shape[1], 1_024) != nil
    else { return nil }
    (rows, columns, self.encoding) = (shape[0], shape[1], encoding)
    let width = PanelOrder.width
    let count = Checked.ceilDivide(rows, width)
    var (perScales, perZeros) = (0, 0)
    switch encoding {
    case .plain(.F32): bytesPerPanel = columns * width * 4
    case .plain(.F16): bytesPerPanel = columns * width * 2
    case .plain(.BF16): bytesPerPanel = llv_bf16_places(columns) * width * 2
    case .plain: return nil
    case .grouped(let integers):
      guard let layout = integers.layout(shape) else { return nil }
      bytesPerPanel = llv_panel_bytes(columns, integers.groupSize, Int32(integers.bits))
      (perScales, perZeros) = (layout.scaleBytes * width, layout.zeroBytes * width)
    }
    guard let codes = Checked.multiply(count, bytesPerPanel), let scales = Checked.multiply(count, perScales),
      let zeros = Checked.multiply(count, perZeros), let scalesAt = Checked.roundUp(codes, to: 64),
      let scalesEnd = Checked.add(scalesAt, scales), let zerosAt = Checked.roundUp(scalesEnd, to: 64),
      let end = Checked.add(zerosAt, zeros)
    else { return nil }
    (scaleBytes, zeroBytes) = (perScales, perZeros)
    (self.scalesAt, self.zerosAt) = (scalesAt, zerosAt)
    byteCount = zeros > 0 ? end : scales > 0 ? scalesEnd : codes
  }

  /// The rows of a panel.
  public func rows(_ panel: Int) -> Range<Int> { panel * PanelOrder.width..<min(rows, (panel + 1) * PanelOrder.width) }

  /// A tensor's bytes in this order.
  public func pack(_ bytes: Buffer, threads: Int) throws(Failure) -> Buffer {
    let result = try Buffer(count: byteCount)
    clearGaps(result)
    try parallel(panels, threads: threads) { panel in
      let (first, count) = (rows(panel).lowerBound, rows(panel).count)
      let target = result.start + panel * bytesPerPanel
      switch encoding {
      case .plain(.BF16): llv_pack_panel_bf16(bytes.start + first * columns * 2, count, columns, target)
      case .plain(.F16): llv_pack_panel_16(bytes.start + first * columns * 2, count, columns, target)
      case .plain:
        let from = (bytes.start + first * columns * 4).assumingMemoryBound(to: Float.self)
        llv_pack_panel_f32(from, columns, count, columns, target.assumingMemoryBound(to: Float.self))
      case .grouped(let integers):
        guard let layout = integers.layout([rows, columns]) else { return }
        llv_pack_panel(
          bytes.start + first * layout.rowBytes, layout.rowBytes, count, columns, integers.groupSize,
          Int32(integers.bits), integers.isAffine ? 1 : 0, target.assumingMemoryBound(to: UInt8.self))
        for (inRows, inPanels, step) in parts(integers, layout) {
          let size = inPanels.bytes / PanelOrder.width
          let to = result.start + inPanels.at + panel * inPanels.bytes
          memoryClear(to, inPanels.bytes)
          for row in 0..<count {
            llv_spread(
              bytes.start + inRows + (first + row) * size, size / step, step, PanelOrder.width, to + row * step)
          }
        }
      }
    }
    return result
  }

  /// The bytes that `pack` had.
  public func unpack(_ packed: Buffer, threads: Int) throws(Failure) -> Buffer {
    let result = try Buffer(count: encoding.byteCount([rows, columns]) ?? 0)
    result.clear()
    try parallel(panels, threads: threads) { panel in
      let (first, count) = (rows(panel).lowerBound, rows(panel).count)
      let from = packed.start + panel * bytesPerPanel
      switch encoding {
      case .plain(.BF16): llv_unpack_panel_bf16(from, count, columns, result.start + first * columns * 2)
      case .plain(let type):
        let size = type.bits / 8
        for row in 0..<count {
          llv_gather(from + row * size, columns, size, PanelOrder.width, result.start + (first + row) * columns * size)
        }
      case .grouped(let integers):
        guard let layout = integers.layout([rows, columns]) else { return }
        llv_unpack_panel(
          from.assumingMemoryBound(to: UInt8.self), layout.rowBytes, count, columns, integers.groupSize,
          Int32(integers.bits), integers.isAffine ? 1 : 0, result.start + first * layout.rowBytes)
        for (inRows, inPanels, step) in parts(integers, layout) {
          let size = inPanels.bytes / PanelOrder.width
          let from = packed.start + inPanels.at + panel * inPanels.bytes
          for row in 0..<count {
            llv_gather(
              from + row * step, size / step, step, PanelOrder.width, result.start + inRows + (first + row) * size)
          }
        }
      }
    }
    return result
  }

  /// Scales, and zeros or steps: where they are among the rows and among the panels, and the bytes of one.
  private func parts(
    _ integers: GroupedInteger, _ layout: GroupedInteger.Layout
  ) -> [(inRows: Int, inPanels: (at: Int, bytes: Int), step: Int)] {
    let size = integers.scaleType.bits / 8
    let scales = (layout.scalesAt, (scalesAt, scaleBytes), size)
    return integers.isAffine
      ? [scales, (layout.zerosAt, (zerosAt, zeroBytes), integers.form == .twoLevel ? 1 : size)] : [scales]
  }

  /// The bytes between the parts, which nothing else writes.
  private func clearGaps(_ buffer: Buffer) {
    for (end, at) in [(panels * bytesPerPanel, scalesAt), (scalesAt + panels * scaleBytes, zerosAt)]
    where at <= byteCount {
      memoryClear(buffer.start + end, at - end)
    }
  }

  private func memoryClear(_ at: UnsafeMutableRawPointer, _ count: Int) {
    at.initializeMemory(as: UInt8.self, repeating: 0, count: count)
  }
}

extension Tensor {
  /// The tensor's bytes in the kernels' order: where they lie, when a container holds them like this.
  ///
  /// - Throws: `unsupported` for a tensor that has no such order.
  public func panels(threads: Int) throws(Failure) -> (order: PanelOrder, bytes: Buffer) {
    guard let order = PanelOrder(encoding, shape) else {
      throw Failure(.unsupported, "\(encoding.text) \(shape) has no panels", thing: "tensor \(name.quoted)")
    }
    guard case .panels(let stored) = content else {
      return (order, try order.pack(try load(threads: threads), threads: threads))
    }
    do throws(Failure) { return (order, try stored.mapped()) } catch { throw error.about("tensor \(name.quoted)") }
  }

  /// The tensor's bytes to be read alone, without a copy where the file has them as they are.
  public func mapped(threads: Int) throws(Failure) -> Buffer {
    guard case .stored(let stored) = content else { return try load(threads: threads) }
    do throws(Failure) { return try stored.mapped() } catch { throw error.about("tensor \(name.quoted)") }
  }
}
