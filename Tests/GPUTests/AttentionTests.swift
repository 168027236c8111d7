import Bytes
import GPU
import Inference
import TestSupport
import Tensors
import Testing

/// Attention by 8-bit integers beside the processor's, where the conformance table does not go.
struct AttentionTests {
  /// Three sequences, one of a single token, behind a prefix; q, k and v times a factor, with one value of k changed.
  private func run(
    _ width: Int, factor: Float, changed: Float?, isCausal: Bool = true, window: Int? = nil, on device: any Device
  ) throws -> [UInt32] {
    var attention = Op.Attention(heads: 4, keyValueHeads: 2, headWidth: width, scale: 0.3, isCausal: isCausal)
    (attention.input, attention.window) = (.int8, window)
    var random = Random(seed: 11)
    let tokens = 77
    let values = try [4, 2, 2].map { heads in
      var floats = (0..<tokens * heads * width).map { _ in factor * random.normal() }
      if heads == 2, let changed { floats[50 * heads * width] = changed }
      return try device.upload(floats: floats, columns: heads * width)
    }
    let starts = try device.upload(indices: [9, 10, 44, 77])
    // What is not a number has no one pattern.
    return try device.download(device.run(.attention(attention), values + [starts])).map {
      $0.isNaN ? Float.nan.bitPattern : $0.bitPattern
    }
  }

  @Test(
    "heads of any width and values of any size have the processor's bits", arguments: [4, 17, 40, 66, 80, 100, 128])
  func headsOfAnyWidthHaveTheProcessorsBits(_ width: Int) throws {
    try EmulatedDriver.use { driver in
      let device = try GPUDevice(driver)
      let cases: [(Float, Float?)] = [(1, nil), (0, nil), (1e-40, nil), (1e6, nil), (1, .nan), (1, .infinity)]
      for (factor, changed) in cases {
        let expected = try run(width, factor: factor, changed: changed, on: CPUDevice())
        let found = try run(width, factor: factor, changed: changed, on: device)
        #expect(found == expected, "\(factor), \(changed.map { "\($0)" } ?? "")")
        // Other sequences know nothing of it.
        #expect(!Float(bitPattern: found[20 * 4 * width]).isNaN)
        if changed?.isNaN == true { #expect(Float(bitPattern: found[60 * 4 * width]).isNaN) }
      }
    }
  }

  @Test("windows have the processor's bits", arguments: [40, 128])
  func windowsHaveTheProcessorsBits(_ width: Int) throws {
    try EmulatedDriver.use { driver in
      let device = try GPUDevice(driver)
      for (isCausal, window) in [(true, 1), (true, 12), (false, 9), (false, 26), (false, 70), (true, .max)] {
        for changed in [nil, Float.nan, .infinity] {
          func run(_ device: any Device) throws -> [UInt32] {
            try self.run(width, factor: 1, changed: changed, isCausal: isCausal, window: window, on: device)
          }
          let (found, expected) = (try run(device), try run(CPUDevice()))
          #expect(found == expected, "\(isCausal), \(window), \(changed.map { "\($0)" } ?? "")")
        }
      }
    }
  }

  @Test("wider heads are computed in Float32")
  func widerHeadsAreComputedInFloat32() throws {
    try EmulatedDriver.use { driver in
      let found = try run(130, factor: 1, changed: nil, on: try GPUDevice(driver)).map { Float(bitPattern: $0) }
      let expected = try run(130, factor: 1, changed: nil, on: CPUDevice()).map { Float(bitPattern: $0) }
      #expect(zip(found, expected).allSatisfy { abs($0 - $1) < 0.1 })
    }
  }
}
