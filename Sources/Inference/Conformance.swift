import Bytes
import CKernels
import Glibc
import Tensors

/// A table of operations with made-up inputs, the same for every device, held to the double-precision reference: what
/// tests run, and what `llvconv devices --check` runs on a machine's own hardware.
public struct Conformance {
  public struct Row: Sendable {
    public let name: String
    public let op: Op
    /// Shapes of the inputs; indices come last where the operation takes them.
    let shapes: [[Int]]
    var starts = false
    /// Tokens before the first sequence, which all of them share.
    var prefix = 0
    /// Where sequences start, and where the last ends, if not where most rows have them.
    var sequences: [Int32]?
    var ids = 0
    /// Indices in the place of an input of this shape, below the bound; -1 is one of them.
    var taps: (shape: [Int], below: Int)?
    var positions = 0
    /// Shape of a table that comes last.
    var biases: [Int]?
    /// Experts that the second and all later inputs are made of: the first is then their scores, of which so many are
    /// chosen.
    var experts: Int?
    var encoding: GroupedInteger?
    /// The weight in BF16.
    var isBFloat = false
    public let tolerance: Float
  }

  static let attention = Op.Attention(heads: 4, keyValueHeads: 4, headWidth: 8, scale: 0.35, isCausal: false)
  public static var rows: [Row] {
    var rows: [Row] = [
      Row(name: "embedding", op: .embedding(), shapes: [[11, 7]], ids: 19, tolerance: 0),
      Row(name: "row", op: .row(3), shapes: [[11, 7]], tolerance: 0),
      Row(name: "linear", op: .linear(.float), shapes: [[13, 37], [29, 37], [29]], tolerance: 2e-6),
      Row(name: "linear, no bias", op: .linear(.float), shapes: [[130, 64], [140, 64]], tolerance: 2e-6),
      Row(name: "linear, one token", op: .linear(.float), shapes: [[1, 96], [300, 96], [300]], tolerance: 2e-6),
      Row(name: "add", op: .add, shapes: [[13, 8], [13, 8]], tolerance: 1e-7),
      Row(name: "add row", op: .add, shapes: [[13, 8], [1, 8]], tolerance: 1e-7),
      Row(name: "norm", op: .norm(.layer, epsilon: 1e-12), shapes: [[13, 37], [37], [37]], tolerance: 1e-6),
      Row(name: "norm, bare", op: .norm(.layer, epsilon: 1e-5), shapes: [[13, 8]], tolerance: 1e-6),
      Row(name: "rms norm", op: .norm(.rms, epsilon: 1e-6), shapes: [[13, 37], [37]], tolerance: 1e-6),
      Row(
        name: "rms norm, heads, gain plus one", op: .norm(.rmsPlusOne, epsilon: 1e-6, heads: 3),
        shapes: [[13, 36], [12]],
        tolerance: 1e-6),
      Row(
        name: "norm, heads", op: .norm(.layer, epsilon: 1e-5, heads: 2), shapes: [[13, 18], [9], [9]], tolerance: 1e-6),
      Row(name: "embedding with an offset", op: .embedding(offset: 2), shapes: [[13, 7]], ids: 19, tolerance: 0),
      Row(name: "concatenate", op: .concatenate, shapes: [[13, 9], [13, 4], [13, 1]], tolerance: 0),
      Row(name: "max", op: .pool(.max), shapes: [[19, 9]], starts: true, tolerance: 0),
      Row(name: "weighted mean", op: .pool(.weightedMean), shapes: [[19, 9]], starts: true, tolerance: 1e-7),
      Row(name: "root mean", op: .pool(.rootMean), shapes: [[19, 9]], starts: true, tolerance: 1e-7),
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
      Row(
        name: "rope", op: .rope(.init(theta: 1e6, headWidth: 8)), shapes: [[19, 24]], positions: 19, tolerance: 5e-7),
      Row(
        name: "interpolate", op: .interpolate, shapes: [[11, 9], [9], [17, 4]], taps: ([17, 4], 11), tolerance: 1e-6),
      Row(name: "embedding with features", op: .embedding(), shapes: [[11, 7], [5, 7]], ids: 19, tolerance: 0),
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
    for width in [32, 64, 72, 128, 256] {
      var wide = causal
      wide.headWidth = width
      wide.scale = 1 / Double(width).squareRoot()
      rows.append(
        Row(
          name: "causal with a prefix, heads of \(width)", op: .attention(wide),
          shapes: [[230, 4 * width], [230, 2 * width], [230, 2 * width]], starts: true, prefix: 70, tolerance: 1e-5))
    }
    rows += placeRows + expertRows
    // A number between two codes may fall to either.
    for (name, shapes, prefix) in [
      ("attention int8", [[19, 32], [19, 32], [19, 32]], 0),
      ("attention int8, one query a sequence", [[3, 32], [19, 32], [19, 32]], 0),
      ("causal int8 with a prefix", [[230, 288], [230, 144], [230, 144]], 70),
      ("causal int8 with a prefix, one query for all", [[1, 288], [230, 144], [230, 144]], 70),
    ] {
      var coarse = prefix > 0 ? causal : attention
      coarse.headWidth = shapes[0][1] / 4
      coarse.scale = 1 / Double(coarse.headWidth).squareRoot()
      coarse.input = .int8
      rows.append(
        Row(name: name, op: .attention(coarse), shapes: shapes, starts: true, prefix: prefix, tolerance: 4e-3))
    }
    // Sequences and prefixes of several blocks of 256 keys.
    for (width, isCausal, sequences) in [
      (32, true, [20, 21, 310]), (64, false, [300, 301, 640]), (128, false, [0, 600]),
    ] {
      var coarse = Op.Attention(
        heads: 2, keyValueHeads: 1, headWidth: width, scale: 1 / Double(width).squareRoot(), isCausal: isCausal)
      coarse.input = .int8
      let tokens = sequences[sequences.count - 1]
      let queries = isCausal ? tokens : sequences.count - 1
      rows.append(
        Row(
          name: "attention int8 of \(tokens) tokens, heads of \(width)", op: .attention(coarse),
          shapes: [[queries, 2 * width], [tokens, width], [tokens, width]], starts: true,
          sequences: sequences.map { Int32($0) }, tolerance: 4e-3))
    }
    for (bits, group, form) in [
      (8, 32, .symmetric), (8, 96, .symmetric), (8, 32, .affine), (4, 32, .affine), (4, 32, .symmetric),
      (4, 20, .affine),
      (4, 33, .symmetric), (8, 7, .symmetric), (4, 16, .twoLevel), (4, 40, .twoLevel), (4, 96, .twoLevel),
      (3, 32, .affine), (3, 21, .symmetric), (3, 24, .twoLevel), (3, 96, .twoLevel),
      (2, 32, .affine), (2, 21, .symmetric), (2, 16, .twoLevel), (2, 40, .twoLevel),
    ] as [(Int, Int, GroupedInteger.Form)] {
      guard let integers = encoding(bits, group, form) else { continue }
      for input in Op.LinearInput.allCases {
        rows.append(
          Row(
            name: "linear \(integers.text) \(input)", op: .linear(input), shapes: [[70, 96], [37, 96], [37]],
            encoding: integers, tolerance: 7e-6))
      }
      rows.append(
        Row(
          name: "embedding \(integers.text)", op: .embedding(), shapes: [[11, 96]], ids: 19, encoding: integers,
          tolerance: 1e-6))
    }
    // Several tiles of every kernel, more slices than any pipeline is deep, and rows and outputs that fill no tile.
    for (bits, group, form) in [
      (8, 700, .symmetric), (8, 700, .affine), (8, 64, .symmetric), (4, 128, .affine), (4, 32, .symmetric),
      (4, 16, .twoLevel), (4, 104, .twoLevel), (3, 32, .affine), (3, 24, .twoLevel), (2, 64, .symmetric),
      (2, 32, .twoLevel),
    ] as [(Int, Int, GroupedInteger.Form)] {
      guard let integers = encoding(bits, group, form) else { continue }
      rows.append(
        Row(
          name: "large linear \(integers.text)", op: .linear(.int8), shapes: [[140, 700], [270, 700], [270]],
          encoding: integers, tolerance: 1e-5))
    }
    rows.append(
      Row(name: "large linear", op: .linear(.float), shapes: [[140, 700], [270, 700], [270]], tolerance: 5e-6))
    for input in [Op.LinearInput.float, .bfloat16] {
      rows.append(
        Row(
          name: "linear BF16 \(input)", op: .linear(input), shapes: [[70, 95], [37, 95], [37]], isBFloat: true,
          tolerance: 2e-6))
    }
    return rows
  }

  /// What depends on tokens' places: rotations that are slowed down, windows, biases for distances.
  private static var placeRows: [Row] {
    var rows: [Row] = []
    for (name, scaling) in [
      ("linear", .linear(factor: 4)), ("llama3", .llama3(factor: 8, low: 1, high: 4, original: 128)),
      (
        "yarn",
        .yarn(factor: 4, slow: 1, fast: 32, original: 256, magnitude: 1.138629436, isTruncated: true)
      ),
    ] as [(String, Op.Rotation.Scaling)] {
      rows.append(
        Row(
          name: "rope, \(name)", op: .rope(.init(theta: 1e4, headWidth: 16, scaling: scaling)), shapes: [[19, 48]],
          positions: 19, tolerance: 5e-7))
    }
    for (name, isCausal, window, prefix) in [
      ("window", false, 3, 0), ("window with a prefix", false, 33, 70), ("causal window with a prefix", true, 40, 70),
      ("a window of one", false, 1, 0), ("a window wider than all", true, 500, 70),
    ] {
      for input in [Op.LinearInput.float, .int8] {
        var near = attention
        (near.isCausal, near.window, near.input) = (isCausal, window, input)
        (near.headWidth, near.keyValueHeads, near.scale) = (32, 2, 0.2)
        let tokens = prefix > 0 ? 230 : 19
        rows.append(
          Row(
            name: "attention \(input), \(name)", op: .attention(near),
            shapes: [[tokens, 128], [tokens, 64], [tokens, 64]],
            starts: true, prefix: prefix, tolerance: input == .int8 ? 4e-3 : 2e-6))
      }
    }
    // Blocks of keys that a row does not see at all.
    for input in [Op.LinearInput.float, .int8] {
      var near = attention
      (near.window, near.input, near.scale) = (70, input, 0.3)
      rows.append(
        Row(
          name: "attention \(input), window in 900 tokens", op: .attention(near),
          shapes: [[900, 32], [900, 32], [900, 32]], starts: true, sequences: [0, 5, 900],
          tolerance: input == .int8 ? 4e-3 : 2e-6))
    }
    // The same of a shared prefix, and of a sequence behind one.
    for (prefix, tokens, window) in [(600, 690, 300), (70, 430, 33)] {
      for input in [Op.LinearInput.float, .int8] {
        var near = Op.Attention(heads: 2, keyValueHeads: 1, headWidth: 32, scale: 0.2, isCausal: false)
        (near.window, near.input) = (window, input)
        rows.append(
          Row(
            name: "attention \(input), window of \(window), prefix of \(prefix)", op: .attention(near),
            shapes: [[tokens, 64], [tokens, 32], [tokens, 32]], starts: true, prefix: prefix,
            sequences: [prefix, prefix + 1, tokens].map { Int32($0) }, tolerance: input == .int8 ? 4e-3 : 2e-6))
      }
    }
    for (isCausal, window) in [(false, nil), (true, 40)] as [(Bool, Int?)] {
      var biased = Op.Attention(heads: 2, keyValueHeads: 2, headWidth: 64, scale: 0.2, isCausal: isCausal)
      (biased.farthest, biased.window) = (50, window)
      rows.append(
        Row(
          name: "attention with biases, heads of 64" + (window == nil ? "" : ", causal with a window"),
          op: .attention(biased), shapes: [[230, 128], [230, 128], [230, 128]], starts: true, prefix: 70,
          biases: [32, 2], tolerance: 1e-5))
    }
    for (heads, width, isCausal, prefix) in [(4, 8, false, 0), (6, 8, true, 70), (3, 64, false, 70)] {
      var sloped = Op.Attention(
        heads: heads, keyValueHeads: heads, headWidth: width, scale: width == 8 ? 0.2 : 0.1, isCausal: isCausal)
      sloped.hasSlopes = true
      let tokens = prefix > 0 ? 230 : 19
      rows.append(
        Row(
          name: "attention with slopes of \(heads) heads", op: .attention(sloped),
          shapes: Array(repeating: [tokens, heads * width], count: 3), starts: true, prefix: prefix, tolerance: 5e-6))
    }
    for prefix in [0, 70] {
      var biased = attention
      biased.farthest = 20
      let tokens = prefix > 0 ? 230 : 19
      rows.append(
        Row(
          name: "attention with biases" + (prefix > 0 ? " and a prefix" : ""), op: .attention(biased),
          shapes: [[tokens, 32], [tokens, 32], [tokens, 32]], starts: true, prefix: prefix, biases: [16, 4],
          tolerance: 2e-6))
    }
    return rows
  }

  /// Of five experts, three tokens may go to the same two, and one expert may get none.
  private static var expertRows: [Row] {
    var rows = [1, 2, 5].map { top in
      Row(name: "route to \(top)", op: .route(top: top), shapes: [[13, 5]], tolerance: 2e-7)
    }
    for tokens in [3, 70] {
      rows += [
        Row(name: "rows routed of \(tokens)", op: .routed(expert: 1), shapes: [[tokens, 9]], experts: 5, tolerance: 0),
        Row(name: "mix of \(tokens)", op: .mix, shapes: [[tokens, 9]], experts: 5, tolerance: 5e-7),
      ]
    }
    return rows
  }

  /// Inputs of an operation on experts, from the input of them all: shares from its first columns, and each expert's
  /// rows.
  private static func shared(_ row: Row, _ x: DeviceBuffer, _ experts: Int, on device: any Device) throws(Failure)
    -> [DeviceBuffer]
  {
    let scores = try device.run(.slice(offset: 0, count: experts), [x])
    let shares = try device.run(.route(top: 2), [scores])
    guard row.op == .mix else { return [x, shares] }
    var inputs = [shares]
    for expert in 0..<experts { inputs.append(try device.run(.routed(expert: expert), [x, shares])) }
    return inputs
  }

  /// Uploads a row's inputs to a device and runs it.
  public static func run(_ row: Row, on device: any Device) throws(Failure) -> [Float] {
    var random = Random(seed: 17)
    var inputs: [DeviceBuffer] = []
    for (place, shape) in row.shapes.enumerated() {
      let values = (0..<shape.reduce(1, *)).map { _ in 2 * random.normal() }
      let isWeight = place == (row.isEmbedding ? 0 : 1)
      if let integers = row.encoding, isWeight {
        inputs.append(try device.upload(try grouped(integers, shape, &random), isLinear: row.isLinear))
      } else if row.isBFloat, isWeight {
        let buffer = try Buffer(count: values.count * 2)
        buffer.with(UInt16.self) { for (i, value) in values.enumerated() { $0[i] = UInt16(value.bitPattern >> 16) } }
        let tensor = Tensor("w", shape: shape, encoding: .plain(.BF16), content: .bytes(ByteView(buffer)))
        inputs.append(try device.upload(tensor, isLinear: true))
      } else if place == 0, !row.isEmbedding, !row.isTable {
        inputs.append(try activation(values, shape, on: device))
      } else if row.isWeightInput(place), !row.isEmbedding || place == 0 {
        inputs.append(
          try device.upload(try Tensor("w", floats: values, shape: shape), isLinear: row.isLinear && place == 1))
      } else {
        inputs.append(try activation(values, shape, on: device))
      }
    }
    if row.ids > 0 {
      let features = row.shapes.count > 1 ? row.shapes[1][0] : 0
      let below = row.shapes[0][0] - row.embeddingOffset
      let ids = (0..<row.ids).map { _ in Int32(random.below(below + features) - features) }
      inputs.insert(try device.upload(indices: ids), at: 1)
    }
    if let taps = row.taps {
      let values = (0..<taps.shape.reduce(1, *)).map { _ in Int32(random.below(taps.below + 1) - 1) }
      inputs.insert(try device.upload(indices: values, columns: taps.shape[1]), at: 2)
    }
    if row.positions > 0 { inputs.append(try device.upload(indices: (0..<row.positions).map { Int32($0 * 37) })) }
    if row.starts {
      let usual = row.prefix > 0 ? [Int32(row.prefix), 71, 150, 230] : [0, 1, 8, 19]
      inputs.append(try device.upload(indices: row.sequences ?? usual))
    }
    if let shape = row.biases {
      let values = (0..<shape.reduce(1, *)).map { _ in random.normal() }
      inputs.append(try device.upload(try Tensor("w", floats: values, shape: shape)))
    }
    if let experts = row.experts { inputs = try shared(row, inputs[0], experts, on: device) }
    return try device.download(try device.run(row.op, inputs))
  }

  /// Activations get onto a device as the result of an operation that changes nothing: a lookup of every row.
  public static func activation(
    _ values: [Float], _ shape: [Int], on device: any Device
  ) throws(Failure) -> DeviceBuffer {
    let table = try device.upload(try Tensor("x", floats: values, shape: shape))
    return try device.run(.embedding(), [table, try device.upload(indices: Array(0..<Int32(shape[0])))])
  }

  private static func encoding(_ bits: Int, _ group: Int, _ form: GroupedInteger.Form) -> GroupedInteger? {
    GroupedInteger(bits: bits, groupSize: group, form: form, scaleType: form == .twoLevel ? .BF16 : .F16)
  }

  /// Random codes, scales and zeros. Where many weights share a scale, large ones are rare.
  private static func grouped(
    _ integers: GroupedInteger, _ shape: [Int], _ random: inout Random
  ) throws(Failure) -> Tensor {
    guard let layout = integers.layout(shape) else { throw Failure(.internal, "no layout for \(shape)") }
    let buffer = try Buffer(count: layout.byteCount)
    let isRare = integers.bits == 8 && integers.groupSize >= 96
    buffer.with(UInt8.self) {
      for index in 0..<$0.count {
        let code = Int8(truncatingIfNeeded: random.next() >> 20)
        $0[index] = UInt8(bitPattern: isRare && index % 37 > 0 ? code / 4 : code) ^ (integers.isAffine ? 0x80 : 0)
      }
    }
    buffer.withMutableBytes { bytes in
      guard integers.form == .twoLevel else {
        for at in stride(from: layout.scalesAt, to: layout.byteCount, by: 2) {
          bytes.storeBytes(of: llv_half_from_float(0.02 * random.normal()), toByteOffset: at, as: UInt16.self)
        }
        return
      }
      for row in 0..<layout.rows {
        let scale = UInt16((0.004 * abs(random.normal())).bitPattern >> 16)
        bytes.storeBytes(of: scale, toByteOffset: layout.scalesAt + 2 * row, as: UInt16.self)
      }
      for at in layout.zerosAt..<layout.byteCount {
        // The middle of the codes goes with any step, every zero with those of up to eight.
        let step = random.below(16)
        bytes[at] = UInt8(step + 16 * (step < 8 ? random.below(16) : 8))
      }
    }
    return Tensor("w", shape: shape, encoding: .grouped(integers), content: .bytes(ByteView(buffer)))
  }

  // MARK: Outcomes

  /// How a device did in one row.
  public struct Outcome: Sendable {
    public let name: String
    /// The largest difference to the reference, relative to the largest value of the result or to 1; what is allowed.
    public let error, tolerance: Double
    /// Of integer products, whether the processor gives the same bits.
    public let hasSameBits: Bool?
    public var passes: Bool { error <= tolerance && hasSameBits ?? true }
  }

  /// What a row has to give: the reference's values, and of integer products the processor's bits.
  public struct Truth: Sendable {
    let reference: [Float]
    let processor: [UInt32]?

    public init(_ row: Row) throws(Failure) {
      reference = try run(row, on: ReferenceDevice())
      processor = row.isInteger ? try run(row, on: CPUDevice()).map(\.bitPattern) : nil
    }
  }

  /// Runs a row on a device and compares.
  public static func check(_ row: Row, on device: any Device, _ truth: Truth? = nil) throws(Failure) -> Outcome {
    let truth = if let truth { truth } else { try Truth(row) }
    let (expected, found) = (truth.reference, try run(row, on: device))
    let size = max(expected.map(abs).max() ?? 0, 1)
    var worst = expected.count == found.count && !found.isEmpty ? 0.0 : .infinity
    for (a, b) in zip(expected, found) {
      let error = Double(abs(a - b) / size)
      worst = error > worst || error.isNaN ? error : worst
    }
    return Outcome(
      name: row.name, error: worst, tolerance: Double(device is CPUDevice ? row.tolerance : row.gpuTolerance),
      hasSameBits: truth.processor.map { $0 == found.map(\.bitPattern) })
  }
}

extension Conformance.Row {
  var isEmbedding: Bool { if case .embedding = op { true } else { false } }
  var embeddingOffset: Int { if case .embedding(let offset) = op { offset } else { 0 } }

  var isTable: Bool {
    if case .row = op { true } else { isEmbedding }
  }

  /// Whether sums of products are of integers, exact.
  public var isInteger: Bool {
    if case .attention(let attention) = op { return attention.input == .int8 }
    return op == .linear(.int8) && encoding != nil
  }

  /// A GPU multiplies BF16 where the reference multiplies as it is: both sides are rounded by 2^-9 at most.
  public var gpuTolerance: Float {
    switch op {
    case .linear where !isInteger: 1e-2
    case .attention(let attention) where !isInteger && [32, 64, 72, 128, 256].contains(attention.headWidth): 2e-2
    default: tolerance
    }
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
