import Bytes
import Fidelity
import TestSupport
import Testing

/// Causes are named from vectors alone.
struct DiagnosisTests {
  static let (count, width) = (40, 24)

  /// Unit vectors of random directions, with a common part, as embeddings have it.
  static func vectors(_ seed: UInt64, count: Int = count, width: Int = width) -> [Float] {
    var random = Random(seed: seed)
    return unit((0..<count * width).map { _ in random.normal() + 0.3 }, width)
  }

  static func unit(_ values: [Float], _ width: Int) -> [Float] {
    stride(from: 0, to: values.count, by: width).flatMap { start -> [Float] in
      let row = values[start..<start + width]
      let length = row.reduce(0) { $0 + $1 * $1 }.squareRoot()
      return row.map { length > 0 ? $0 / length : 0 }
    }
  }

  static let reference = vectors(1)

  static func names(
    _ candidate: [Float], ownWidth: Int = width, faults: [Diagnosis.Fault] = []
  ) -> [String] {
    Diagnosis(reference: reference, width: width, candidate: candidate, ownWidth: ownWidth, faults: faults).causes
      .map(\.name)
  }

  /// With this much noise, as coarse arithmetic has it.
  static func noisy(_ values: [Float], _ scale: Float, seed: UInt64 = 9) -> [Float] {
    var random = Random(seed: seed)
    return unit(values.map { $0 + scale * random.normal() / Float(width).squareRoot() }, width)
  }

  @Test("equal vectors need no explanation")
  func equalVectorsNeedNoExplanation() {
    #expect(DiagnosisTests.names(DiagnosisTests.reference).isEmpty)
    #expect(DiagnosisTests.names(DiagnosisTests.noisy(DiagnosisTests.reference, 0.01)).isEmpty)
  }

  @Test("what is done to vectors alone is named")
  func whatIsDoneToVectorsAloneIsNamed() {
    let (all, width) = (DiagnosisTests.reference, DiagnosisTests.width)
    func rows(_ change: (Int, [Float]) -> [Float]) -> [Float] {
      (0..<DiagnosisTests.count).flatMap { change($0, Array(all[$0 * width..<($0 + 1) * width])) }
    }
    #expect(DiagnosisTests.names(DiagnosisTests.noisy(all, 0.2)) == ["coarser"])
    #expect(DiagnosisTests.names(DiagnosisTests.vectors(2)) == ["another-model"])
    #expect(DiagnosisTests.names(rows { place, row in row.map { $0 * Float(1 + place) } }) == ["not-normalised"])
    #expect(
      DiagnosisTests.names(DiagnosisTests.unit(rows { _, row in Array(row.prefix(20)) }, 20), ownWidth: 20)
        == ["columns-cut"])
    #expect(
      DiagnosisTests.names(rows { _, row in Array(row[5...] + row[..<5]) }).first == "columns-reordered")
    #expect(
      DiagnosisTests.names(rows { _, row in row.enumerated().map { $0 % 3 == 0 ? -$1 : $1 } }).first
        == "columns-reordered")
    let turned = rows { place, _ in
      let other = (place + 1) % DiagnosisTests.count
      return Array(all[other * width..<(other + 1) * width])
    }
    #expect(DiagnosisTests.names(turned) == ["other-order"])
    #expect(DiagnosisTests.names(rows { place, row in place == 3 ? row.map { _ in .nan } : row }).first == "not-finite")
    let doubles = rows { _, row in
      stride(from: 0, to: width, by: 2).map { column in
        let bits = UInt64(row[column + 1].bitPattern) << 32 | UInt64(row[column].bitPattern)
        return Float(Double(bitPattern: bits))
      }
    }
    #expect(DiagnosisTests.names(doubles, ownWidth: width / 2).contains("read-as-float64"))
    // Half of the items have the vector of the first.
    let one = rows { place, row in place % 2 == 0 ? Array(all[..<width]) : row }
    #expect(DiagnosisTests.names(one).contains("one-vector"))
    #expect(DiagnosisTests.names(DiagnosisTests.vectors(3, width: 30), ownWidth: 30).first == "another-model")
  }

  @Test("a fault that explains the distance is named, through noise, and no other")
  func aFaultThatExplainsTheDistanceIsNamed() {
    let width = DiagnosisTests.width
    let rows = Array(stride(from: 0, to: DiagnosisTests.count, by: 2))
    func fault(_ name: String, _ seed: UInt64, _ touched: (Int) -> Bool) -> Diagnosis.Fault {
      let other = DiagnosisTests.vectors(seed)
      let vectors = rows.flatMap { row in
        (touched(row) ? other : DiagnosisTests.reference)[row * width..<(row + 1) * width]
      }
      return .init(name: name, words: name, rows: rows, vectors: vectors)
    }
    let faults = [
      fault("all", 21) { _ in true }, fault("long", 22) { $0 >= 30 }, fault("other", 23) { $0 % 4 == 0 },
    ]
    let candidate = { (seed: UInt64, touched: (Int) -> Bool) -> [Float] in
      let other = DiagnosisTests.vectors(seed)
      let all = (0..<DiagnosisTests.count).flatMap { row in
        (touched(row) ? other : DiagnosisTests.reference)[row * width..<(row + 1) * width]
      }
      return DiagnosisTests.noisy(all, 0.1)
    }
    #expect(DiagnosisTests.names(candidate(21) { _ in true }, faults: faults) == ["all"])
    #expect(DiagnosisTests.names(candidate(22) { $0 >= 30 }, faults: faults) == ["long"])
    // None of them: another model is no fault of texts.
    #expect(DiagnosisTests.names(DiagnosisTests.vectors(31), faults: faults) == ["another-model"])
    #expect(DiagnosisTests.names(DiagnosisTests.noisy(DiagnosisTests.reference, 0.2), faults: faults) == ["coarser"])
  }
}
