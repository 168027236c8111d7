import Bytes
import Inference
import Tensors

/// Rows of Float32 on the GPU.
struct Floats: Sendable {
  let memory: Memory
  /// Elements before the first row, and from one row to the next.
  var first = 0
  var stride: Int

  var argument: Argument { .memory(memory, at: first * 4) }
}

/// Activations, in the forms that were asked for. What a norm or an activation makes is computed when it is known which
/// form is wanted: most are wanted as codes alone.
final class Value: Sendable {
  let rows, columns: Int
  private let engine: Engine
  private let state: Lock<State>

  struct State: Sendable {
    /// How it is made; nil once it is there.
    var program: Program?
    var floats: Floats?
    var bfloat16: Memory?
    var codes: [Codes.Form: Codes] = [:]
  }

  /// A row of a value from the same row of others.
  enum Program: Sendable {
    case rows(RowProgram)
    case rope(Floats, positions: Memory, turns: Memory, width: Int)
    /// Pixels as bytes or as floats.
    case rescale(Memory, Floats?, factor: Double, channels: Memory, count: Int)
  }

  init(_ engine: Engine, rows: Int, columns: Int, _ floats: Floats) {
    (self.engine, self.rows, self.columns) = (engine, rows, columns)
    state = Lock(State(floats: floats))
  }

  init(_ engine: Engine, rows: Int, columns: Int, _ program: Program) {
    (self.engine, self.rows, self.columns) = (engine, rows, columns)
    state = Lock(State(program: program))
  }

  // MARK: Forms

  func floats() throws(Failure) -> Floats {
    try state.withLock { (state) throws(Failure) in
      if let floats = state.floats { return floats }
      guard let program = state.program else { throw Failure(.internal, "a value without a source") }
      let floats = Floats(memory: try engine.allocate(rows * columns * 4), stride: columns)
      switch program {
      case .rows(let row):
        try engine.launch(.rowsFloat, (rows, 1), row.arguments(columns) + [.memory(floats.memory), .int(columns)])
      case .rope(let x, let positions, let turns, let width):
        try rope(x, positions, turns, width, floats.memory, places: columns, isBFloat16: false)
      case .rescale(let bytes, let x, let factor, let channels, let count):
        try engine.launch(
          .rescale, (rows, 1),
          [
            x?.argument ?? .memory(bytes), .int(x == nil ? 1 : 0), .int(x?.stride ?? columns), .double(factor),
            .memory(channels), .memory(channels, at: count * 4), .int(count), .int(columns),
            .memory(floats.memory),
          ])
      }
      state.program = nil
      state.floats = floats
      return floats
    }
  }

  /// The program that makes a row, as far as others can go on from it.
  func row() throws(Failure) -> RowProgram {
    let pending: RowProgram? = state.withLock { state in
      if case .rows(let row) = state.program { row } else { nil }
    }
    if let pending { return pending }
    return RowProgram(try floats())
  }

  static func places(bfloat16 columns: Int) -> Int { (columns + 63) / 64 * 64 }

  /// Rounded to BF16, rows filled up to `places(bfloat16:)` with zeros.
  func bfloat16() throws(Failure) -> Memory {
    if let memory = state.withLock({ $0.bfloat16 }) { return memory }
    let places = Value.places(bfloat16: columns)
    let memory = try engine.allocate(rows * places * 2)
    let program = state.withLock { $0.program }
    if case .rope(let x, let positions, let turns, let width) = program, columns == places {
      try rope(x, positions, turns, width, memory, places: places, isBFloat16: true)
    } else {
      try engine.launch(.rowsBFloat16, (rows, 1), try row().arguments(columns) + [.memory(memory), .int(places)])
    }
    state.withLock { $0.bfloat16 = memory }
    return memory
  }

  /// 8-bit codes for weights of this form.
  func codes(_ form: Codes.Form) throws(Failure) -> Codes {
    if let codes = state.withLock({ $0.codes[form] }) { return codes }
    let groups = Checked.ceilDivide(columns, form.group)
    let codes = Codes(
      codes: try engine.allocate(rows * form.places), scales: try engine.allocate(rows * groups * 4),
      sums: try engine.allocate(rows * groups * 4))
    try engine.launch(
      .rowsInt8, (rows, 1),
      try row().arguments(columns) + [
        .memory(codes.codes), .int(form.places), .memory(codes.scales), .memory(codes.sums), .int(rows),
        .int(form.group), .int(form.stripe),
      ])
    state.withLock { $0.codes[form] = codes }
    return codes
  }

