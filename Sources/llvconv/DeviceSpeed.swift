import Bytes
import Inference
import LLVConv
import Tensors

/// Measures single operations of the sizes that models have: rows are tokens of a short text, of a picture's views, or
/// of one long prompt. Of the processor, products are held to the peak of its instructions too.
func measureDevice(_ choice: DeviceChoice, _ arguments: Arguments) throws(Failure) -> Int32 {
  let threads = try arguments.threads()
  let device = try choice.open(threads: threads).device
  var results: [(name: String, seconds: Double, products: Double, peak: Double?)] = []
  let shapes = [(896, 4_864, 3_700), (1_152, 4_304, 7_290), (3_584, 18_944, 3_700)]
  let progress = Progress("measuring \(device.shown)", of: shapes.count * 8 + 2)
  for (columns, outputs, most) in shapes {
    for choice in ["8:channel", "8:g64", "4:g128", "16"] {
      let (weight, input) = try madeWeight(choice, outputs, columns)
      let w = try device.upload(weight, isLinear: true)
      let arithmetic: Profile.Arithmetic = input == .bfloat16 ? .bfloat16 : choice.hasPrefix("8") ? .int8 : .int4
      for rows in [64, most] {
        let x = try device.upload(floats: madeFloats(rows * columns), columns: columns)
        let seconds = try time(device) { () throws(Failure) in try device.run(.linear(input), [x, w]) }
        let peak = device is CPUDevice ? try arithmetic.peak(threads: threads) : nil
        results.append(
          (
            "\(choice.padded(9))  \(rows) × \(columns) × \(outputs)", seconds,
            Double(rows) * Double(columns) * Double(outputs), peak
          ))
        progress.show(results.count)
      }
    }
  }
  for (what, views, tokens, heads, shared, width, isCausal) in [
    ("tower", 10, 729, 16, 16, 72, false), ("0.5B", 1, 3_700, 14, 2, 64, true),
  ] {
    let rows = views * tokens
    func value(_ heads: Int) throws(Failure) -> DeviceBuffer {
      try device.upload(floats: madeFloats(rows * heads * width), columns: heads * width)
    }
    let starts = try device.upload(indices: (0...views).map { Int32($0 * tokens) })
    let inputs = [try value(heads), try value(shared), try value(shared), starts]
    let attention = Op.Attention(
      heads: heads, keyValueHeads: shared, headWidth: width, scale: 0.1, isCausal: isCausal)
    let seconds = try time(device) { () throws(Failure) in try device.run(.attention(attention), inputs) }
    let products = Double(views * tokens * tokens * heads * width * 2) / (isCausal ? 2 : 1)
    results.append(("attention, \(what): \(views) × \(tokens), \(heads) heads of \(width)", seconds, products, nil))
    progress.show(results.count)
  }
  Progress.clear()
  if arguments.has("--json") {
    Output.print(
      .object([
        ("device", .string(device.shown)),
        (
          "operations",
          .array(
            results.map {
              .object([
                ("name", .string($0.name)), ("seconds", .number($0.seconds)), ("products", .number($0.products)),
                ("peakProductsPerSecond", $0.peak.map { .number($0) } ?? .null),
              ])
            })
        ),
      ]))
    return 0
  }
  Output.print(device.shown)
  for (name, seconds, products, peak) in results {
    let share = peak.map { "  \((100 * products / seconds / $0).fixed(0)) % of peak" } ?? ""
    Output.print(
      "\(name.padded(48))  \((seconds * 1e3).fixed(3)) ms  \((products / seconds / 1e12).fixed(3)) TMAC/s\(share)")
  }
  return 0
}

/// Seconds of one call, of as many as take about half a second, after two that warm up.
private func time(
  _ device: any Device, _ body: () throws(Failure) -> DeviceBuffer
) throws(Failure) -> Double {
  func run(_ count: Int) throws(Failure) -> Double {
    let start = ContinuousClock.now
    for _ in 0..<count { _ = try body() }
    try device.finish()
    return (ContinuousClock.now - start) / .seconds(1)
  }
  _ = try run(2)
  let one = try run(1)
  let count = min(1_000, max(1, Int(0.5 / one)))
  return try run(count) / Double(count)
}

private func madeFloats(_ count: Int) -> [Float] {
  var random = Random(seed: 1)
  return (0..<count).map { _ in random.uniform() - 0.5 }
}

/// A weight with 8-bit codes of bell-shaped values, each group filling its range (how many steps AVX2 takes depends on
/// them), random 4-bit codes, or BF16.
private func madeWeight(_ choice: String, _ rows: Int, _ columns: Int) throws(Failure) -> (Tensor, Op.LinearInput) {
  var random = Random(seed: 2)
  let parts: (bits: Int, group: Int)? =
    switch choice {
    case "8:channel": (8, columns)
    case "8:g64": (8, 64)
    case "4:g128": (4, 128)
    default: nil
    }
  guard let parts else {
    let buffer = try Buffer(count: rows * columns * 2)
    buffer.with(UInt16.self) { for i in $0.indices { $0[i] = UInt16((random.uniform() - 0.5).bitPattern >> 16) } }
    return (
      Tensor("w", shape: [rows, columns], encoding: .plain(.BF16), content: .bytes(ByteView(buffer))), .bfloat16
    )
  }
  guard let integers = GroupedInteger(bits: parts.bits, groupSize: parts.group, isAffine: false),
    let layout = integers.layout([rows, columns])
  else { throw Failure(.internal, "no layout") }
  let buffer = try Buffer(count: layout.byteCount)
  buffer.with(UInt8.self) { bytes in
    guard parts.bits == 8 else {
      return bytes.indices.forEach { bytes[$0] = UInt8(truncatingIfNeeded: random.next() >> 20) }
    }
    for row in 0..<rows {
      for first in stride(from: 0, to: columns, by: parts.group) {
        let values = (first..<min(first + parts.group, columns)).map { _ in random.normal() }
        let largest = values.reduce(0) { max($0, abs($1)) }
        for (i, value) in values.enumerated() {
          bytes[row * columns + first + i] = UInt8(bitPattern: Int8(127 * value / largest))
        }
      }
    }
  }
  // Scales of 2^-10, as F16.
  buffer.withMutableBytes { bytes in
    for at in stride(from: layout.scalesAt, to: layout.byteCount, by: 2) {
      bytes.storeBytes(of: 0x1400, toByteOffset: at, as: UInt16.self)
    }
  }
  return (
    Tensor("w", shape: [rows, columns], encoding: .grouped(integers), content: .bytes(ByteView(buffer))), .int8
  )
}
