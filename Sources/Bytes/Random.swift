/// SplitMix64: the same numbers on every machine and in every run.
public struct Random: Sendable {
  private var state: UInt64

  public init(seed: UInt64) { state = seed }

  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// From 0 up to 1.
  public mutating func uniform() -> Float { Float(next() >> 40) / Float(1 << 24) }

  public mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }

  /// Roughly normal: twelve uniform numbers less six.
  public mutating func normal() -> Float { (0..<12).reduce(-6) { sum, _ in sum + uniform() } }
}
