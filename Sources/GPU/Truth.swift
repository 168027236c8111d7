import Bytes

/// What single instructions make of given registers: recorded once on real hardware, which the emulation is held to
/// ever after (Tests/Goldens/gpu-truth.json, once there is one).
public enum Truth {
  static let operations = 6
  static let words = 10 * 32

  /// A warp's registers, the same for every record: bytes of all values; as floats, numbers of moderate size.
  package static func inputs(_ operation: Int) -> [UInt32] {
    var random = Random(seed: UInt64(operation))
    return (0..<words).map { place in
      switch operation {
      case 0:
        place < 4 * 32 ? UInt32(truncatingIfNeeded: random.next() >> 48) : UInt32(truncatingIfNeeded: random.next())
      case 1 where place < 4 * 32: random.normal().bitPattern
      case 1: random.normal().bitPattern & 0xFFFF_0000 | random.normal().bitPattern >> 16
      case 5: (8 * random.normal()).bitPattern
      default: UInt32(truncatingIfNeeded: random.next())
      }
    }
  }

  /// What a GPU makes of them.
  package static func outputs(_ operation: Int, on device: GPUDevice) throws(Failure) -> [UInt32] {
    let engine = device.engine
    let (input, output) = (
      try engine.upload(inputs(operation)), try engine.upload([UInt32](repeating: 0, count: words))
    )
    try engine.launch(.truth, (1, 1), [.int(operation), .memory(input), .memory(output)])
    var result = [UInt32](repeating: 0, count: words)
    var outcome: Result<Void, Failure> = .success(())
    result.withUnsafeMutableBytes { bytes in
      do throws(Failure) { try engine.download(output, at: 0, into: bytes) } catch { outcome = .failure(error) }
    }
    try outcome.get()
    return result
  }

  public static func record(_ device: GPUDevice) throws(Failure) -> JSONText {
    var results: [JSONText] = []
    for operation in 0..<operations {
      results.append(.array(try outputs(operation, on: device).map { .int(Int($0)) }))
    }
    return .object([("device", .string(device.card.name)), ("outputs", .array(results))])
  }
}
