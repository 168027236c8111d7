import Bytes
import GPU
import Inference
import Tensors
import TestSupport
import Testing

/// The kernels' own source and the shipped launch code, on the emulated driver: the table of operations that the
/// processor passes too.
struct ConformanceTests {
  @Test("every operation agrees with the reference, however copies and warps are timed", arguments: [8, 9])
  func everyOperationAgreesWithTheReference(_ major: Int32) throws {
    let rows = try Conformance.rows.map { (row: $0, truth: try Conformance.Truth($0)) }
    for var settings in EmulatedDriver.timings {
      settings.major = major
      try EmulatedDriver.use(settings) { driver in
        let device = try GPUDevice(driver)
        for (row, truth) in rows {
          let outcome = try Conformance.check(row, on: device, truth)
          #expect(outcome.passes, "compute \(major).0: \(outcome)")
        }
      }
    }
  }

  @Test("what follows a product is what operations one after the other give")
  func whatFollowsAProductIsWhatOperationsGive() throws {
    try EmulatedDriver.use { driver in
      let device = try GPUDevice(driver)
      var random = Random(seed: 3)
      func value(_ rows: Int, _ columns: Int) throws -> DeviceBuffer {
        try device.upload(floats: (0..<rows * columns).map { _ in random.normal() }, columns: columns)
      }
      let (x, gate, residual) = (try value(33, 64), try value(33, 40), try value(1, 40))
      let weight = try device.upload(
        try Tensor("w", floats: (0..<40 * 64).map { _ in random.normal() }, shape: [40, 64]), isLinear: true)
      let steps: [FollowingStep] = [
        .init(.activation(.silu)), .init(.multiply, gate), .init(.add, residual), .init(.activation(.relu)),
        .init(.add, gate),
      ]
      for count in 0...steps.count {
        var plain = try device.run(.linear(.float), [x, weight])
        for step in steps.prefix(count) {
          plain = try device.run(step.op, [plain] + (step.other.map { [$0] } ?? []))
        }
        let fused = try device.run(.linear(.float), [x, weight], then: Array(steps.prefix(count)))
        #expect(try device.download(fused) == device.download(plain), "\(count) steps")
      }
    }
  }

  @Test("activations and norms have the processor's bits")
  func activationsAndNormsHaveTheProcessorsBits() throws {
    try EmulatedDriver.use { driver in
      let (device, processor) = (try GPUDevice(driver), CPUDevice())
      var random = Random(seed: 5)
      let floats = (0..<3 * 640).map { _ in 4 * random.normal() }
      let gain = (0..<128).map { _ in 0.2 * random.normal() }
      let ops: [Op] =
        Op.Activation.allCases.map { .activation($0) } + [
          .norm(.layer, epsilon: 1e-5), .norm(.rms, epsilon: 1e-6), .norm(.layer, epsilon: 1e-5, heads: 5),
          .norm(.rmsPlusOne, epsilon: 1e-6, heads: 5), .normalize,
        ]
      for op in ops {
        func run(_ device: any Device) throws -> [UInt32] {
          var inputs = [try device.upload(floats: floats, columns: 640)]
          if case .norm(_, _, heads: 5) = op { inputs.append(try device.upload(floats: gain, columns: 128)) }
          return try device.download(device.run(op, inputs)).map(\.bitPattern)
        }
        #expect(try run(device) == run(processor), "\(op)")
      }
    }
  }

  /// Docs/reference/gpu.md says which.
  @Test("operations that round as the processor does have its bits")
  func operationsThatRoundAsTheProcessorDoesHaveItsBits() throws {
    var count = 0
    try EmulatedDriver.use { driver in
      let device = try GPUDevice(driver)
      for row in Conformance.rows {
        switch row.op {
        case .embedding, .row, .rope, .interpolate, .rescale, .add, .multiply, .activation, .slice, .concatenate,
          .pool:
          let (found, expected) = (try Conformance.run(row, on: device), try Conformance.run(row, on: CPUDevice()))
          #expect(found.map(\.bitPattern) == expected.map(\.bitPattern), "\(row.name)")
          count += 1
        default: break
        }
      }
    }
    #expect(count > 20)
  }

  @Test("a norm of heads takes columns of a wider value, and joined columns what is not computed yet")
  func normsOfHeadsTakeColumnsOfAWiderValue() throws {
    var random = Random(seed: 23)
    let (floats, gain) = ((0..<7 * 40).map { _ in random.normal() }, (0..<8).map { _ in random.normal() })
    func run(_ device: any Device) throws -> [UInt32] {
      let x = try device.run(.slice(offset: 5, count: 24), [device.upload(floats: floats, columns: 40)])
      let norm = try device.run(
        .norm(.rmsPlusOne, epsilon: 1e-6, heads: 3), [x, device.upload(floats: gain, columns: 8)])
      let silu = try device.run(.activation(.silu), [x])
      return try device.download(device.run(.concatenate, [silu, norm, x])).map(\.bitPattern)
    }
    try EmulatedDriver.use { driver in
      let (found, expected) = (try run(GPUDevice(driver)), try run(CPUDevice()))
      #expect(found == expected)
    }
  }

  @Test("the largest of what is not a number is not a number")
  func theLargestOfWhatIsNotANumberIsNotANumber() throws {
    func run(_ device: any Device) throws -> [Float] {
      let x = try device.upload(floats: [1, .nan, -2, 3, 5, .nan], columns: 2)
      return try device.download(device.run(.pool(.max), [x, device.upload(indices: [0, 3])]))
    }
    try EmulatedDriver.use { driver in
      for found in [try run(GPUDevice(driver)), try run(CPUDevice())] {
        #expect(found[0] == 5 && found[1].isNaN)
      }
    }
  }

  @Test("groups whose sums do not fit 32 bits are refused on every device")
  func groupsThatAreTooLargeAreRefused() throws {
    let integers = try #require(GroupedInteger(bits: 8, groupSize: 70_000, isAffine: false))
    let layout = try #require(integers.layout([1, 70_000]))
    let bytes = try Buffer(count: layout.byteCount)
    bytes.clear()
    let weight = Tensor("w", shape: [1, 70_000], encoding: .grouped(integers), content: .bytes(ByteView(bytes)))
    func run(_ device: any Device) throws {
      let x = try device.upload(floats: [Float](repeating: 1, count: 70_000), columns: 70_000)
      _ = try device.run(.linear(.int8), [x, try device.upload(weight, isLinear: true)])
    }
    let failure = #expect(throws: Failure.self) { try run(CPUDevice()) }
    #expect(failure?.kind == .limit)
    try EmulatedDriver.use { driver in
      let device = try GPUDevice(driver)
      #expect(#expect(throws: Failure.self) { try run(device) } == failure)
    }
  }
}
