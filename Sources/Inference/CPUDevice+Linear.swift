import Bytes
import CKernels
import Tensors

/// `x Wᵀ + b`. Work is cut into blocks of outputs and spans of rows; weights are decoded block by block and never as a
/// whole.
extension CPUDevice {
  /// Rows that a panel of weights, unpacked once, is multiplied with.
  private static let rowsPerPanel = 1_024

  func linear(_ input: Op.LinearInput, _ inputs: [DeviceBuffer]) throws(Failure) -> DeviceBuffer {
    let weight = try weight(inputs[1])
    let bias = inputs.count > 2 ? try value(inputs[2]) : nil
    let x = try value(inputs[0])
    let (rows, columns, outputs) = (inputs[0].rows, inputs[0].columns, inputs[1].rows)
    let (result, buffer) = try make(rows, outputs)
    let problem = Problem(rows: rows, columns: columns, outputs: outputs, weight: weight, bias: bias)
    try x.withFloats { (x) throws(Failure) in
      try buffer.withFloats { (y) throws(Failure) in
        if input == .int8, let integers = Integers(weight.tensor) {
          try integerProduct(problem, integers, x, y)
        } else {
          try floatProduct(problem, x, y)
        }
      }
    }
    return result
  }

  private struct Problem: Sendable {
    let rows, columns, outputs: Int
    let weight: Weight
    let bias: Buffer?

    /// The bias of a block of outputs, nil when there is none.
    func bias(_ block: Range<Int>) -> UnsafePointer<Float>? {
      bias?.with(Float.self) { $0.baseAddress.map { UnsafePointer($0 + block.lowerBound) } } ?? nil
    }
  }

  /// Calls `body` for every block of outputs and span of rows, in parallel.
  private func forBlocks(
    _ problem: Problem, outputs: Int, rows: Int,
    _ body: @Sendable (_ outputs: Range<Int>, _ rows: Range<Int>) throws(Failure) -> Void
  ) throws(Failure) {
    let blocks = Checked.ceilDivide(problem.outputs, outputs)
    try parallel(blocks * Checked.ceilDivide(problem.rows, rows), threads: threads) { (task) throws(Failure) in
      let (block, span) = (task % blocks, task / blocks)
      try body(
        block * outputs..<min(problem.outputs, (block + 1) * outputs),
        span * rows..<min(problem.rows, (span + 1) * rows))
    }
  }

  // MARK: Float32

  private func floatProduct(_ problem: Problem, _ x: FloatPointer, _ y: FloatPointer) throws(Failure) {
    let (columns, width, tensor) = (problem.columns, Int(LLV_PANEL), problem.weight.tensor)
    let isFloat = tensor.encoding == .plain(.F32)
    try forBlocks(problem, outputs: width, rows: CPUDevice.rowsPerPanel) { (block, span) throws(Failure) in
      let decoded = try Buffer(count: isFloat ? 0 : block.count * columns * 4)
      let panel = try Buffer(count: columns * width * 4)  // [columns, width]
      try problem.weight.bytes.withBytes { (bytes) throws(Failure) in
        try decoded.with(Float.self) { (decoded) throws(Failure) in
          var w = bytes.baseAddress.map { ($0 + block.lowerBound * columns * 4).assumingMemoryBound(to: Float.self) }
          if !isFloat {
            try tensor.decodeRows(block, of: bytes, into: decoded)
            w = UnsafePointer(decoded.baseAddress)
          }
          try panel.withFloats { panel in
            llv_pack_panel_f32(w, block.count, columns, panel.base)
            llv_gemm_f32(
              x + span.lowerBound * columns, span.count, columns, panel.base, problem.bias(block), block.count,
              y + (span.lowerBound * problem.outputs + block.lowerBound), problem.outputs)
          }
        }
      }
    }
  }

  // MARK: Integers

  /// Activations as 8-bit codes: codes `[rows, places]` in 16 bits each, scales and scaled sums `[rows, groups]`.
  private final class Codes: Sendable {
    let codes, scales, sums: Buffer

    init(rows: Int, places: Int, groups: Int) throws(Failure) {
      codes = try Buffer(count: rows * places * 2)
      scales = try Buffer(count: rows * groups * 4)
      sums = try Buffer(count: rows * groups * 4)
    }
  }

