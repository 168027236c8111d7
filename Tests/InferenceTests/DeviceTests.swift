import Bytes
import CKernels
import Glibc
import Inference
import Tensors
import TestSupport
import Testing

/// The same table of operations on every device, held to the double-precision reference. The last column is the error
/// allowed, relative to the largest value of the result.
struct ConformanceTests {
  @Test("the processor agrees with the reference", arguments: Conformance.rows.indices)
  func theProcessorAgreesWithTheReference(_ index: Int) throws {
    let outcome = try Conformance.check(Conformance.rows[index], on: CPUDevice(threads: 2))
    #expect(outcome.passes, "\(outcome)")
  }

  @Test("a result does not depend on the number of threads", arguments: Conformance.rows.indices)
  func aResultDoesNotDependOnTheNumberOfThreads(_ index: Int) throws {
    let row = Conformance.rows[index]
    let one = try Conformance.run(row, on: CPUDevice(threads: 1))
    for threads in [2, 3, 7] {
      #expect(try Conformance.run(row, on: CPUDevice(threads: threads)) == one, "\(row.name)")
    }
  }
}

struct InstructionSetTests {
  @Test("kernels give the same bits with every instruction set the processor has")
  func kernelsGiveTheSameBitsWithEveryInstructionSet() throws {
    for row in Conformance.rows {
      let best = try Conformance.run(row, on: CPUDevice(threads: 1)).map(\.bitPattern)
      for set in InstructionSets.all {
        let found = try InstructionSets.with(set) { try Conformance.run(row, on: CPUDevice(threads: 1)) }
        #expect(found.map(\.bitPattern) == best, "\(row.name), \(set)")
      }
    }
  }

  /// The bounds that Docs/NUMERICS.md states.
  @Test("activations stay within their stated errors")
  func activationsStayWithinTheirStatedErrors() {
    let points = stride(from: Float(-20), through: 20, by: 0.0007).map { $0 }
    func worst(_ kind: Int, _ exact: (Double) -> Double) -> Double {
      var values = points
      llv_activate(Int32(kind), &values, values.count)
      return zip(points, values).map { abs(exact(Double($0)) - Double($1)) / max(1, abs(exact(Double($0)))) }.max() ?? 0
    }
    #expect(worst(LLV_GELU) { $0 * (1 + erf($0 / 2.0.squareRoot())) / 2 } < 1e-6)
    #expect(worst(LLV_SILU) { $0 / (1 + exp(-$0)) } < 3e-7)
    #expect(worst(LLV_TANH) { tanh($0) } < 3e-7)
    #expect(
      worst(LLV_GELU_TANH) { $0 / 2 * (1 + tanh((2 / Double.pi).squareRoot() * ($0 + 0.044715 * $0 * $0 * $0))) }
        < 5e-7)
  }

  @Test("steps of two levels that leave eight bits are refused, and those at their ends are taken")
  func stepsThatLeaveEightBitsAreRefused() throws {
    let integers = try #require(GroupedInteger(bits: 4, groupSize: 8, form: .twoLevel, scaleType: .BF16))
    let layout = try #require(integers.layout([1, 8]))
    // step - 1 in the low half, zero in the high one: 16 · -8, 8 · -15, 8 · 15 fit; 16 · -9, 9 · 15 and 16 · 8 do not.
    for (step, isGood) in [(0x8F, true), (0xF7, true), (0x07, true), (0x9F, false), (0x08, false), (0x7F, false)] {
      let buffer = try Buffer(count: layout.byteCount)
      buffer.clear()
      buffer.withMutableBytes { $0[layout.zerosAt] = UInt8(step) }
      let weight = Tensor("w", shape: [1, 8], encoding: .grouped(integers), content: .bytes(ByteView(buffer)))
      let device = CPUDevice(threads: 1)
      guard !isGood else {
        _ = try device.upload(weight, isLinear: true)
        continue
      }
      let failure = #expect(throws: Failure.self) { try device.upload(weight, isLinear: true) }
      #expect(failure?.kind == .malformed && failure?.problem.contains("exceed 8 bits") == true, "\(step)")
    }
  }

  @Test("attention takes extreme scores")
  func attentionTakesExtremeScores() throws {
    // One column: scores are the products of queries and keys.
    let attention = Op.attention(.init(heads: 1, keyValueHeads: 1, headWidth: 1, scale: 1, isCausal: false))
    let device = CPUDevice(threads: 1)
    func weights(_ keys: [Float]) throws -> [Float] {
      let q = try Conformance.activation(keys.map { _ in 1 }, [keys.count, 1], on: device)
      let k = try Conformance.activation(keys, [keys.count, 1], on: device)
      let v = try Conformance.activation(keys.indices.map { Float(1 << $0) }, [keys.count, 1], on: device)
      let starts = try device.upload(indices: [0, Int32(keys.count)])
      return try device.download(try device.run(attention, [q, k, v, starts]))
    }
    #expect(try weights([1e30, 1e30, -1e30, 0]) == [1.5, 1.5, 1.5, 1.5])
    #expect(try weights([-3e38]) == [1])
  }
}
