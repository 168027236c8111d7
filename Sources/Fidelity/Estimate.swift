import Glibc

/// A mean with its 95 % interval.
public struct Estimate: Sendable {
  public let value, low, high: Double
  /// Values there were.
  public let count: Int

  private static let resamples = 1_000
  /// From this many values on the bootstrap's interval is that of the normal distribution.
  private static let many = 20_000

  /// The percentile bootstrap over the values (Efron 1979): 1,000 samples of as many, drawn with replacement by a
  /// generator that always starts alike. NaN when there are no values.
  public init(mean values: [Double]) {
    count = values.count
    let n = Double(values.count)
    guard !values.isEmpty else {
      (value, low, high) = (.nan, .nan, .nan)
      return
    }
    let mean = values.reduce(0, +) / n
    value = mean
    guard values.count < Estimate.many else {
      let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / (n - 1)
      let reach = 1.959964 * (variance / n).squareRoot()
      (low, high) = (mean - reach, mean + reach)
      return
    }
    var generator = SplitMix64(state: 1)
    var means: [Double] = []
    values.withUnsafeBufferPointer { values in
      for _ in 0..<Estimate.resamples {
        var sum = 0.0
        for _ in values { sum += values[generator.below(values.count)] }
        means.append(sum / n)
      }
    }
    means.sort()
    low = means[Estimate.resamples * 25 / 1_000]
    high = means[Estimate.resamples * 975 / 1_000 - 1]
  }
}

extension Estimate {
  /// The mean of paired differences of yes and no, each -1, 0 or 1, with the interval of Agresti and Min 2005: of two
  /// more observations, half a one in each cell, so that few queries without a change are not taken for proof.
  public init(differences: [Double]) {
    let n = Double(differences.count)
    let (ups, downs) = (Double(differences.count { $0 > 0 }), Double(differences.count { $0 < 0 }))
    let center = (ups - downs) / (n + 2)
    let reach = 1.959964 * max(0, (ups + downs + 1) / (n + 2) - center * center).squareRoot() / (n + 2).squareRoot()
    self.init(
      value: n > 0 ? (ups - downs) / n : .nan, low: max(-1, center - reach), high: min(1, center + reach),
      count: differences.count)
  }

  /// The ratio of two sums over the same queries, as the bootstrap over queries has it; nil where the second is not
  /// above zero.
  public init?(ratio parts: [Double], to wholes: [Double]) {
    let (part, whole) = (parts.reduce(0, +), wholes.reduce(0, +))
    guard whole > 0 else { return nil }
    var generator = SplitMix64(state: 1)
    var ratios: [Double] = []
    for _ in 0..<Estimate.resamples {
      var (a, b) = (0.0, 0.0)
      for _ in parts.indices {
        let place = generator.below(parts.count)
        a += parts[place]
        b += wholes[place]
      }
      if b > 0 { ratios.append(a / b) }
    }
    guard !ratios.isEmpty else { return nil }
    ratios.sort()
    self.init(
      value: part / whole, low: ratios[ratios.count * 25 / 1_000], high: ratios[max(1, ratios.count * 975 / 1_000) - 1],
      count: parts.count)
  }

  private init(value: Double, low: Double, high: Double, count: Int) {
    (self.value, self.low, self.high, self.count) = (value, low, high, count)
  }
}

/// Steele, Lea and Flood 2014: numbers that look random and are always the same.
struct SplitMix64: Sendable {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  mutating func below(_ count: Int) -> Int { Int(next().multipliedFullWidth(by: UInt64(count)).high) }
  /// 0 ..< 1.
  mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }
}
