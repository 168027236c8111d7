import Bytes
import CKernels
import Glibc
import Inference
import Passes
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

  /// The bounds that Docs/reference/numerics.md states.
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
    // step - 1 in the low half, zero in the high one: 16 · -8, 8 · -15, 8 · 15 fit; 16 · -9, 9 · 15 and 16 · 8 do not.
    // The largest code of three bits counts 14, that of two 12: 16 · 7 fits, of two bits also 10 · 12.
    for (bits, step, isGood) in [
      (4, 0x8F, true), (4, 0xF7, true), (4, 0x07, true), (4, 0x9F, false), (4, 0x08, false), (4, 0x7F, false),
      (3, 0x7F, true), (3, 0x6F, false), (2, 0x5F, true), (2, 0x4F, false), (2, 0x09, true), (2, 0x0A, false),
      (2, 0x9F, false),
    ] {
      let integers = try #require(GroupedInteger(bits: bits, groupSize: 8, form: .twoLevel, scaleType: .BF16))
      let layout = try #require(integers.layout([1, 8]))
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

  @Test("a weight that lies in panels multiplies as the same weight by rows does")
  func aWeightThatLiesInPanelsMultipliesAsByRows() throws {
    let directory = try TemporaryDirectory()
    let x = (0..<5 * 96).map { Float($0 % 37) - 18 }
    for (bits, form) in [
      (8, .symmetric), (4, .affine), (4, .twoLevel), (3, .affine), (3, .twoLevel), (2, .affine), (2, .twoLevel),
    ] as [(Int, GroupedInteger.Form)] {
      let integers = try #require(
        GroupedInteger(bits: bits, groupSize: 16, form: form, scaleType: form == .twoLevel ? .BF16 : .F16))
      let plain = try Tensor("w", floats: (0..<3_000 * 96).map { Float($0 * 7 % 101) - 50 }, shape: [3_000, 96])
      let bytes = try Pass.quantized(plain, Grid(integers)).load()
      let rows = Tensor("w", shape: [3_000, 96], encoding: .grouped(integers), content: .bytes(ByteView(bytes)))
      // From a file, which is large enough to be mapped from its second page on, where no page starts.
      let (order, packed) = try rows.panels(threads: 2)
      var data = [UInt8](repeating: 1, count: 4_160)
      data += packed.array(of: UInt8.self) + [UInt8](repeating: 2, count: 1 << 16)
      let file = try InputFile(try directory.write("\(bits)\(form).bin", data))
      let view = ByteView(file, 4_160, order.byteCount)
      let stored = StoredBytes(
        stored: view, codec: .raw, count: view.count, checksum: XXH64.hash(packed.array(of: UInt8.self)))
      let panels = Tensor("w", shape: [3_000, 96], encoding: .grouped(integers), content: .panels(stored))
      let device = CPUDevice(threads: 2)
      func product(_ weight: Tensor) throws -> [UInt32] {
        let input = try device.upload(floats: x, columns: 96)
        let result = try device.run(.linear(.int8), [input, try device.upload(weight, isLinear: true)])
        return try device.download(result).map(\.bitPattern)
      }
      #expect(
        try product(panels) == product(rows) && panels.load().array(of: UInt8.self) == bytes.array(of: UInt8.self))
      let damaged = StoredBytes(stored: view, codec: .raw, count: view.count, checksum: stored.checksum ^ 1)
      let failure = #expect(throws: Failure.self) {
        try device.upload(
          Tensor("w", shape: [3_000, 96], encoding: .grouped(integers), content: .panels(damaged)), isLinear: true)
      }
      #expect(failure?.kind == .malformed)
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
