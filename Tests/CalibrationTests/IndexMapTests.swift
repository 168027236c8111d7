import Bytes
import Calibration
import Fidelity
import TestSupport
import Testing

struct IndexMapTests {
  static func vectors(_ count: Int, _ width: Int, seed: UInt64 = 7) -> [Float] {
    var state = seed
    return (0..<count * width).map { _ in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Float(state >> 40) / Float(1 << 23) - 1
    }
  }

  static func unit(_ values: [Float], _ width: Int) -> Embeddings {
    let rows = Embeddings(width: width, values: values).ranked(by: .cosine, isQuery: true)
    return Embeddings(width: width, values: (try? rows.rows(0..<rows.count)) ?? [])
  }

  /// Vectors after a turn in many planes.
  static func turned(_ vectors: Embeddings) throws -> Embeddings {
    let width = vectors.width
    var values = try vectors.rows(0..<vectors.count)
    for row in stride(from: 0, to: values.count, by: width) {
      for plane in 0..<3 * width {
        let (a, b) = (row + plane % width, row + (plane * 5 + 1 + plane / width) % width)
        guard a != b else { continue }
        let (x, y) = (values[a], values[b])
        (values[a], values[b]) = (0.8 * x - 0.6 * y, 0.6 * x + 0.8 * y)
      }
    }
    return Embeddings(width: width, values: values)
  }

  static func loss(_ map: IndexMap, _ new: Embeddings, _ old: Embeddings) throws -> Double {
    try 1 - Closeness([(old, map.mapped(new))]).cosine.mean
  }

  @Test("a turned space is turned back by a rotation, which is the least map")
  func aTurnedSpaceIsTurnedBack() throws {
    let old = IndexMapTests.unit(IndexMapTests.vectors(200, 16), 16)
    let new = try IndexMapTests.turned(old)
    let map = try IndexMap.fit(new: new, old: old, rows: Array(0..<150))
    #expect(map.family == .orthogonal && map.inputs == 16 && map.outputs == 16)
    #expect(try IndexMapTests.loss(map, new, old) < 1e-6 && Closeness([(old, new)]).cosine.mean < 0.5)
  }

  @Test("another width, another mean and another scale take an affine map; noise takes one of low rank")
  func otherSpacesTakeAffineMaps() throws {
    let old = IndexMapTests.unit(IndexMapTests.vectors(400, 32), 32)
    let values = try old.rows(0..<400)
    var wide: [Float] = []
    for row in 0..<400 {
      for column in 0..<40 {
        wide.append(column < 32 ? values[row * 32 + column] * Float(column % 3 + 1) + 0.3 : 0.1)
      }
    }
    let new = Embeddings(width: 40, values: wide)
    let map = try IndexMap.fit(new: new, old: old, rows: Array(0..<300))
    #expect(map.family != .orthogonal && map.inputs == 40 && map.outputs == 32)
    #expect(try IndexMapTests.loss(map, new, old) < 1e-3)
    // Of what is common to both only eight dimensions.
    let noise = IndexMapTests.vectors(400, 32, seed: 9)
    let mixed = (0..<400 * 32).map { $0 % 32 < 8 ? values[$0] : noise[$0] }
    let low = try IndexMap.fit(new: Embeddings(width: 32, values: mixed), old: old, rows: Array(0..<300))
    guard case .affine = low.family else { throw Failure(.internal, "\(low.family)") }
  }

  @Test("the file holds the map: float32, the bias in the last row; a fit is the same every time")
  func theFileHoldsTheMap() throws {
    let old = IndexMapTests.unit(IndexMapTests.vectors(100, 8), 8)
    let new = IndexMapTests.unit(IndexMapTests.vectors(100, 12, seed: 3), 12)
    let map = try IndexMap.fit(new: new, old: old, rows: Array(0..<100))
    #expect(try IndexMap.fit(new: new, old: old, rows: Array(0..<100)).numPyFile == map.numPyFile)
    let directory = try TemporaryDirectory()
    let file = try Embeddings(numPy: directory.write("m.npy", map.numPyFile))
    #expect(file.count == 13 && file.width == 8)
    let (matrix, x) = (try file.rows(0..<13), try new.rows(0..<1))
    var y = Array(matrix[12 * 8..<13 * 8])
    for row in 0..<12 {
      for column in 0..<8 { y[column] += x[row] * matrix[row * 8 + column] }
    }
    let wanted = try IndexMapTests.unit(y, 8).rows(0..<1)
    #expect(try zip(map.mapped(new).rows(0..<1), wanted).allSatisfy { abs($0 - $1) < 1e-5 })
    #expect(map.linearLayer.count == 4 * (8 + 8 * 12))
  }

  @Test("too few rows, and what is no number, are refused")
  func tooFewRowsAreRefused() throws {
    let old = IndexMapTests.unit(IndexMapTests.vectors(20, 8), 8)
    #expect(throws: Failure.self) { try IndexMap.fit(new: old, old: old, rows: Array(0..<9)) }
    var values = try old.rows(0..<20)
    values[5] = .nan
    #expect(throws: Failure.self) {
      try IndexMap.fit(new: Embeddings(width: 8, values: values), old: old, rows: Array(0..<20))
    }
    // All rows alike say nothing, and divide by nothing.
    let flat = Embeddings(width: 8, values: [Float](repeating: 0.5, count: 160))
    #expect(try IndexMap.fit(new: flat, old: old, rows: Array(0..<20)).mapped(flat).rows(0..<1).allSatisfy(\.isFinite))
  }
}
