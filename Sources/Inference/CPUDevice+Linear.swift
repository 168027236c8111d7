import Bytes
import CKernels
import Tensors

/// `x Wᵀ + b` and what follows. A task is a pair of panels of outputs and a span of rows.
extension CPUDevice {
  /// Panels of a task: each load of activations serves both (`CKernels`).
  private static let panelsPerTask = 2

  /// Rows of a task, at most 1,008 and whole tiles of the kernels. Each thread has rows of its own, which are those
  /// that it has in the operations before and after, so that it finds in its caches what it made; where that would be
  /// too few to make panels ready for, threads have panels of their own.
  private static func span(_ rows: Int, pairs: Int, threads: Int, isReady: Bool) -> Int {
    let (tile, most, least) = (12, 1_008, isReady ? 96 : 240)
    var parts = Checked.ceilDivide(rows, most)
    if rows >= threads * least {
      parts = Checked.ceilDivide(parts, threads) * threads
    } else {
      while pairs * parts < 16 * threads, rows >= 2 * parts * least { parts += 1 }
    }
    return max(1, Checked.ceilDivide(Checked.ceilDivide(rows, max(1, parts)), tile)) * tile
  }

  func linear(
    _ input: Op.LinearInput, _ inputs: [DeviceBuffer], _ steps: [FollowingStep], _ target: DeviceBuffer?
  ) throws(Failure) -> DeviceBuffer {
    let weight = try panels(inputs[1])
    let bias = inputs.count > 2 ? try values(inputs[2]) : nil
    let x = try values(inputs[0])
    let rows = inputs[0].rows
    let (result, y) = try result(rows, weight.rows, target)
    var following: [(kind: Int32, other: Rows?)] = []
    for step in steps { following.append(try kernelStep(step)) }
    let steps = following

    /// Where a task's outputs go.
    @Sendable func output(
      _ outputs: Range<Int>, _ span: Range<Int>, _ body: (UnsafePointer<llv_output>) -> Void
    ) {
      withUnsafeTemporaryAllocation(of: llv_step.self, capacity: steps.count) { list in
        for (index, step) in steps.enumerated() {
          let other = step.other.map { UnsafePointer($0[span.lowerBound] + outputs.lowerBound) }
          list[index] = llv_step(kind: step.kind, other: other, stride: step.other?.stride ?? 0)
        }
        var output = llv_output(
          bias: bias.map { UnsafePointer($0.base + outputs.lowerBound) }, steps: list.baseAddress,
          step_count: steps.count, n: outputs.count, y: y[span.lowerBound] + outputs.lowerBound, stride: y.stride)
        body(&output)
      }
    }

    switch (input, weight.form) {
    case (.int8, .integers(let integers, let groups)):
      try integers.checkProducts(weight.columns)
      let codes = try codes(of: inputs[0], x, integers)
      try forPanels(weight, rows, asFloats: false) { panels, span, scratch, thread in
        var panelsOf = weight.integerPanels(panels, integers, groups, scratch, thread)
        var part = codes.rows(from: span.lowerBound)
        output(weight.outputs(panels), span) {
          llv_gemm_int8(&part, span.count, &panelsOf, scratch.piece(0, thread), $0)
        }
      }
    case (.bfloat16, .bfloat16):
      let columns = weight.columns
      let rowBytes = llv_bf16_row_bytes(columns)
      let rounded = try rounded(inputs[0], x)
      try forPanels(weight, rows, asFloats: false) { panels, span, scratch, thread in
        output(weight.outputs(panels), span) {
          llv_gemm_bf16(
            rounded.start + span.lowerBound * rowBytes, span.count, columns, weight.pairs(panels.lowerBound),
            scratch.piece(0, thread), $0)
        }
      }
    default:
      let columns = weight.columns
      try forPanels(weight, rows, asFloats: true) { panels, span, scratch, thread in
        let floats = weight.floats(panels, scratch, thread)
        output(weight.outputs(panels), span) {
          llv_gemm_f32(x[span.lowerBound], x.stride, span.count, columns, floats, $0)
        }
      }
    }
    return result
  }

