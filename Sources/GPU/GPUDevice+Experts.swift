import Bytes
import Inference
import Tensors

/// Rows that go to some experts each, and come back. Which ones decides the processor, for how many they are is what
/// everything after has to know: a look at the scores of each layer with experts.
extension GPUDevice {
  func route(_ scores: DeviceBuffer, _ top: Int) throws(Failure) -> DeviceBuffer {
    let (rows, experts) = (scores.rows, scores.columns)
    let from = try download(scores)
    var shares = [Float](repeating: 0, count: rows * experts)
    from.withUnsafeBufferPointer { from in
      shares.withUnsafeMutableBufferPointer { to in
        guard let target = to.baseAddress else { return }
        for row in stride(from: 0, to: rows * experts, by: experts) {
          Experts.shares(UnsafeBufferPointer(rebasing: from[row..<row + experts]), top: top, target + row)
        }
      }
    }
    return try upload(floats: shares, columns: experts)
  }

  func routed(_ x: DeviceBuffer, _ shares: DeviceBuffer, _ expert: Int) throws(Failure) -> DeviceBuffer {
    let values = try download(shares)
    let chosen = (0..<x.rows).filter { values[$0 * shares.columns + expert] != 0 }.map { Int32($0) }
    let ones = [Float](repeating: 1, count: chosen.count)
    return try blended(try value(x).floats(), x.columns, chosen, ones, taps: 1)
  }

  /// What the experts made one below the other, and of it a few rows for each.
  func mix(_ inputs: [DeviceBuffer]) throws(Failure) -> DeviceBuffer {
    let (rows, experts, columns) = (inputs[0].rows, inputs[0].columns, inputs[1].columns)
    let shares = try download(inputs[0])
    let places = Experts.places(rows: rows, experts) { shares[$0 * experts + $1] }
    let all = Floats(
      memory: try engine.allocate(inputs.dropFirst().reduce(0) { $0 + $1.rows } * columns * 4), stride: columns)
    var firsts: [Int32] = []
    var first = 0
    for input in inputs.dropFirst() {
      firsts.append(Int32(first))
      try engine.launch(
        .rowsFloat, (input.rows, 1),
        try value(input).row().arguments(columns) + [.memory(all.memory, at: first * columns * 4), .int(columns)])
      first += input.rows
    }
    let chosen = (0..<rows).map { row in (0..<experts).filter { places[row * experts + $0] >= 0 } }
    let taps = max(chosen.map(\.count).max() ?? 0, 1)
    var (indices, weights) = ([Int32](), [Float]())
    for (row, experts) in chosen.enumerated() {
      indices += experts.map { firsts[$0] + places[row * firsts.count + $0] }
      weights += experts.map { shares[row * firsts.count + $0] }
      let rest = taps - experts.count
      indices += [Int32](repeating: -1, count: rest)
      weights += [Float](repeating: 0, count: rest)
    }
    return try blended(all, columns, indices, weights, taps: taps)
  }

  /// `Σ weights[i, j] · x[indices[i, j]]`; a row of zeros for index -1.
  private func blended(
    _ x: Floats, _ columns: Int, _ indices: [Int32], _ weights: [Float], taps: Int
  ) throws(Failure) -> DeviceBuffer {
    let rows = indices.count / taps
    let result = try engine.allocate(rows * columns * 4)
    if rows > 0 {
      let nothing = try engine.upload([Float](repeating: 0, count: columns))
      try engine.launch(
        .interpolate, (rows, 1),
        [
          x.argument, .int(x.stride), .memory(nothing), .memory(try engine.upload(indices)),
          .memory(try engine.upload(weights)), .int(taps), .int(columns), .memory(result),
        ])
    }
    return value(rows, columns, Floats(memory: result, stride: columns))
  }
}
