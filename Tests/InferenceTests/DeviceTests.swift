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
  struct Row: Sendable {
    let name: String
    let op: Op
    /// Shapes of the inputs; indices come last where the operation takes them.
    let shapes: [[Int]]
    var starts = false
    /// Tokens before the first sequence, which all of them share.
    var prefix = 0
    var ids = 0
    /// Indices in the place of an input of this shape, below the bound; -1 is one of them.
    var taps: (shape: [Int], below: Int)?
    var positions = 0
    var encoding: GroupedInteger?
    /// The weight in BF16.
    var isBFloat = false
    let tolerance: Float
  }

  static let attention = Op.Attention(heads: 4, keyValueHeads: 4, headWidth: 8, scale: 0.35, isCausal: false)
  static var rows: [Row] {
    var rows: [Row] = [
      Row(name: "embedding", op: .embedding, shapes: [[11, 7]], ids: 19, tolerance: 0),
      Row(name: "row", op: .row(3), shapes: [[11, 7]], tolerance: 0),
      Row(name: "linear", op: .linear(.float), shapes: [[13, 37], [29, 37], [29]], tolerance: 2e-6),
      Row(name: "linear, no bias", op: .linear(.float), shapes: [[130, 64], [140, 64]], tolerance: 2e-6),
      Row(name: "linear, one token", op: .linear(.float), shapes: [[1, 96], [300, 96], [300]], tolerance: 2e-6),
      Row(name: "add", op: .add, shapes: [[13, 8], [13, 8]], tolerance: 1e-7),
      Row(name: "add row", op: .add, shapes: [[13, 8], [1, 8]], tolerance: 1e-7),
      Row(name: "norm", op: .norm(.layer, epsilon: 1e-12), shapes: [[13, 37], [37], [37]], tolerance: 1e-6),
      Row(name: "norm, bare", op: .norm(.layer, epsilon: 1e-5), shapes: [[13, 8]], tolerance: 1e-6),
      Row(name: "rms norm", op: .norm(.rms, epsilon: 1e-6), shapes: [[13, 37], [37]], tolerance: 1e-6),
      Row(name: "slice", op: .slice(offset: 3, count: 5), shapes: [[13, 9]], tolerance: 0),
      Row(
        name: "attention", op: .attention(attention), shapes: [[19, 32], [19, 32], [19, 32]], starts: true,
        tolerance: 2e-6),
      Row(name: "mean", op: .pool(.mean), shapes: [[19, 9]], starts: true, tolerance: 1e-7),
      Row(name: "first", op: .pool(.first), shapes: [[19, 9]], starts: true, tolerance: 0),
      Row(name: "last", op: .pool(.last), shapes: [[19, 9]], starts: true, tolerance: 0),
      Row(name: "normalize", op: .normalize, shapes: [[13, 37]], tolerance: 2e-7),
    ]
    rows += [
      Row(name: "multiply", op: .multiply, shapes: [[13, 8], [13, 8]], tolerance: 1e-7),
      Row(
        name: "rescale", op: .rescale(.init(factor: 1 / 255.0, mean: [0.5, 0.4, 0.3], deviation: [0.5, 0.2, 0.25])),
        shapes: [[13, 12]], tolerance: 5e-7),
      Row(name: "rope", op: .rope(theta: 1e6, headWidth: 8), shapes: [[19, 24]], positions: 19, tolerance: 5e-7),
      Row(
        name: "interpolate", op: .interpolate, shapes: [[11, 9], [9], [17, 4]], taps: ([17, 4], 11), tolerance: 1e-6),
      Row(name: "embedding with features", op: .embedding, shapes: [[11, 7], [5, 7]], ids: 19, tolerance: 0),
      Row(
        name: "attention, one query a sequence", op: .attention(attention), shapes: [[3, 32], [19, 32], [19, 32]],
        starts: true, tolerance: 2e-6),
      Row(
        name: "attention, one query for all", op: .attention(attention), shapes: [[1, 32], [19, 32], [19, 32]],
        starts: true, tolerance: 2e-6),
    ]
    for kind in Op.Activation.allCases {
      rows.append(Row(name: kind.rawValue, op: .activation(kind), shapes: [[13, 37]], tolerance: 5e-7))
    }
    var causal = attention
    causal.isCausal = true
    causal.keyValueHeads = 2
    rows.append(
      Row(
        name: "causal, shared keys", op: .attention(causal), shapes: [[19, 32], [19, 16], [19, 16]], starts: true,
        tolerance: 2e-6))
    for (name, shapes) in [
      ("causal with a prefix", [[230, 32], [230, 16], [230, 16]]),
      ("causal with a prefix, one query a sequence", [[3, 32], [230, 16], [230, 16]]),
    ] {
      rows.append(
        Row(name: name, op: .attention(causal), shapes: shapes, starts: true, prefix: 70, tolerance: 2e-6))
    }
    for width in [32, 64, 72, 128] {
      var wide = causal
      wide.headWidth = width
      rows.append(
        Row(
          name: "causal with a prefix, heads of \(width)", op: .attention(wide),
          shapes: [[230, 4 * width], [230, 2 * width], [230, 2 * width]], starts: true, prefix: 70, tolerance: 1e-5))
    }
    for (bits, group, isAffine) in [
      (8, 32, false), (8, 96, false), (8, 32, true), (4, 32, true), (4, 32, false), (4, 20, true), (4, 33, false),
      (8, 7, false),
    ] {
      guard let integers = GroupedInteger(bits: bits, groupSize: group, isAffine: isAffine) else { continue }
      for input in Op.LinearInput.allCases {
        rows.append(
          Row(
            name: "linear \(integers.text) \(input)", op: .linear(input), shapes: [[70, 96], [37, 96], [37]],
            encoding: integers, tolerance: 7e-6))
      }
      rows.append(
        Row(
          name: "embedding \(integers.text)", op: .embedding, shapes: [[11, 96]], ids: 19, encoding: integers,
          tolerance: 1e-6))
    }
    for input in [Op.LinearInput.float, .bfloat16] {
      rows.append(
        Row(
          name: "linear BF16 \(input)", op: .linear(input), shapes: [[70, 95], [37, 95], [37]], isBFloat: true,
          tolerance: 2e-6))
    }
    return rows
  }

  /// Uploads a row's inputs to a device and runs it.
  static func run(_ row: Row, on device: some Device) throws -> [Float] {
    var random = Random(seed: 17)
    var inputs: [DeviceBuffer] = []
    for (place, shape) in row.shapes.enumerated() {
      let values = (0..<shape.reduce(1, *)).map { _ in 2 * random.normal() }
      let isWeight = place == (row.op == .embedding ? 0 : 1)
      if let integers = row.encoding, isWeight {
        inputs.append(try device.upload(try grouped(integers, shape, &random), isLinear: row.isLinear))
      } else if row.isBFloat, isWeight {
        let buffer = try Buffer(count: values.count * 2)
        buffer.with(UInt16.self) { for (i, value) in values.enumerated() { $0[i] = UInt16(value.bitPattern >> 16) } }
        let tensor = Tensor("w", shape: shape, encoding: .plain(.BF16), content: .bytes(ByteView(buffer)))
        inputs.append(try device.upload(tensor, isLinear: true))
      } else if place == 0, row.op != .embedding, !row.isTable {
        inputs.append(try activation(values, shape, on: device))
      } else if row.isWeightInput(place), row.op != .embedding || place == 0 {
        inputs.append(
          try device.upload(try Tensor("w", floats: values, shape: shape), isLinear: row.isLinear && place == 1))
      } else {
        inputs.append(try activation(values, shape, on: device))
      }
    }
    if row.ids > 0 {
      let features = row.shapes.count > 1 ? row.shapes[1][0] : 0
      let ids = (0..<row.ids).map { _ in random.below(row.shapes[0][0] + features) - features }
      inputs.insert(try indices(ids, on: device), at: 1)
    }
    if let taps = row.taps {
      let values = (0..<taps.shape.reduce(1, *)).map { _ in random.below(taps.below + 1) - 1 }
      inputs.insert(try indices(values, columns: taps.shape[1], on: device), at: 2)
    }
    if row.positions > 0 { inputs.append(try indices((0..<row.positions).map { $0 * 37 }, on: device)) }
    if row.starts {
      inputs.append(try indices(row.prefix > 0 ? [row.prefix, 71, 150, 230] : [0, 1, 8, 19], on: device))
    }
    return try device.download(try device.run(row.op, inputs))
  }

  /// Activations get onto a device as the result of an operation that changes nothing: a lookup of every row.
  static func activation(_ values: [Float], _ shape: [Int], on device: some Device) throws -> DeviceBuffer {
    let table = try device.upload(try Tensor("x", floats: values, shape: shape))
    return try device.run(.embedding, [table, try indices(Array(0..<shape[0]), on: device)])
  }

  static func indices(_ values: [Int], columns: Int = 1, on device: some Device) throws -> DeviceBuffer {
    let buffer = try Buffer(count: values.count * 4)
    buffer.with(Int32.self) { for (index, value) in values.enumerated() { $0[index] = Int32(value) } }
    return try device.upload(
      Tensor(
        "i", shape: columns == 1 ? [values.count] : [values.count / columns, columns], encoding: .plain(.I32),
        content: .bytes(ByteView(buffer))))
  }

  /// Random codes, scales and zeros.
  static func grouped(_ integers: GroupedInteger, _ shape: [Int], _ random: inout Random) throws -> Tensor {
    let layout = try #require(integers.layout(shape))
    let buffer = try Buffer(count: layout.byteCount)
    buffer.with(UInt8.self) { for index in 0..<$0.count { $0[index] = UInt8(truncatingIfNeeded: random.next() >> 20) } }
    buffer.withMutableBytes { bytes in
      for at in stride(from: layout.scalesAt, to: layout.byteCount, by: 2) {
        bytes.storeBytes(of: llv_half_from_float(0.02 * random.normal()), toByteOffset: at, as: UInt16.self)
      }
    }
    return Tensor("w", shape: shape, encoding: .grouped(integers), content: .bytes(ByteView(buffer)))
  }

  @Test("the processor agrees with the reference", arguments: rows.indices)
  func theProcessorAgreesWithTheReference(_ index: Int) throws {
    let row = ConformanceTests.rows[index]
    let expected = try ConformanceTests.run(row, on: ReferenceDevice())
    let found = try ConformanceTests.run(row, on: CPUDevice(threads: 2))
    #expect(expected.count == found.count && !found.isEmpty)
    let size = expected.map(abs).max() ?? 0
    let worst = zip(expected, found).map { abs($0 - $1) }.max() ?? 0
    #expect(worst <= row.tolerance * max(size, 1), "\(row.name): \(worst) of \(size)")
  }

  @Test("a result does not depend on the number of threads", arguments: rows.indices)
  func aResultDoesNotDependOnTheNumberOfThreads(_ index: Int) throws {
    let row = ConformanceTests.rows[index]
    let one = try ConformanceTests.run(row, on: CPUDevice(threads: 1))
    for threads in [2, 3, 7] {
      #expect(try ConformanceTests.run(row, on: CPUDevice(threads: threads)) == one, "\(row.name)")
    }
  }
}

