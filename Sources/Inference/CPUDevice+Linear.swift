import Bytes
import CKernels
import COpenBLAS
import Tensors

/// `x Wᵀ + b`. Work is cut into blocks of outputs and spans of rows; weights are decoded block by block and never as a
/// whole.
extension CPUDevice {
  private static let outputsPerBlock = 128
  private static let rowsPerSpan = 480

  func linear(_ input: Op.LinearInput, _ inputs: [DeviceBuffer]) throws(Failure) -> DeviceBuffer {
    let weight = try weight(inputs[1])
    let bias = inputs.count > 2 ? try value(inputs[2]) : nil
    let x = try value(inputs[0])
    let (rows, columns, outputs) = (inputs[0].rows, inputs[0].columns, inputs[1].rows)
    let (result, buffer) = try make(rows, outputs)
    let problem = Problem(rows: rows, columns: columns, outputs: outputs, weight: weight, bias: bias)
    try x.withFloats { (x) throws(Failure) in
      try buffer.withFloats { (y) throws(Failure) in
        if input == .int8, case .grouped(let integers) = weight.tensor.encoding {
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

    func addBias(_ y: UnsafeMutablePointer<Float>, _ block: Range<Int>) {
      bias?.with(Float.self) { bias in
        for (column, output) in block.enumerated() { y[column] += bias[output] }
      }
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
    let (tile, columns) = (SgemmTile.rows, problem.columns)
    let tensor = problem.weight.tensor
    try forBlocks(problem, outputs: CPUDevice.outputsPerBlock, rows: CPUDevice.rowsPerSpan) {
      (block, span) throws(Failure) in
      let decoded = try Buffer(count: tensor.encoding == .plain(.F32) ? 0 : block.count * columns * 4)
      let padded = try Buffer(count: tile * columns * 4)  // [tile, columns]: the last rows, then zeros
      let product = try Buffer(count: tile * block.count * 4)  // [tile, block]
      try problem.weight.bytes.withBytes { (bytes) throws(Failure) in
        try decoded.with(Float.self) { (decoded) throws(Failure) in
          var w = bytes.baseAddress.map { ($0 + block.lowerBound * columns * 4).assumingMemoryBound(to: Float.self) }
          if tensor.encoding != .plain(.F32) {
            try tensor.decodeRows(block, of: bytes, into: decoded)
            w = UnsafePointer(decoded.baseAddress)
          }
          try padded.withFloats { (padded) throws(Failure) in
            try product.withFloats { (product) throws(Failure) in
              for first in stride(from: span.lowerBound, to: span.upperBound, by: tile) {
                let count = min(tile, span.upperBound - first)
                var source = UnsafePointer(x + first * columns)
                if count < tile {
                  padded.base.update(from: source, count: count * columns)
                  (padded + count * columns).update(repeating: 0, count: (tile - count) * columns)
                  source = UnsafePointer(padded.base)
                }
                cblas_sgemm(
                  CblasRowMajor, CblasNoTrans, CblasTrans, Int32(tile), Int32(block.count), Int32(columns), 1, source,
                  Int32(columns), w, Int32(columns), 0, product.base, Int32(block.count))
                for row in 0..<count {
                  let target = y + ((first + row) * problem.outputs + block.lowerBound)
                  target.update(from: product + row * block.count, count: block.count)
                  problem.addBias(target, block)
                }
              }
            }
          }
        }
      }
    }
  }

  // MARK: Integers

  /// Activations as 8-bit codes: codes `[rows, columns]` in 16 bits each, scales and scaled sums `[rows, groups]`.
  private final class Codes: Sendable {
    let codes, scales, sums: Buffer

    init(rows: Int, columns: Int, groups: Int) throws(Failure) {
      codes = try Buffer(count: rows * columns * 2)
      scales = try Buffer(count: rows * groups * 4)
      sums = try Buffer(count: rows * groups * 4)
    }
  }

  private func quantize(_ problem: Problem, _ group: Int, _ groups: Int, _ x: FloatPointer) throws(Failure) -> Codes {
    let codes = try Codes(rows: problem.rows, columns: problem.columns, groups: groups)
    let columns = problem.columns
    try codes.scales.withFloats { (scales) throws(Failure) in
      try codes.sums.withFloats { (sums) throws(Failure) in
        try forRows(problem.rows) { range in
          codes.codes.with(Int16.self) { all in
            guard let base = all.baseAddress else { return }
            for row in range {
              llv_quantize_row(
                x + row * columns, columns, group, base + row * columns, scales + row * groups, sums + row * groups)
            }
          }
        }
      }
    }
    return codes
  }

  private func integerProduct(
    _ problem: Problem, _ integers: GroupedInteger, _ x: FloatPointer, _ y: FloatPointer
  ) throws(Failure) {
    guard let layout = integers.layout(problem.weight.tensor.shape) else {
      throw Failure(.internal, "a weight without layout")
    }
    let (columns, groups) = (problem.columns, layout.groups)
    let activations = try quantize(problem, integers.groupSize, groups, x)
    try forBlocks(problem, outputs: 16, rows: 256) { (block, span) throws(Failure) in
      let codes = try Buffer(count: block.count * columns * 2)  // [block, columns]
      let scales = try Buffer(count: block.count * groups * 4)  // [block, groups]
      let zeros = try Buffer(count: block.count * groups * 4)
      problem.weight.bytes.withBytes { bytes in
        guard let base = bytes.baseAddress else { return }
        codes.with(Int16.self) { codes in
          for (index, output) in block.enumerated() {
            llv_unpack_codes(
              base + output * layout.rowBytes, columns, Int32(integers.bits), integers.isAffine ? 1 : 0,
              codes.baseAddress.map { $0 + index * columns })
          }
        }
        let offset = block.lowerBound * groups * integers.scaleType.bits / 8
        scales.with(Float.self) { integers.decodeScales(base + layout.scalesAt + offset, into: $0) }
        if integers.isAffine {
          zeros.with(Float.self) { integers.decodeScales(base + layout.zerosAt + offset, into: $0) }
        }
      }
      activations.codes.with(Int16.self) { x in
        activations.scales.with(Float.self) { xs in
          activations.sums.with(Float.self) { sums in
            codes.with(Int16.self) { w in
              scales.with(Float.self) { ws in
                zeros.with(Float.self) { zeros in
                  let first = span.lowerBound
                  llv_gemm_int8(
                    x.baseAddress.map { $0 + first * columns }, xs.baseAddress.map { $0 + first * groups },
                    sums.baseAddress.map { $0 + first * groups }, span.count, w.baseAddress, ws.baseAddress,
                    integers.isAffine ? zeros.baseAddress : nil, block.count, columns, integers.groupSize,
                    y + (first * problem.outputs + block.lowerBound), problem.outputs)
                }
              }
            }
          }
        }
      }
      for row in span { problem.addBias(y + (row * problem.outputs + block.lowerBound), block) }
    }
  }
}
