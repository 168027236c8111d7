import Bytes
import CKernels
import Inference
import Tensors

/// Runs on an NVIDIA GPU, through our own kernels and nothing but the driver.
///
/// Products of 8-bit activations are those of the processor bit for bit; so are norms, activations and rounding, up to
/// the order of sums. All other products, attention's included, are of BF16, added in Float32 (Docs/reference/gpu.md).
/// A row of a result depends on that row's own sequence alone.
public struct GPUDevice: Device {
  public let name = "gpu"
  public let tokensPerBatch = 16_384
  let engine: Engine
  private let turns = RotaryTurns()
  private let kept = Kept()

  /// Small arrays that many operations use.
  private final class Kept: Sendable {
    let turns = Lock<[Op.Rotation: (source: Buffer, memory: Memory)]>([:])
    let channels = Lock<[Op.Rescale: Memory]>([:])
  }

  /// - Parameter index: the driver's number of the GPU.
  /// - Throws: `unsupported` where there is no driver, no such GPU, or one that is too old.
  public init(_ driver: Driver, index: Int = 0) throws(Failure) { engine = try Engine(driver, index: index) }

  public var card: Driver.Card { engine.card }

  /// Weights that are kept on the GPU when nobody says otherwise: four fifths of what is free.
  public func defaultMemory() throws(Failure) -> Int { try engine.freeMemory() / 5 * 4 }

  // MARK: Copies

  public func upload(_ tensor: Tensor, isLinear: Bool) throws(Failure) -> DeviceBuffer {
    var tensor = tensor.matrix
    let isVector = tensor.shape.count <= 1
    if case .plain(let type) = tensor.encoding {
      if type == .I32 {
        let indices = Indices(engine, try tensor.load().array(of: Int32.self))
        return DeviceBuffer(
          rows: isVector ? tensor.count : tensor.rows, columns: isVector ? 1 : tensor.columns, storage: indices)
      }
      if type == .U8 {
        var memory: Memory?
        try tensor.load().withBytes { (bytes) throws(Failure) in memory = try engine.upload(bytes) }
        guard let memory else { throw Failure(.internal, "nothing was copied") }
        return DeviceBuffer(rows: tensor.rows, columns: tensor.columns, storage: Pixels(memory))
      }
      // Gains and biases are few and used often; other types are rare.
      if isVector || ![.F32, .F16, .BF16].contains(type) {
        let floats = try tensor.floats().array(of: Float.self)
        if isVector, !isLinear { return try upload(floats: floats, columns: tensor.columns) }
        tensor = try Tensor(tensor.name, floats: floats, shape: tensor.shape)
      }
    }
    let weight = try Weight(tensor, try tensor.load(), isLinear: isLinear, engine)
    return DeviceBuffer(rows: tensor.rows, columns: tensor.columns, storage: weight)
  }

  public func upload(floats: [Float], columns: Int) throws(Failure) -> DeviceBuffer {
    value(floats.count / columns, columns, Floats(memory: try engine.upload(floats), stride: columns))
  }

  public func download(_ buffer: DeviceBuffer) throws(Failure) -> [Float] {
    var floats = try value(buffer).floats()
    let (rows, columns) = (buffer.rows, buffer.columns)
    if floats.stride != columns {
      let dense = Floats(memory: try engine.allocate(rows * columns * 4), stride: columns)
      try engine.launch(
        .rowsFloat, (rows, 1), RowProgram(floats).arguments(columns) + [.memory(dense.memory), .int(columns)])
      floats = dense
    }
    var result: Result<Void, Failure> = .success(())
    let elements = [Float](unsafeUninitializedCapacity: rows * columns) { target, count in
      do throws(Failure) {
        try engine.download(
          floats.memory, at: floats.first * 4,
          into: UnsafeMutableRawBufferPointer(start: target.baseAddress, count: rows * columns * 4))
        count = rows * columns
      } catch { result = .failure(error) }
    }
    try result.get()
    return elements
  }

  public func finish() throws(Failure) { try engine.finish() }

  // MARK: Operations

  public func run(
    _ op: Op, _ inputs: [DeviceBuffer], then steps: [FollowingStep]
  ) throws(Failure) -> DeviceBuffer {
    switch op {
    case .linear: break
    default: guard steps.isEmpty else { throw Failure(.internal, "steps after an operation that is not linear") }
    }
    return switch op {
    case .linear(let input): try linear(input, inputs, steps)
    case .embedding(let offset): try lookup(inputs, offset: offset)
    case .row(let index): try row(index, of: inputs[0])
    case .add: try combine(inputs, Int(LLV_ADD))
    case .multiply: try combine(inputs, Int(LLV_MULTIPLY))
    case .activation(let kind): try activation(kind, inputs[0])
    case .norm(let kind, let epsilon, let heads):
      try heads == 1 ? norm(.init(kind), epsilon, inputs) : normHeads(.init(kind), epsilon, heads, inputs)
    case .normalize: try norm(.length, 0, inputs)
    case .rescale(let rescale): try self.rescale(inputs[0], rescale)
    case .rope(let rotation): try rope(inputs[0], inputs[1], rotation)
    case .interpolate: try interpolate(inputs)
    case .slice(let offset, let count): try slice(inputs[0], offset, count)
    case .concatenate: try concatenate(inputs)
    case .route(let top): try route(inputs[0], top)
    case .routed(let expert): try routed(inputs[0], inputs[1], expert)
    case .mix: try mix(inputs)
    case .attention(let attention): try self.attention(attention, inputs)
    case .pool(let kind): try pool(kind, inputs[0], inputs[1])
    }
  }

