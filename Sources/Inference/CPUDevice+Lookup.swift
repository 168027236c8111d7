import Bytes
import CKernels
import Tensors

/// Operations that pick rows or blend them.
extension CPUDevice {
  func embedding(_ inputs: [DeviceBuffer]) throws(Failure) -> DeviceBuffer {
    let table = inputs[0]
    let weight = try weight(table)
    let ids = try indices(inputs[1])
    let width = table.columns
    let features = inputs.count > 2 ? try value(inputs[2]) : nil
    let featureCount = inputs.count > 2 ? inputs[2].rows : 0
    if let bad = ids.first(where: { $0 < -featureCount || $0 >= table.rows }) {
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
            if ids[row] >= 0 {
              try weight.tensor.decodeRows(ids[row]..<ids[row] + 1, of: bytes, into: target)
            } else {
              features?.with(Float.self) {
                _ = target.update(fromContentsOf: $0[((-1 - ids[row]) * width)...].prefix(width))
              }
            }
          }
        }
      }
    }
    return result
  }

  func row(_ index: Int, of table: DeviceBuffer) throws(Failure) -> DeviceBuffer {
    let (result, buffer) = try make(1, table.columns)
    if let value = table.storage as? Value {
      value.buffer.with(Float.self) { from in buffer.with(Float.self) { _ = $0.update(fromContentsOf: from) } }
      return result
    }
    let weight = try weight(table)
    try weight.bytes.withBytes { (bytes) throws(Failure) in
      try buffer.with(Float.self) { (out) throws(Failure) in
        try weight.tensor.decodeRows(index..<index + 1, of: bytes, into: out)
      }
    }
    return result
  }

  func interpolate(_ inputs: [DeviceBuffer]) throws(Failure) -> DeviceBuffer {
    let (x, newline) = (try value(inputs[0]), try value(inputs[1]))
    let taps = try indices(inputs[2])
    let weights = try value(inputs[3])
    let (rows, width) = (inputs[0].rows, inputs[0].columns)
    let perFeature = inputs[2].columns
    if let bad = taps.first(where: { $0 < -1 || $0 >= rows }) {
      throw Failure(.internal, "feature blends row \(bad) of \(rows)")
    }
    let (result, buffer) = try make(inputs[2].rows, width)
    try x.withFloats { (x) throws(Failure) in
      try newline.withFloats { (newline) throws(Failure) in
        try weights.withFloats { (weights) throws(Failure) in
          try buffer.withFloats { (out) throws(Failure) in
            try forRows(inputs[2].rows, step: 256) { range in
              for row in range {
                let target = out + row * width
                for tap in 0..<perFeature {
                  let index = taps[row * perFeature + tap]
                  let source = index < 0 ? newline.base : x + index * width
                  let weight = (weights + row * perFeature)[tap]
                  if tap == 0 {
                    for column in 0..<width { target[column] = weight * source[column] }
                  } else if weight != 0 {
                    for column in 0..<width { target[column] += weight * source[column] }
                  }
                }
              }
            }
          }
        }
      }
    }
    return result
  }

  func pool(_ kind: Op.Pooling, _ x: DeviceBuffer, _ starts: DeviceBuffer) throws(Failure) -> DeviceBuffer {
    let starts = try indices(starts)
    if x.storage is Weight { return try poolIndices(kind, x, starts) }
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

  private func poolIndices(_ kind: Op.Pooling, _ x: DeviceBuffer, _ starts: [Int]) throws(Failure) -> DeviceBuffer {
    let source = try indices(x)
    let picked = zip(starts, starts.dropFirst()).map { Int32(source[kind == .first ? $0 : $1 - 1]) }
    let buffer = try Buffer(count: picked.count * 4)
    buffer.with(Int32.self) { _ = $0.update(fromContentsOf: picked) }
    return try upload(
      Tensor("indices", shape: [picked.count], encoding: .plain(.I32), content: .bytes(ByteView(buffer))))
  }
}