extension ConformanceTests.Row {
  var isTable: Bool {
    if case .row = op { true } else { op == .embedding }
  }

  var isLinear: Bool { if case .linear = op { true } else { false } }

  /// Whether the input is a tensor of the model and not a value.
  func isWeightInput(_ place: Int) -> Bool {
    switch op {
    case .embedding, .row: true
    case .linear, .norm: place > 0
    case .interpolate: place == 1
    default: false
    }
  }
}

/// Tests that switch instruction sets run alone.
@Suite(.serialized) struct InstructionSetTests {
  @Test("kernels give the same bits with every instruction set the processor has")
  func kernelsGiveTheSameBitsWithEveryInstructionSet() throws {
    for row in ConformanceTests.rows {
      let best = try ConformanceTests.run(row, on: CPUDevice(threads: 2)).map(\.bitPattern)
      for level in 0..<llv_cpu_level() {
        llv_cpu_limit(level)
        defer { llv_cpu_limit(1000) }
        #expect(
          try ConformanceTests.run(row, on: CPUDevice(threads: 2)).map(\.bitPattern) == best, "\(row.name), \(level)")
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

  @Test("attention takes extreme scores")
  func attentionTakesExtremeScores() throws {
    // One column: scores are the products of queries and keys.
    let attention = Op.attention(.init(heads: 1, keyValueHeads: 1, headWidth: 1, scale: 1, isCausal: false))
    let device = CPUDevice(threads: 1)
    func weights(_ keys: [Float]) throws -> [Float] {
      let q = try ConformanceTests.activation(keys.map { _ in 1 }, [keys.count, 1], on: device)
      let k = try ConformanceTests.activation(keys, [keys.count, 1], on: device)
      let v = try ConformanceTests.activation(keys.indices.map { Float(1 << $0) }, [keys.count, 1], on: device)
      let starts = try ConformanceTests.indices([0, keys.count], on: device)
      return try device.download(try device.run(attention, [q, k, v, starts]))
    }
    #expect(try weights([1e30, 1e30, -1e30, 0]) == [1.5, 1.5, 1.5, 1.5])
    #expect(try weights([-3e38]) == [1])
  }
}
