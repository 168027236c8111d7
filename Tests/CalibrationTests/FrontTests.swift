import Bytes
import Calibration
import Tensors
import TestSupport
import Testing

struct FrontTests {
  private static func points(_ pairs: [(Double, Double)]) -> [Front.Point] {
    pairs.map { Front.Point(speed: $0.0, fidelity: $0.1) }
  }

  @Test("the front is what no other beats, and the choice is the most faithful of it that is fast enough")
  func theFrontIsWhatNoOtherBeats() {
    let points = FrontTests.points([
      (1, 1), (2, 0.9), (2, 0.95), (3, 0.5), (3, 0.5), (2.5, 0.4), (0.9, 1), (4, .nan), (.infinity, 0.1),
    ])
    #expect(Front.places(of: points) == [0, 2, 3, 4])
    for (speed, place) in [(0.5, 0), (1, 0), (1.5, 2), (2, 2), (2.1, 3), (3, 3)] {
      #expect(Front.best(of: points, speed: speed) == place, "\(speed)")
    }
    #expect(Front.best(of: points, speed: 3.1) == nil && Front.best(of: [], speed: 0) == nil)
  }

  @Test("it is the front that comparing all pairs finds, and the choice is on it", arguments: 0..<20)
  func itIsTheFrontOfAllPairs(_ seed: UInt64) {
    var random = Random(seed: seed)
    let points = (0..<40).map { _ in
      Front.Point(speed: Double(random.next() % 12), fidelity: Double(random.next() % 12))
    }
    let wanted = points.indices.filter { a in
      !points.contains { b in
        b.speed > points[a].speed && b.fidelity >= points[a].fidelity
          || b.speed >= points[a].speed && b.fidelity > points[a].fidelity
      }
    }
    #expect(Front.places(of: points) == wanted)
    for speed in 0..<13 {
      let enough = points.filter { $0.speed >= Double(speed) }
      let best = Front.best(of: points, speed: Double(speed))
      #expect((best == nil) == enough.isEmpty)
      if let best {
        #expect(wanted.contains(best) && points[best].fidelity == enough.map(\.fidelity).max())
      }
    }
  }
}
