import Bytes
import CKernels
import Tensors

extension CPUDevice {
  func embedding(_ table: DeviceBuffer, _ ids: DeviceBuffer) throws(Failure) -> DeviceBuffer {
    let weight = try weight(table)
    let ids = try indices(ids)
    let width = table.columns
    if let bad = ids.first(where: { $0 < 0 || $0 >= table.rows }) {
      throw Failure(
        .malformed, "index \(bad) has no row; the table has \(table.rows)", thing: "tensor \(weight.tensor.name.quoted)"
      )
    }
    let (result, buffer) = try make(ids.count, width)
    try buffer.withFloats { (out) throws(Failure) in
      try forRows(ids.count, step: 256) { (range) throws(Failure) in
        try weight.bytes.withBytes { (bytes) throws(Failure) in
          for row in range {
            let target = UnsafeMutableBufferPointer(start: out + row * width, count: width)
            try weight.tensor.decodeRows(ids[row]..<ids[row] + 1, of: bytes, into: target)
          }
        }
      }
    }
    return result
  }

  func row(_ index: Int, of table: DeviceBuffer) throws(Failure) -> DeviceBuffer {
    let weight = try weight(table)
    let (result, buffer) = try make(1, table.columns)
    try weight.bytes.withBytes { (bytes) throws(Failure) in
      try buffer.with(Float.self) { (out) throws(Failure) in
        try weight.tensor.decodeRows(index..<index + 1, of: bytes, into: out)
      }
    }
    return result
  }

  func add(_ a: DeviceBuffer, _ b: DeviceBuffer) throws(Failure) -> DeviceBuffer {
    let (first, second) = (try value(a), try value(b))
    let (result, buffer) = try make(a.rows, a.columns)
    let width = a.columns
    let step = b.rows == 1 ? 0 : width
    try first.withFloats { (x) throws(Failure) in
      try second.withFloats { (y) throws(Failure) in
        try buffer.withFloats { (out) throws(Failure) in
          try forRows(a.rows, step: 256) { range in
            for row in range {
              let (p, q, r) = (x + row * width, y + row * step, out + row * width)
              for column in 0..<width { r[column] = p[column] + q[column] }
            }
          }
        }
      }
    }
    return result
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

  func pool(_ kind: Op.Pooling, _ x: DeviceBuffer, _ starts: DeviceBuffer) throws(Failure) -> DeviceBuffer {
    let starts = try indices(starts)
    let source = try value(x)
    let width = x.columns
    let (result, buffer) = try make(starts.count - 1, width)
    try source.withFloats { (from) throws(Failure) in
      try buffer.withFloats { (to) throws(Failure) in
        try forRows(starts.count - 1, step: 16) { range in
          for sequence in range {
            let rows = starts[sequence]..<starts[sequence + 1]
            let out = to + sequence * width
            switch kind {
            case .first: out.update(from: from + rows.lowerBound * width, count: width)
            case .last: out.update(from: from + (rows.upperBound - 1) * width, count: width)
            case .mean:
              var sums = [Double](repeating: 0, count: width)
              for row in rows {
                let p = from + row * width
                for column in 0..<width { sums[column] += Double(p[column]) }
              }
              for column in 0..<width { out[column] = Float(sums[column] / Double(rows.count)) }
            }
          }
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
