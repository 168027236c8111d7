import Glibc

extension Op {
  /// The angles of a rotary position embedding: one frequency for each pair of columns of a head.
  public struct Rotation: Sendable, Hashable {
    public var theta: Double
    public var headWidth: Int
    public var scaling: Scaling?

    public init(theta: Double, headWidth: Int, scaling: Scaling? = nil) {
      (self.theta, self.headWidth, self.scaling) = (theta, headWidth, scaling)
    }

    /// How the frequencies `theta^(-2i / width)` are slowed down for inputs longer than those of the first training.
    public enum Scaling: Sendable, Hashable {
      /// All of them by one factor (Chen et al. 2023).
      case linear(factor: Double)
      /// Llama 3.1's: those by the factor whose waves are longer than `original / low` tokens, none of those shorter
      /// than `original / high`, and in between partly.
      case llama3(factor: Double, low: Double, high: Double, original: Int)
      /// YaRN (Peng et al. 2023): those by the factor that turn fewer than `slow` times within `original` tokens, none
      /// of those that turn more than `fast` times, and in between partly; cosines and sines are `magnitude` times as
      /// large.
      case yarn(factor: Double, slow: Double, fast: Double, original: Int, magnitude: Double, isTruncated: Bool)
    }

    /// What cosines and sines are multiplied with.
    public var magnitude: Float {
      if case .yarn(_, _, _, _, let magnitude, _) = scaling { Float(magnitude) } else { 1 }
    }

    /// Angle by position, for each of the `headWidth / 2` pairs. Every step is Float32, as the models were trained.
    public var frequencies: [Float] {
      let half = headWidth / 2
      let plain = (0..<half).map { 1 / powf(Float(theta), Float(2 * $0) / Float(headWidth)) }
      switch scaling {
      case nil: return plain
      case .linear(let factor): return plain.map { $0 / Float(factor) }
      case .llama3(let factor, let low, let high, let original):
        return plain.map { frequency in
          let wave = 2 * Float.pi / frequency
          if wave > Float(Double(original) / low) { return frequency / Float(factor) }
          if wave < Float(Double(original) / high) { return frequency }
          let share = (Float(original) / wave - Float(low)) / Float(high - low)
          return (1 - share) * frequency / Float(factor) + share * frequency
        }
      case .yarn(let factor, let slow, let fast, let original, _, let isTruncated):
        /// The pair that turns so many times within `original` tokens.
        func place(_ turns: Double) -> Double {
          Double(headWidth) * log(Double(original) / (turns * 2 * Double.pi)) / (2 * log(theta))
        }
        var (first, last) = (place(fast), place(slow))
        if isTruncated { (first, last) = (first.rounded(.down), last.rounded(.up)) }
        first = max(first, 0)
        last = min(last, Double(headWidth - 1))
        if first == last { last += 0.001 }
        return plain.indices.map { i in
          let slowed = min(max((Float(i) - Float(first)) / Float(last - first), 0), 1)
          let kept = 1 - slowed
          return 1 / (Float(factor) * (1 / plain[i])) * (1 - kept) + plain[i] * kept
        }
      }
    }
  }
}