  private func rope(
    _ x: Floats, _ positions: Memory, _ turns: Memory, _ width: Int, _ target: Memory, places: Int, isBFloat16: Bool
  ) throws(Failure) {
    try engine.launch(
      .rope, (rows, 1),
      [
        x.argument, .int(x.stride), .memory(positions), .memory(turns), .int(width), .int(columns), .memory(target),
        .int(places), .int(isBFloat16 ? 1 : 0),
      ])
  }
}

/// A row from the same row of others: activation(x) (+ or *) other, then a norm. The memory it names is held.
struct RowProgram: Sendable {
  /// With the numbers of rows.cu.
  enum Norm: Int, Sendable {
    case none, layer, rms, rmsPlusOne, length

    init(_ kind: Op.Norm) {
      self =
        switch kind {
        case .layer: .layer
        case .rms: .rms
        case .rmsPlusOne: .rmsPlusOne
        }
    }
  }

  var x: Floats
  /// A number of CKernels.h.
  var activation = 0
  /// LLV_ADD or LLV_MULTIPLY.
  var with = 0
  /// Of stride 0 where one row stands for all.
  var other: Floats?
  var norm = Norm.none
  var epsilon = 0.0
  var gain, bias: Floats?

  init(_ x: Floats) { self.x = x }

  func arguments(_ columns: Int) -> [Argument] {
    [
      x.argument, .int(x.stride), .int(activation), .int(with), other?.argument ?? .null, .int(other?.stride ?? 0),
      .int(norm.rawValue), .double(epsilon), gain?.argument ?? .null, bias?.argument ?? .null, .int(columns),
    ]
  }
}

/// Activations as 8-bit codes, `[rows, places]`, with scales and sums of codes `[groups, rows]`.
struct Codes: Sendable {
  /// What a weight wants: columns that share a scale, how many bytes they are filled up to, and bytes of a row.
  struct Form: Hashable, Sendable {
    let group, stripe, places: Int

    /// Products take 32 bytes at a time and slices of 128.
    init(columns: Int, group: Int) {
      self.group = group
      stripe = (group + 31) / 32 * 32
      places = (Checked.ceilDivide(columns, group) * stripe + 127) / 128 * 128
    }
  }

  let codes, scales, sums: Memory
}

/// Whole numbers, on both sides.
final class Indices: Sendable {
  let values: [Int32]
  private let engine: Engine
  private let memory = Lock<Memory?>(nil)
  private let spans = Lock<[Spans.Form: Spans]>([:])
  private let stretches = Lock<Stretches?>(nil)
  private let distances = Lock<[Distances.Form: Distances]>([:])
  private let slopes = Lock<[Int: Slopes]>([:])

  init(_ engine: Engine, _ values: [Int32]) { (self.engine, self.values) = (engine, values) }

  func onGPU() throws(Failure) -> Memory {
    try memory.withLock { (memory) throws(Failure) in
      if let memory { return memory }
      let new = try engine.upload(values)
      memory = new
      return new
    }
  }

  /// What blocks of an attention over these sequences work on, made once for all layers.
  func spans(_ form: Spans.Form) throws(Failure) -> Spans {
    try spans.withLock { (spans) throws(Failure) in
      if let found = spans[form] { return found }
      let new = try Spans(engine, values, form)
      spans[form] = new
      return new
    }
  }

  /// Stretches of keys of an attention over these sequences.
  func keyStretches() throws(Failure) -> Stretches {
    try stretches.withLock { (stretches) throws(Failure) in
      if let stretches { return stretches }
      let new = try Stretches(engine, values)
      stretches = new
      return new
    }
  }

  /// What slopes add to scores of these sequences.
  func slopes(_ attention: Op.Attention) throws(Failure) -> Slopes {
    try slopes.withLock { (slopes) throws(Failure) in
      if let found = slopes[attention.heads] { return found }
      let new = try Slopes(engine, values, attention)
      slopes[attention.heads] = new
      return new
    }
  }

  /// Distances between tokens of these sequences.
  func distances(_ form: Distances.Form) throws(Failure) -> Distances {
    try distances.withLock { (distances) throws(Failure) in
      if let found = distances[form] { return found }
      let new = try Distances(engine, values, form)
      distances[form] = new
      return new
    }
  }
}

/// Pixels as bytes.
final class Pixels: Sendable {
  let memory: Memory

  init(_ memory: Memory) { self.memory = memory }
}