  /// A weight of grouped integers, and how its rows lie in the kernel: codes in pairs, groups of an odd length filled up.
  private struct Integers: Sendable {
    let encoding: GroupedInteger
    let layout: GroupedInteger.Layout
    let places: Int

    init?(_ tensor: Tensor) {
      guard case .grouped(let encoding) = tensor.encoding, let layout = encoding.layout(tensor.shape) else {
        return nil
      }
      self.encoding = encoding
      self.layout = layout
      let (size, last) = (encoding.groupSize, layout.columns - (layout.groups - 1) * encoding.groupSize)
      places = (layout.groups - 1) * (size + size % 2) + last + last % 2
    }
  }

  private func quantize(_ problem: Problem, _ integers: Integers, _ x: FloatPointer) throws(Failure) -> Codes {
    let (columns, groups, places) = (problem.columns, integers.layout.groups, integers.places)
    let codes = try Codes(rows: problem.rows, places: places, groups: groups)
    try codes.scales.withFloats { (scales) throws(Failure) in
      try codes.sums.withFloats { (sums) throws(Failure) in
        try forRows(problem.rows) { range in
          codes.codes.with(Int16.self) { all in
            guard let base = all.baseAddress else { return }
            for row in range {
              llv_quantize_row(
                x + row * columns, columns, integers.encoding.groupSize, base + row * places, scales + row * groups,
                sums + row * groups)
            }
          }
        }
      }
    }
    return codes
  }

  private func integerProduct(
    _ problem: Problem, _ integers: Integers, _ x: FloatPointer, _ y: FloatPointer
  ) throws(Failure) {
    let (encoding, layout, places) = (integers.encoding, integers.layout, integers.places)
    let (columns, groups, width) = (problem.columns, layout.groups, Int(LLV_PANEL))
    let activations = try quantize(problem, integers, x)
    try forBlocks(problem, outputs: width, rows: CPUDevice.rowsPerPanel) { (block, span) throws(Failure) in
      let panel = try Buffer(count: places * width * 2)  // [places / 2, width, 2]
      let scales = try Buffer(count: groups * width * 4)  // [groups, width]
      let zeros = try Buffer(count: encoding.isAffine ? groups * width * 4 : 0)
      problem.weight.bytes.withBytes { bytes in
        guard let base = bytes.baseAddress else { return }
        panel.with(Int16.self) { panel in
          llv_pack_panel(
            base + block.lowerBound * layout.rowBytes, layout.rowBytes, block.count, columns, encoding.groupSize,
            Int32(encoding.bits), encoding.isAffine ? 1 : 0, panel.baseAddress)
        }
        let offset = block.lowerBound * groups * encoding.scaleType.bits / 8
        encoding.decodeScales(base + layout.scalesAt + offset, of: block.count, groups, across: width, into: scales)
        if encoding.isAffine {
          encoding.decodeScales(base + layout.zerosAt + offset, of: block.count, groups, across: width, into: zeros)
        }
      }
      activations.codes.with(Int16.self) { x in
        activations.scales.with(Float.self) { xs in
          activations.sums.with(Float.self) { sums in
            panel.with(Int16.self) { panel in
              scales.with(Float.self) { scales in
                zeros.with(Float.self) { zeros in
                  let first = span.lowerBound
                  llv_gemm_int8(
                    x.baseAddress.map { $0 + first * places }, places, xs.baseAddress.map { $0 + first * groups },
                    sums.baseAddress.map { $0 + first * groups }, span.count, panel.baseAddress, scales.baseAddress,
                    encoding.isAffine ? zeros.baseAddress : nil, problem.bias(block), block.count, columns,
                    encoding.groupSize,
                    y + (first * problem.outputs + block.lowerBound), problem.outputs)
                }
              }
            }
          }
        }
      }
    }
  }
}

extension GroupedInteger {
  /// Scales (or zeros) of some rows, `[rows, groups]`, to Float32 `[groups, width]`; zeros after the rows.
  fileprivate func decodeScales(
    _ source: UnsafeRawPointer, of rows: Int, _ groups: Int, across width: Int, into target: Buffer
  ) {
    target.clear()
    target.with(Float.self) { target in
      withUnsafeTemporaryAllocation(of: Float.self, capacity: groups) { row in
        for output in 0..<rows {
          decodeScales(source + output * groups * scaleType.bits / 8, into: row)
          for group in 0..<groups { target[group * width + output] = row[group] }
        }
      }
    }
  }
}
