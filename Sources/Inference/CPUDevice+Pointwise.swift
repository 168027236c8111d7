import Bytes
import CKernels
import Tensors

/// Operations that make each row from the same row of their inputs.
extension CPUDevice {
  /// A value like `a`, element by element with `b`; a `b` of one row goes with every row.
  func combine(
    _ a: DeviceBuffer, _ b: DeviceBuffer, _ target: DeviceBuffer?, _ combined: @Sendable (Float, Float) -> Float
  ) throws(Failure) -> DeviceBuffer {
    let other = try values(b)
    let step = b.rows == 1 ? 0 : other.stride
    return try mapRows(a, target) { x, width, y, row in
      let other = other.base + row * step
      for column in 0..<width { y[column] = combined(x[column], other[column]) }
    }
  }

  func rescale(_ x: DeviceBuffer, _ rescale: Op.Rescale, _ target: DeviceBuffer?) throws(Failure) -> DeviceBuffer {
    try mapRows(x, target) { x, width, y, _ in
      let count = width / rescale.mean.count
      for channel in rescale.mean.indices {
        let (mean, deviation) = (Float(rescale.mean[channel]), Float(rescale.deviation[channel]))
        for column in channel * count..<(channel + 1) * count {
          y[column] = (Float(Double(x[column]) * rescale.factor) - mean) / deviation
        }
      }
    }
  }

  func norm(
    _ kind: Op.Norm, _ epsilon: Double, heads: Int, _ inputs: [DeviceBuffer], _ target: DeviceBuffer?
  ) throws(Failure) -> DeviceBuffer {
    let gain = inputs.count > 1 ? try values(inputs[1]) : nil
    let bias = inputs.count > 2 ? try values(inputs[2]) : nil
    let columns = inputs[0].columns / heads
    guard kind == .rmsPlusOne, let gain else {
      return try normRows(inputs[0], kind, epsilon, columns, gain?.base, bias?.base, target)
    }
    let more = try Buffer(count: columns * 4)
    for column in 0..<columns { more.floats[column] = 1 + gain.base[column] }
    defer { withExtendedLifetime(more) {} }
    return try normRows(inputs[0], .rms, epsilon, columns, more.floats, bias?.base, target)
  }

  private func normRows(
    _ x: DeviceBuffer, _ kind: Op.Norm, _ epsilon: Double, _ columns: Int, _ gain: UnsafeMutablePointer<Float>?,
    _ bias: UnsafeMutablePointer<Float>?, _ target: DeviceBuffer?
  ) throws(Failure) -> DeviceBuffer {
    let (gain, bias) = (gain.map { Rows(base: $0, stride: 0) }, bias.map { Rows(base: $0, stride: 0) })
    return try mapRows(x, target) { x, width, y, _ in
      for head in stride(from: 0, to: width, by: columns) {
        llv_norm_row(x + head, columns, kind == .layer ? 1 : 0, epsilon, gain?.base, bias?.base, y + head)
      }
    }
  }

  /// Columns side by side.
  func concatenate(_ inputs: [DeviceBuffer], _ target: DeviceBuffer?) throws(Failure) -> DeviceBuffer {
    let rows = inputs[0].rows
    let (result, to) = try result(rows, inputs.reduce(0) { $0 + $1.columns }, target)
    var place = 0
    for input in inputs {
      let (from, first, count) = (try values(input), place, input.columns)
      try forRows(rows, step: 256) { range in
        for row in range { (to[row] + first).update(from: from[row], count: count) }
      }
      place += count
    }
    return result
  }

  func activation(_ kind: Op.Activation, _ x: DeviceBuffer, _ target: DeviceBuffer?) throws(Failure) -> DeviceBuffer {
    try mapRows(x, target) { x, width, y, _ in
      y.update(from: x, count: width)
      llv_activate(kind.kernel, y, width)
    }
  }

  func normalize(_ x: DeviceBuffer, _ target: DeviceBuffer?) throws(Failure) -> DeviceBuffer {
    try mapRows(x, target) { x, width, y, _ in llv_normalize_row(x, width, y) }
  }

  /// Columns of a value: the same memory, unless they are wanted elsewhere.
  func slice(
    _ x: DeviceBuffer, _ offset: Int, _ count: Int, _ target: DeviceBuffer?
  ) throws(Failure) -> DeviceBuffer {
    let from = try values(x)
    guard target != nil else {
      guard let value = x.storage as? Value else { throw Failure(.internal, "columns of a weight") }
      let part = Value(value.buffer, first: value.first + offset, stride: value.stride)
      return DeviceBuffer(rows: x.rows, columns: count, storage: part)
    }
    let (result, to) = try result(x.rows, count, target)
    try forRows(x.rows, step: 256) { range in
      for row in range { to[row].update(from: from[row] + offset, count: count) }
    }
    return result
  }

  /// A value of the same shape, each row computed from that row alone.
  private func mapRows(
    _ x: DeviceBuffer, _ target: DeviceBuffer?,
    _ body:
      @Sendable (_ x: UnsafeMutablePointer<Float>, _ width: Int, _ y: UnsafeMutablePointer<Float>, _ row: Int) -> Void
  ) throws(Failure) -> DeviceBuffer {
    let from = try values(x)
    let (result, to) = try result(x.rows, x.columns, target)
    let width = x.columns
    try forRows(x.rows) { range in for row in range { body(from[row], width, to[row], row) } }
    return result
  }
}

extension Op.Activation {
  /// The number that the kernels have for it.
  package var kernel: Int32 {
    switch self {
    case .gelu: Int32(LLV_GELU)
    case .geluTanh: Int32(LLV_GELU_TANH)
    case .silu: Int32(LLV_SILU)
    case .relu: Int32(LLV_RELU)
    case .tanh: Int32(LLV_TANH)
    }
  }
}