  // MARK: Rows

  private func activation(_ kind: Op.Activation, _ x: DeviceBuffer) throws(Failure) -> DeviceBuffer {
    var row = RowProgram(try value(x).floats())
    row.activation = Int(kind.kernel)
    return value(x.rows, x.columns, .rows(row))
  }

  private func combine(_ inputs: [DeviceBuffer], _ with: Int) throws(Failure) -> DeviceBuffer {
    let other = try value(inputs[1]).floats()
    var row = try value(inputs[0]).row()
    if row.with != 0 || row.norm != .none { row = RowProgram(try value(inputs[0]).floats()) }
    row.with = with
    row.other = Floats(memory: other.memory, first: other.first, stride: inputs[1].rows == 1 ? 0 : other.stride)
    return value(inputs[0].rows, inputs[0].columns, .rows(row))
  }

  private func norm(
    _ kind: RowProgram.Norm, _ epsilon: Double, _ inputs: [DeviceBuffer]
  ) throws(Failure) -> DeviceBuffer {
    var row = try value(inputs[0]).row()
    if row.norm != .none { row = RowProgram(try value(inputs[0]).floats()) }
    row.norm = kind
    row.epsilon = epsilon
    if inputs.count > 1 { row.gain = try value(inputs[1]).floats() }
    if inputs.count > 2 { row.bias = try value(inputs[2]).floats() }
    return value(inputs[0].rows, inputs[0].columns, .rows(row))
  }

  private func normHeads(
    _ kind: RowProgram.Norm, _ epsilon: Double, _ heads: Int, _ inputs: [DeviceBuffer]
  ) throws(Failure) -> DeviceBuffer {
    let x = try value(inputs[0]).floats()
    let (rows, columns) = (inputs[0].rows, inputs[0].columns)
    func vector(_ place: Int) throws(Failure) -> Argument {
      inputs.count > place ? try value(inputs[place]).floats().argument : .null
    }
    let result = try engine.allocate(rows * columns * 4)
    try engine.launch(
      .normHeads, (rows, 1),
      [
        x.argument, .int(x.stride), .int(kind.rawValue), .double(epsilon), try vector(1), try vector(2),
        .int(columns / heads), .int(heads), .memory(result),
      ])
    return value(rows, columns, Floats(memory: result, stride: columns))
  }

  /// Columns side by side: each value's rows are made in their place.
  private func concatenate(_ inputs: [DeviceBuffer]) throws(Failure) -> DeviceBuffer {
    let (rows, columns) = (inputs[0].rows, inputs.reduce(0) { $0 + $1.columns })
    let result = try engine.allocate(rows * columns * 4)
    var place = 0
    for input in inputs {
      try engine.launch(
        .rowsFloat, (rows, 1),
        try value(input).row().arguments(input.columns) + [.memory(result, at: place * 4), .int(columns)])
      place += input.columns
    }
    return value(rows, columns, Floats(memory: result, stride: columns))
  }

  private func rescale(_ x: DeviceBuffer, _ rescale: Op.Rescale) throws(Failure) -> DeviceBuffer {
    let channels = try kept.channels.withLock { (channels) throws(Failure) in
      if let found = channels[rescale] { return found }
      let made = try engine.upload((rescale.mean + rescale.deviation).map { Float($0) })
      channels[rescale] = made
      return made
    }
    let count = rescale.mean.count
    if let pixels = x.storage as? Pixels {
      return value(
        x.rows, x.columns,
        .rescale(pixels.memory, nil, factor: rescale.factor, channels: channels, count: count))
    }
    let floats = try value(x).floats()
    return value(
      x.rows, x.columns, .rescale(floats.memory, floats, factor: rescale.factor, channels: channels, count: count))
  }

  private func rope(
    _ x: DeviceBuffer, _ positions: DeviceBuffer, _ rotation: Op.Rotation
  ) throws(Failure) -> DeviceBuffer {
    let places = try indices(positions)
    let table = try turns.table(rotation, positions: Int(places.values.max() ?? 0) + 1)
    let memory = try kept.turns.withLock { (kept) throws(Failure) in
      if let found = kept[rotation], found.source === table { return found.memory }
      let made = try engine.upload(table.array(of: Float.self))
      kept[rotation] = (table, made)
      return made
    }
    return value(
      x.rows, x.columns,
      .rope(try value(x).floats(), positions: try places.onGPU(), turns: memory, width: rotation.headWidth))
  }

  /// Columns of a value: the same memory.
  private func slice(_ x: DeviceBuffer, _ offset: Int, _ count: Int) throws(Failure) -> DeviceBuffer {
    var floats = try value(x).floats()
    floats.first += offset
    return value(x.rows, count, floats)
  }

