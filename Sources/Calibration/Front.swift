/// Choices measured in two ways, more being better in both: the Pareto front of speed and fidelity.
public enum Front {
  public struct Point: Sendable, Equatable {
    public var speed, fidelity: Double

    public init(speed: Double, fidelity: Double) { (self.speed, self.fidelity) = (speed, fidelity) }

    fileprivate var isFinite: Bool { speed.isFinite && fidelity.isFinite }

    /// Whether nothing about the other is better, and something worse.
    fileprivate func beats(_ other: Point) -> Bool {
      speed >= other.speed && fidelity >= other.fidelity && self != other
    }
  }

  /// Places of those that no other beats, in order. What is not a number is on no front.
  public static func places(of points: [Point]) -> [Int] {
    points.indices.filter { place in
      points[place].isFinite && !points.contains { $0.isFinite && $0.beats(points[place]) }
    }
  }

  /// Place of the most faithful of at least this speed, the fastest of equals: one of the front. nil when none is fast
  /// enough.
  public static func best(of points: [Point], speed: Double) -> Int? {
    places(of: points).filter { points[$0].speed >= speed }.max {
      (points[$0].fidelity, points[$0].speed) < (points[$1].fidelity, points[$1].speed)
    }
  }
}