  private func kernelStep(_ step: FollowingStep) throws(Failure) -> (kind: Int32, other: Rows?) {
    switch (step.op, step.other) {
    case (.activation(let kind), nil): return (kind.kernel, nil)
    case (.add, let other?), (.multiply, let other?):
      let rows = try values(other)
      return (
        Int32(step.op == .add ? LLV_ADD : LLV_MULTIPLY),
        Rows(base: rows.base, stride: other.rows == 1 ? 0 : rows.stride)
      )
    default: throw Failure(.internal, "a step that cannot follow a product")
    }
  }

  private func forPanels(
    _ weight: Panels, _ rows: Int, asFloats: Bool,
    _ body: @Sendable (_ panels: Range<Int>, _ rows: Range<Int>, _ scratch: Scratch, _ thread: Int) -> Void
  ) throws(Failure) {
    let most = CPUDevice.panelsPerTask
    let scratch = try Scratch(weight.scratch(panels: most, asFloats: asFloats), threads: threads)
    let pairs = Checked.ceilDivide(weight.count, most)
    let step = CPUDevice.span(rows, pairs: pairs, threads: threads, isReady: weight.isReady(asFloats: asFloats))
    try parallel(pairs * Checked.ceilDivide(rows, step), threads: threads) { task, thread in
      let (first, panel) = (task / pairs * step, task % pairs * most)
      body(panel..<min(weight.count, panel + most), first..<min(rows, first + step), scratch, thread)
    }
    withExtendedLifetime(scratch) {}
  }

  // MARK: Activations as integers and as BF16

  /// A value rounded to BF16, rows as the products take them, made when it is asked for the first time.
  private func rounded(_ buffer: DeviceBuffer, _ x: Rows) throws(Failure) -> Buffer {
    let value = buffer.storage as? Value
    if let pairs = value?.pairs.withLock({ $0 }) { return pairs }
    let columns = buffer.columns
    let rowBytes = llv_bf16_row_bytes(columns)
    let pairs = try Buffer(count: buffer.rows * rowBytes)
    try forRows(buffer.rows) { range in
      for row in range {
        llv_round_row_bf16(x[row], columns, pairs.start + row * rowBytes)
      }
    }
    value?.pairs.withLock { $0 = pairs }
    return pairs
  }

  /// Activations as 8-bit codes, `[rows, places]`, with scales, starts and sums `[rows, groups]`.
  final class Codes: Sendable {
    /// What a weight wants: groups as its own, what codes are stored larger by, and what its own codes are larger by.
    struct Form: Hashable { let group, bias, offset: Int }

    let codes, scales, starts, sums: Buffer
    let rowBytes, groups: Int

    init(rows: Int, columns: Int, _ form: Form) throws(Failure) {
      groups = Checked.ceilDivide(columns, form.group)
      rowBytes = llv_places(columns, form.group)
      codes = try Buffer(count: rows * rowBytes)
      scales = try Buffer(count: rows * groups * 4)
      starts = try Buffer(count: rows * groups * 4)
      sums = try Buffer(count: rows * groups * 4)
    }

    /// Valid while this lives.
    func rows(from first: Int) -> llv_codes {
      llv_codes(
        codes: UnsafeRawPointer(codes.start + first * rowBytes), scales: UnsafePointer(scales.floats + first * groups),
        starts: UnsafePointer(starts.start.assumingMemoryBound(to: Int32.self) + first * groups),
        sums: UnsafePointer(sums.floats + first * groups))
    }
  }

  /// Codes of a value, made when they are asked for the first time.
  private func codes(of buffer: DeviceBuffer, _ x: Rows, _ integers: GroupedInteger) throws(Failure) -> Codes {
    let form = Codes.Form(
      group: integers.activationGroup(buffer.columns), bias: Int(llv_code_bias(Int32(integers.productBits))),
      offset: integers.productOffset)
    let value = buffer.storage as? Value
    if let codes = value?.codes.withLock({ $0[form] }) { return codes }
    let columns = buffer.columns
    let codes = try Codes(rows: buffer.rows, columns: columns, form)
    try forRows(buffer.rows) { range in
      for row in range {
        let part = codes.rows(from: row)
        llv_quantize_row(
          x[row], columns, form.group, Int32(form.bias), Int32(form.offset),
          UnsafeMutableRawPointer(mutating: part.codes).assumingMemoryBound(to: UInt8.self),
          UnsafeMutablePointer(mutating: part.scales), UnsafeMutablePointer(mutating: part.starts),
          UnsafeMutablePointer(mutating: part.sums))
      }
    }
    value?.codes.withLock { $0[form] = codes }
    return codes
  }
}
