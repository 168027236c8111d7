import Bytes
import CKernels
import Tensors

/// Operations that pick rows or blend them.
extension CPUDevice {
  func embedding(
    _ inputs: [DeviceBuffer], offset: Int, _ target: DeviceBuffer?
  ) throws(Failure) -> DeviceBuffer {
    let rows = inputs[0].rows
    let table = try table(inputs[0])
    let ids = try indices(inputs[1])
    let width = inputs[0].columns
    let features = inputs.count > 2 ? try values(inputs[2]) : nil
    let featureCount = inputs.count > 2 ? inputs[2].rows : 0
    if let bad = ids.first(where: { $0 < -featureCount || $0 >= rows - offset }) {
      throw Failure(
        .malformed, "index \(bad) has no row; the table has \(rows - offset)",
        thing: "tensor \(table.tensor.name.quoted)")
    }
    let (result, out) = try result(ids.count, width, target)
    try forRows(ids.count, step: 256) { (range) throws(Failure) in
      try table.bytes.withBytes { (bytes) throws(Failure) in
        for row in range {
          if ids[row] >= 0 {
            try table.tensor.decodeRows(
              ids[row] + offset..<ids[row] + offset + 1, of: bytes,
              into: UnsafeMutableBufferPointer(start: out[row], count: width))
          } else if let features {
            out[row].update(from: features[-1 - ids[row]], count: width)
          }
        }
      }
    }
    return result
  }

  func row(_ index: Int, of buffer: DeviceBuffer) throws(Failure) -> DeviceBuffer {
    let (result, out) = try result(1, buffer.columns, nil)
    if buffer.storage is Value {
      out[0].update(from: try values(buffer)[index], count: buffer.columns)
      return result
    }
    let table = try table(buffer)
    try table.bytes.withBytes { (bytes) throws(Failure) in
      try table.tensor.decodeRows(
        index..<index + 1, of: bytes, into: UnsafeMutableBufferPointer(start: out[0], count: buffer.columns))
    }
    return result
  }

  func interpolate(_ inputs: [DeviceBuffer]) throws(Failure) -> DeviceBuffer {
    let (x, newline) = (try values(inputs[0]), try values(inputs[1]))
    let taps = try indices(inputs[2])
    let weights = try values(inputs[3])
    let (rows, width) = (inputs[0].rows, inputs[0].columns)
    let perFeature = inputs[2].columns
    if let bad = taps.first(where: { $0 < -1 || $0 >= rows }) {
      throw Failure(.internal, "feature blends row \(bad) of \(rows)")
    }
    let (result, out) = try result(inputs[2].rows, width, nil)
    try forRows(inputs[2].rows, step: 256) { range in
      for row in range {
        let target = out[row]
        for tap in 0..<perFeature {
          let index = taps[row * perFeature + tap]
          let source = index < 0 ? newline.base : x[index]
          let weight = weights[row][tap]
          if tap == 0 {
            for column in 0..<width { target[column] = weight * source[column] }
          } else if weight != 0 {
            for column in 0..<width { target[column] += weight * source[column] }
          }
        }
      }
    }
    return result
  }

  func pool(_ kind: Op.Pooling, _ x: DeviceBuffer, _ starts: DeviceBuffer) throws(Failure) -> DeviceBuffer {
    let starts = try indices(starts)
    if x.storage is Table { return try poolIndices(kind, x, starts) }
    let from = try values(x)
    let width = x.columns
    let (result, to) = try result(starts.count - 1, width, nil)
    try forRows(starts.count - 1, step: 16) { range in
      for sequence in range {
        let rows = starts[sequence]..<starts[sequence + 1]
        let out = to[sequence]
        switch kind {
        case .first: out.update(from: from[rows.lowerBound], count: width)
        case .last: out.update(from: from[rows.upperBound - 1], count: width)
        case .max:
          out.update(from: from[rows.lowerBound], count: width)
          for row in rows.dropFirst() {
            let p = from[row]
            // What is not a number stays that.
            for column in 0..<width where p[column] > out[column] || p[column].isNaN { out[column] = p[column] }
          }
        case .mean, .weightedMean, .rootMean:
          var sums = [Double](repeating: 0, count: width)
          for (place, row) in rows.enumerated() {
            let p = from[row]
            let weight = kind == .weightedMean ? Double(place + 1) : 1
            for column in 0..<width { sums[column] += Double(p[column]) * weight }
          }
          let divisor = kind.divisor(rows.count)
          for column in 0..<width { out[column] = Float(sums[column] / divisor) }
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

extension Op.Pooling {
  /// What the (weighted) sum of so many rows is divided by.
  package func divisor(_ count: Int) -> Double {
    switch self {
    case .mean: Double(count)
    case .weightedMean: Double(count) * Double(count + 1) / 2
    case .rootMean: Double(count).squareRoot()
    case .first, .last, .max: 1
    }
  }
}
