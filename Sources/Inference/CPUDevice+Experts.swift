import Bytes
import Glibc
import Tensors

/// Rows that go to some experts each, and come back.
extension CPUDevice {
  func route(_ scores: DeviceBuffer, _ top: Int, _ target: DeviceBuffer?) throws(Failure) -> DeviceBuffer {
    let from = try values(scores)
    let (result, to) = try result(scores.rows, scores.columns, target)
    let count = scores.columns
    try forRows(scores.rows) { range in
      for row in range {
        Experts.shares(UnsafeBufferPointer(start: from[row], count: count), top: top, to[row])
      }
    }
    return result
  }

  func routed(_ x: DeviceBuffer, _ shares: DeviceBuffer, _ expert: Int) throws(Failure) -> DeviceBuffer {
    let (from, shares) = (try values(x), try values(shares))
    let chosen = (0..<x.rows).filter { shares[$0][expert] != 0 }
    let (result, to) = try result(chosen.count, x.columns, nil)
    let width = x.columns
    try forRows(chosen.count, step: 256) { range in
      for row in range { to[row].update(from: from[chosen[row]], count: width) }
    }
    return result
  }

  func mix(_ inputs: [DeviceBuffer]) throws(Failure) -> DeviceBuffer {
    let (rows, experts, width) = (inputs[0].rows, inputs[0].columns, inputs[1].columns)
    let shares = try values(inputs[0])
    let places = Experts.places(rows: rows, experts) { shares[$0][$1] }
    var parts: [Rows] = []
    for input in inputs.dropFirst() { parts.append(try values(input)) }
    let from = parts
    let (result, to) = try result(rows, width, nil)
    try forRows(rows) { range in
      for row in range {
        let y = to[row]
        y.update(repeating: 0, count: width)
        for expert in 0..<experts where places[row * experts + expert] >= 0 {
          let (share, x) = (shares[row][expert], from[expert][Int(places[row * experts + expert])])
          for column in 0..<width { y[column] += share * x[column] }
        }
      }
    }
    return result
  }
}

/// What devices share of `route` and `mix`.
package enum Experts {
  /// Shares of a row's experts, `Op.route`: sums in double, each share rounded once.
  package static func shares(_ scores: UnsafeBufferPointer<Float>, top: Int, _ target: UnsafeMutablePointer<Float>) {
    let most = scores.max() ?? 0
    var sum = 0.0
    for score in scores { sum += exponential(score, most) }
    target.update(repeating: 0, count: scores.count)
    for _ in 0..<top {
      var best: Int?
      for (expert, score) in scores.enumerated() where target[expert] == 0 {
        if best.map({ score > scores[$0] }) ?? true { best = expert }
      }
      // A share too small for a Float chooses nobody, as one of 0 would be.
      if let best { target[best] = max(Float(exponential(scores[best], most) / sum), .leastNonzeroMagnitude) }
    }
  }

  private static func exponential(_ score: Float, _ most: Float) -> Double { Glibc.exp(Double(score) - Double(most)) }

  /// Of each row and expert, the row's place among those of the expert, -1 where it has none: `[rows, experts]`.
  package static func places(rows: Int, _ experts: Int, _ share: (_ row: Int, _ expert: Int) -> Float) -> [Int32] {
    var (result, next) = ([Int32](repeating: -1, count: rows * experts), [Int32](repeating: 0, count: experts))
    for row in 0..<rows {
      for expert in 0..<experts where share(row, expert) != 0 {
        result[row * experts + expert] = next[expert]
        next[expert] += 1
      }
    }
    return result
  }
}
