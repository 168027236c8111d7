import Bytes
import CKernels
import Tensors

extension CPUDevice {
  func add(_ a: DeviceBuffer, _ b: DeviceBuffer) throws(Failure) -> DeviceBuffer {
    try combine(a, b) { x, y, width, out in for column in 0..<width { out[column] = x[column] + y[column] } }
  }

  func multiply(_ a: DeviceBuffer, _ b: DeviceBuffer) throws(Failure) -> DeviceBuffer {
    try combine(a, b) { x, y, width, out in for column in 0..<width { out[column] = x[column] * y[column] } }
  }

  /// A value like `a`, each row made of the same row of both; a `b` of one row goes with every row.
  private func combine(
    _ a: DeviceBuffer, _ b: DeviceBuffer,
    _ body:
      @Sendable (
        _ x: UnsafeMutablePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ width: Int,
        _ out: UnsafeMutablePointer<Float>
      ) -> Void
  ) throws(Failure) -> DeviceBuffer {
    let (first, second) = (try value(a), try value(b))
    let (result, buffer) = try make(a.rows, a.columns)
    let width = a.columns
    let step = b.rows == 1 ? 0 : width
    try first.withFloats { (x) throws(Failure) in
      try second.withFloats { (y) throws(Failure) in
        try buffer.withFloats { (out) throws(Failure) in
          try forRows(a.rows, step: 256) { range in
            for row in range { body(x + row * width, y + row * step, width, out + row * width) }
          }
        }
      }
    }
    return result
  }

  func rescale(_ x: DeviceBuffer, _ rescale: Op.Rescale) throws(Failure) -> DeviceBuffer {
    try mapRows(x) { x, width, y in
      let count = width / rescale.mean.count
      for column in 0..<width {
        let channel = column / count
        let scaled = Float(Double(x[column]) * rescale.factor)
        y[column] = (scaled - Float(rescale.mean[channel])) / Float(rescale.deviation[channel])
      }
    }
  }

  func norm(_ kind: Op.Norm, _ epsilon: Double, _ inputs: [DeviceBuffer]) throws(Failure) -> DeviceBuffer {
    let gain = inputs.count > 1 ? try value(inputs[1]) : nil
    let bias = inputs.count > 2 ? try value(inputs[2]) : nil
    return try mapRows(inputs[0]) { x, width, y in
      let apply = { (gain: UnsafePointer<Float>?, bias: UnsafePointer<Float>?) in
        llv_norm_row(x, width, kind == .layer ? 1 : 0, epsilon, gain, bias, y)
      }
      guard let gain else { return apply(nil, nil) }
      gain.with(Float.self) { gain in
        guard let bias else { return apply(gain.baseAddress, nil) }
        bias.with(Float.self) { apply(gain.baseAddress, $0.baseAddress) }
      }
    }
  }

  func activation(_ kind: Op.Activation, _ x: DeviceBuffer) throws(Failure) -> DeviceBuffer {
    try mapRows(x) { x, width, y in
      y.update(from: x, count: width)
      switch kind {
      case .gelu: llv_gelu(y, width)
      case .geluTanh: llv_gelu_tanh(y, width)
      case .silu: llv_silu(y, width)
      case .tanh: llv_tanh(y, width)
      case .relu: for column in 0..<width where y[column] < 0 { y[column] = 0 }
      }
    }
  }

  func normalize(_ x: DeviceBuffer) throws(Failure) -> DeviceBuffer {
    try mapRows(x) { x, width, y in llv_normalize_row(x, width, y) }
  }

  func slice(_ x: DeviceBuffer, _ offset: Int, _ count: Int) throws(Failure) -> DeviceBuffer {
    let source = try value(x)
    let (result, buffer) = try make(x.rows, count)
    let width = x.columns
    try source.withFloats { (from) throws(Failure) in
      try buffer.withFloats { (to) throws(Failure) in
        try forRows(x.rows, step: 256) { range in
          for row in range { (to + row * count).update(from: from + (row * width + offset), count: count) }
        }
      }
    }
    return result
  }

  /// A value of the same shape, each row computed from that row alone.
  private func mapRows(
    _ x: DeviceBuffer,
    _ body: @Sendable (_ x: UnsafeMutablePointer<Float>, _ width: Int, _ y: UnsafeMutablePointer<Float>) -> Void
  ) throws(Failure) -> DeviceBuffer {
    let source = try value(x)
    let (result, buffer) = try make(x.rows, x.columns)
    let width = x.columns
    try source.withFloats { (from) throws(Failure) in
      try buffer.withFloats { (to) throws(Failure) in
        try forRows(x.rows) { range in
          for row in range { body(from + row * width, width, to + row * width) }
        }
      }
    }
    return result
  }
}
