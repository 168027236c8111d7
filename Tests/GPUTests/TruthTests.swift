import Bytes
import Foundation
import GPU
import TestSupport
import Testing

/// What the emulation makes of single instructions.
struct TruthTests {
  /// PTX ISA 7.0, "Matrix Fragments for mma.m16n8k32": lane l holds, with g = l / 4 and t = l % 4, rows g and g + 8 of
  /// a and of the result, column g of b, and of each the elements from 4 t (and 16 + 4 t) on, of the result columns 2 t
  /// and 2 t + 1.
  @Test("a product of bytes is laid out as the manual says")
  func aProductOfBytesIsLaidOutAsTheManualSays() throws {
    let words = Truth.inputs(0)
    func word(_ register: Int, _ lane: Int) -> UInt32 { words[32 * register + lane] }
    func byte(_ word: UInt32, _ place: Int) -> Int { Int(Int8(truncatingIfNeeded: word >> UInt32(8 * place))) }
    func a(_ row: Int, _ k: Int) -> Int {
      byte(word(4 + (row / 8) + 2 * (k / 16), row % 8 * 4 + k % 16 / 4), k % 4)
    }
    func b(_ k: Int, _ column: Int) -> Int { byte(word(8 + k / 16, column * 4 + k % 16 / 4), k % 4) }
    let found = try EmulatedDriver.use { driver in try Truth.outputs(0, on: try GPUDevice(driver)) }
    for lane in 0..<32 {
      for register in 0..<4 {
        let (row, column) = (lane / 4 + register / 2 * 8, lane % 4 * 2 + register % 2)
        let sum = (0..<32).reduce(Int(Int32(bitPattern: word(register, lane)))) { $0 + a(row, $1) * b($1, column) }
        #expect(Int(Int32(bitPattern: found[32 * register + lane])) == sum, "lane \(lane), register \(register)")
      }
    }
  }

  @Test("copies that are not live are zeros")
  func copiesThatAreNotLiveAreZeros() throws {
    let words = Truth.inputs(4)
    for settings in EmulatedDriver.timings {
      let found = try EmulatedDriver.use(settings) { driver in try Truth.outputs(4, on: try GPUDevice(driver)) }
      for place in 0..<128 { #expect(found[place] == (place / 4 % 2 == 0 ? words[place] : 0), "word \(place)") }
    }
  }

  static let recorded = Repository.root + "/Tests/Goldens/gpu-truth.json"

  /// Products of BF16 may be added in another order than the emulation's; 2^x is approximate to two units in the last
  /// place.
  @Test(
    "the emulation agrees with what a GPU gave",
    .enabled(
      if: FileManager.default.fileExists(atPath: recorded), "no GPU has recorded its truth yet: Docs/reference/gpu.md"))
  func theEmulationAgreesWithWhatAGPUGave() throws {
    let rows = try Repository.json(TruthTests.recorded).required("outputs").elements()
    for (operation, row) in rows.enumerated() {
      let expected = try row.elements().map { UInt32(try $0.integer(in: 0...Int(UInt32.max))) }
      let found = try EmulatedDriver.use { driver in try Truth.outputs(operation, on: try GPUDevice(driver)) }
      for place in found.indices {
        let (a, b) = (Float(bitPattern: expected[place]), Float(bitPattern: found[place]))
        let isClose = abs(a - b) <= 1e-5 * max(abs(a), 1)
        let isApproximate = operation == 1 || operation == 5 && place / 32 == 1
        #expect(expected[place] == found[place] || isApproximate && isClose, "operation \(operation), word \(place)")
      }
    }
  }
}
