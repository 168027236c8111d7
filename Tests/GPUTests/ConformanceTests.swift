import Bytes
import GPU
import Inference
import Tensors
import TestSupport
import Testing

/// The kernels' own source and the shipped launch code, on the emulated driver: the table of operations that the processor passes too.
struct ConformanceTests {
  @Test("every operation agrees with the reference, however copies and warps are timed", arguments: [8, 9])
  func everyOperationAgreesWithTheReference(_ major: Int32) throws {
    for var settings in EmulatedDriver.timings {
      settings.major = major
      try EmulatedDriver.use(settings) { driver in
        let device = try GPUDevice(driver)
        for row in Conformance.rows {
          let outcome = try Conformance.check(row, on: device)
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
      let ops: [Op] =
        Op.Activation.allCases.map { .activation($0) } + [
          .norm(.layer, epsilon: 1e-5), .norm(.rms, epsilon: 1e-6), .normalize,
        ]
      for op in ops {
        func run(_ device: any Device) throws -> [UInt32] {
          try device.download(device.run(op, [device.upload(floats: floats, columns: 640)])).map(\.bitPattern)
        }
        #expect(try run(device) == run(processor), "\(op)")
      }
    }
  }
}