  // MARK: Lookups

  private func lookup(_ inputs: [DeviceBuffer], offset: Int) throws(Failure) -> DeviceBuffer {
    let (table, ids) = (try weight(inputs[0]), try indices(inputs[1]))
    let features = inputs.count > 2 ? try value(inputs[2]).floats() : nil
    let featureCount = inputs.count > 2 ? inputs[2].rows : 0
    if let bad = ids.values.first(where: { $0 < -featureCount || $0 >= inputs[0].rows - offset }) {
      throw Failure(
        .malformed, "index \(bad) has no row; the table has \(inputs[0].rows - offset)",
        thing: "tensor \(table.tensor.name.quoted)")
    }
    return try lookup(
      table, ids.values.count, inputs[0].columns, [.memory(try ids.onGPU()), .int(offset)], features: features)
  }

  private func row(_ index: Int, of buffer: DeviceBuffer) throws(Failure) -> DeviceBuffer {
    if buffer.storage is Value {
      var floats = try value(buffer).floats()
      floats.first += index * floats.stride
      return value(1, buffer.columns, floats)
    }
    return try lookup(try weight(buffer), 1, buffer.columns, [.null, .int(index)], features: nil)
  }

  private func lookup(
    _ table: Weight, _ rows: Int, _ columns: Int, _ ids: [Argument], features: Floats?
  ) throws(Failure) -> DeviceBuffer {
    let result = try engine.allocate(rows * columns * 4)
    try engine.launch(
      .lookup, (rows, 1),
      try table.encoded() + ids + [features?.argument ?? .null, .int(features?.stride ?? 0), .memory(result)])
    return value(rows, columns, Floats(memory: result, stride: columns))
  }

  private func interpolate(_ inputs: [DeviceBuffer]) throws(Failure) -> DeviceBuffer {
    let (x, apart) = (try value(inputs[0]).floats(), try value(inputs[1]).floats())
    let taps = try indices(inputs[2])
    if let bad = taps.values.first(where: { $0 < -1 || $0 >= inputs[0].rows }) {
      throw Failure(.internal, "feature blends row \(bad) of \(inputs[0].rows)")
    }
    let weights = try value(inputs[3]).floats()
    let (rows, columns) = (inputs[2].rows, inputs[0].columns)
    let result = try engine.allocate(rows * columns * 4)
    try engine.launch(
      .interpolate, (rows, 1),
      [
        x.argument, .int(x.stride), apart.argument, .memory(try taps.onGPU()), weights.argument,
        .int(inputs[2].columns),
        .int(columns), .memory(result),
      ])
    return value(rows, columns, Floats(memory: result, stride: columns))
  }

  private func pool(_ kind: Op.Pooling, _ x: DeviceBuffer, _ starts: DeviceBuffer) throws(Failure) -> DeviceBuffer {
    let starts = try indices(starts)
    let rows = starts.values.count - 1
    if let source = x.storage as? Indices {
      let picked = zip(starts.values, starts.values.dropFirst()).map {
        source.values[Int(kind == .first ? $0 : $1 - 1)]
      }
      return DeviceBuffer(rows: rows, columns: 1, storage: Indices(engine, picked))
    }
    let from = try value(x).floats()
    let result = try engine.allocate(rows * x.columns * 4)
    let number =
      switch kind {
      // Those of lookup.cu.
      case .first: 0
      case .last: 1
      case .max: 2
      case .mean: 3
      case .weightedMean: 4
      case .rootMean: 5
      }
    try engine.launch(
      .pool, (rows, 1),
      [
        from.argument, .int(from.stride), .memory(try starts.onGPU()), .int(number), .int(x.columns), .memory(result),
      ])
    return value(rows, x.columns, Floats(memory: result, stride: x.columns))
  }

  // MARK: Values

  func value(_ rows: Int, _ columns: Int, _ floats: Floats) -> DeviceBuffer {
    DeviceBuffer(rows: rows, columns: columns, storage: Value(engine, rows: rows, columns: columns, floats))
  }

  func value(_ rows: Int, _ columns: Int, _ program: Value.Program) -> DeviceBuffer {
    DeviceBuffer(rows: rows, columns: columns, storage: Value(engine, rows: rows, columns: columns, program))
  }

  func value(_ buffer: DeviceBuffer) throws(Failure) -> Value {
    // Pixels as they are, where a model rescales nothing.
    if buffer.storage is Pixels { return try value(rescale(buffer, .init(factor: 1, mean: [0], deviation: [1]))) }
    guard let value = buffer.storage as? Value else {
      throw Failure(.internal, "a value of another device, or a weight")
    }
    return value
  }

  func weight(_ buffer: DeviceBuffer) throws(Failure) -> Weight {
    guard let weight = buffer.storage as? Weight else {
      throw Failure(.internal, "a weight of another device, or a value")
    }
    return weight
  }

  func indices(_ buffer: DeviceBuffer) throws(Failure) -> Indices {
    guard let indices = buffer.storage as? Indices else {
      throw Failure(.internal, "indices of another device, or a value")
    }
    return indices
  }
}
