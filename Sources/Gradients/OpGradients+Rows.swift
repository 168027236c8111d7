import Bytes
import Glibc
import Inference
import Tensors

/// Operations that pick, blend or join rows.
extension OpGradients {
  func embedding(
    _ offset: Int, _ inputs: Inputs, _ upstream: Floats, _ wanted: [Bool], _ results: inout [Floats?]
  ) throws(Failure) {
    let ids = try device.indices(inputs[1])
    if wanted[0] {
      results[0] = try scattered(upstream, to: ids.map { $0 < 0 ? -1 : $0 + offset }, rows: inputs.x.rows)
    }
    if inputs.count > 2, wanted[2] {
      results[2] = try scattered(upstream, to: ids.map { -1 - $0 }, rows: inputs[2].rows)
    }
  }

  /// Rows added up in the places that they came from; those of negative places are left out.
  func scattered(_ upstream: Floats, to places: [Int], rows: Int) throws(Failure) -> Floats {
    let result = try Floats.zeros(rows, upstream.columns)
    for (row, place) in places.enumerated() where place >= 0 { add(upstream[row], to: result[place], upstream.columns) }
    return result
  }

  private func add(
    _ from: UnsafePointer<Float>, times factor: Float = 1, to target: UnsafeMutablePointer<Float>, _ count: Int
  ) {
    for column in 0..<count { target[column] += factor * from[column] }
  }

  func interpolate(
    _ inputs: Inputs, _ upstream: Floats, _ wanted: [Bool], _ results: inout [Floats?]
  ) throws(Failure) {
    let (places, weights) = (try device.indices(inputs[2]), try device.values(inputs[3]))
    let (taps, columns) = (inputs[2].columns, upstream.columns)
    let (toX, toRow) = (try Floats.zeros(inputs.x.rows, columns), try Floats.zeros(1, columns))
    for row in 0..<upstream.rows {
      for tap in 0..<taps {
        let place = places[row * taps + tap]
        add(upstream[row], times: weights[row][tap], to: place < 0 ? toRow[0] : toX[place], columns)
      }
    }
    if wanted[0] { results[0] = toX }
    if wanted[1] { results[1] = toRow }
  }

  // MARK: Pooling

  func pool(_ kind: Op.Pooling, _ inputs: Inputs, _ upstream: Floats) throws(Failure) -> Floats {
    let (starts, x, columns) = (try device.indices(inputs[1]), try device.values(inputs.x), upstream.columns)
    let result = try Floats.zeros(inputs.x.rows, columns)
    for (sequence, (start, end)) in zip(starts, starts.dropFirst()).enumerated() where end > start {
      let (dy, count) = (upstream[sequence], Float(end - start))
      switch kind {
      case .first: add(dy, to: result[start], columns)
      case .last: add(dy, to: result[end - 1], columns)
      case .mean: for row in start..<end { add(dy, times: 1 / count, to: result[row], columns) }
      case .rootMean: for row in start..<end { add(dy, times: 1 / count.squareRoot(), to: result[row], columns) }
      case .weightedMean:
        for row in start..<end {
          add(dy, times: Float(row - start + 1) / (count * (count + 1) / 2), to: result[row], columns)
        }
      case .max:
        for column in 0..<columns {
          var most = start
          for row in start + 1..<max(end, start + 1) where x[row][column] > x[most][column] { most = row }
          result[most][column] += dy[column]
        }
      }
    }
    return result
  }

  // MARK: Experts

  /// Through the softmax of all scores; that one expert is chosen and not another has no slope.
  func route(_ top: Int, _ scores: DeviceBuffer, _ upstream: Floats) throws(Failure) -> Floats {
    let (values, experts) = (try device.values(scores), upstream.columns)
    let shares = try device.run(.route(top: top), [scores])
    let chosen = try device.values(shares)
    let result = try mapped(upstream) { row, dy, dx in
      let most = (0..<experts).reduce(-Double.infinity) { max($0, Double(values[row][$1])) }
      let exponentials = (0..<experts).map { Glibc.exp(Double(values[row][$0]) - most) }
      let sum = exponentials.reduce(0, +)
      var mean = 0.0
      for expert in 0..<experts where chosen[row][expert] != 0 {
        mean += Double(dy[expert]) * exponentials[expert] / sum
      }
      for expert in 0..<experts {
        let slope = chosen[row][expert] != 0 ? Double(dy[expert]) : 0
        dx[expert] = Float(exponentials[expert] / sum * (slope - mean))
      }
    }
    withExtendedLifetime(shares) {}
    return result
  }

  func routed(_ expert: Int, _ inputs: Inputs, _ upstream: Floats) throws(Failure) -> Floats {
    let shares = try device.values(inputs[1])
    let result = try Floats.zeros(inputs.x.rows, upstream.columns)
    var next = 0
    for row in 0..<inputs.x.rows where shares[row][expert] != 0 {
      result[row].update(from: upstream[next], count: upstream.columns)
      next += 1
    }
    return result
  }

  func mix(
    _ inputs: Inputs, _ upstream: Floats, _ wanted: [Bool], _ results: inout [Floats?]
  ) throws(Failure) {
    let (shares, experts, columns) = (try device.values(inputs.x), inputs.x.columns, upstream.columns)
    let toShares = try Floats.zeros(inputs.x.rows, experts)
    for expert in 0..<experts {
      let own = inputs[1 + expert]
      let (made, toMade) = (try device.values(own), try Floats(own.rows, columns))
      var next = 0
      for row in 0..<inputs.x.rows where shares[row][expert] != 0 {
        let dy = upstream[row]
        var dot = 0.0
        for column in 0..<columns {
          dot += Double(dy[column]) * Double(made[next][column])
          toMade[next][column] = shares[row][expert] * dy[column]
        }
        toShares[row][expert] = Float(dot)
        next += 1
      }
      if wanted[1 + expert] { results[1 + expert] = toMade }
    }
    if wanted[0] { results[0] = toShares }
  }
}
