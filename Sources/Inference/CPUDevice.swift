import Bytes
import CKernels
import Tensors

/// Runs on the processor, through our own kernels.
///
/// A row of a result depends on that row's own sequence alone: not on the batch, the order, or the number of threads.
public struct CPUDevice: RowDevice {
  public let name = "cpu"
  package let threads: Int
  package let turns = RotaryTurns()
  /// What the kernels use beyond plain C, for people.
  public static var instructions: String {
    let names = (0..<UInt32.bitWidth).compactMap { bit in
      llv_cpu_features() & 1 << UInt32(bit) == 0 ? nil : llv_cpu_name(1 << UInt32(bit)).map { String(cString: $0) }
    }
    return names.isEmpty ? "plain C" : names.joined(separator: ", ")
  }
  private let rowsAtATime: Int?
  /// Few enough that what lies between two linear operations stays in the caches; of narrow values more, 12 MiB, so
  /// that weights are read less often.
  public func rowsAtATime(columns: Int) -> Int {
    let (few, narrow) = (528, (3 << 20) / max(1, columns))
    return rowsAtATime ?? (narrow >= 2 * few ? narrow : few)
  }

  /// - Parameter rowsAtATime: no result depends on it; nil for what suits the caches.
  public init(threads: Int = availableThreads, rowsAtATime: Int? = nil) {
    self.threads = max(1, threads)
    self.rowsAtATime = rowsAtATime
  }

  /// Activations, in Float32: rows of a buffer, which need not be dense.
  final class Value: Sendable {
    let buffer: Buffer
    /// Elements before the first row, and from one row to the next.
    let first, stride: Int
    /// The same as 8-bit codes, once some operation asked for them.
    let codes = Lock<[Codes.Form: Codes]>([:])
    /// The same as BF16, likewise.
    let pairs = Lock<Buffer?>(nil)

    init(_ buffer: Buffer, first: Int = 0, stride: Int) {
      self.buffer = buffer
      self.first = first
      self.stride = stride
    }
  }

  /// A table or an index array, in its own encoding.
  final class Table: Sendable {
    let tensor: Tensor
    let bytes: Buffer

    init(_ tensor: Tensor, _ bytes: Buffer) {
      self.tensor = tensor
      self.bytes = bytes
    }
  }

  public func upload(_ tensor: Tensor, isLinear: Bool) throws(Failure) -> DeviceBuffer {
    let tensor = tensor.matrix
    let isVector = tensor.shape.count <= 1
    if isLinear {
      return DeviceBuffer(rows: tensor.rows, columns: tensor.columns, storage: try Panels(tensor, threads: threads))
    }
    let bytes = try tensor.mapped(threads: threads)
    if tensor.encoding == .plain(.U8) { return try pixels(tensor, bytes) }
    // Gains and biases are few and used often: kept as floats.
    if isVector, case .plain(let type) = tensor.encoding, type.isWeight {
      return DeviceBuffer(
        rows: 1, columns: tensor.columns,
        storage: Value(try tensor.floats(threads: threads), stride: tensor.columns))
    }
    return DeviceBuffer(
      rows: isVector ? tensor.count : tensor.rows, columns: isVector ? 1 : tensor.columns,
      storage: Table(tensor, bytes))
  }

  public func upload(floats: [Float], columns: Int) throws(Failure) -> DeviceBuffer {
    let result = try make(rows: floats.count / columns, columns: columns)
    let target = try values(result).base
    floats.withUnsafeBufferPointer { if let from = $0.baseAddress { target.update(from: from, count: floats.count) } }
    return result
  }

  public func download(_ buffer: DeviceBuffer) throws(Failure) -> [Float] {
    let rows = try values(buffer)
    return withExtendedLifetime(buffer) {
      Array(unsafeUninitializedCapacity: buffer.rows * buffer.columns) { target, count in
        for row in 0..<buffer.rows {
          (target.baseAddress.map { $0 + row * buffer.columns })?.initialize(from: rows[row], count: buffer.columns)
        }
        count = buffer.rows * buffer.columns
      }
    }
  }

  public func run(
    _ op: Op, _ inputs: [DeviceBuffer], then steps: [FollowingStep]
  ) throws(Failure) -> DeviceBuffer {
    try run(op, inputs, then: steps, into: nil)
  }

  public func run(
    _ op: Op, _ inputs: [DeviceBuffer], then steps: [FollowingStep], into target: DeviceBuffer?
  ) throws(Failure) -> DeviceBuffer {
    switch op {
    case .linear: break
    default: guard steps.isEmpty else { throw Failure(.internal, "steps after an operation that is not linear") }
    }
    return switch op {
    case .embedding(let offset): try embedding(inputs, offset: offset, target)
    case .row(let index): try row(index, of: inputs[0])
    case .linear(let input): try linear(input, inputs, steps, target)
    case .add: try combine(inputs[0], inputs[1], target) { $0 + $1 }
    case .multiply: try combine(inputs[0], inputs[1], target) { $0 * $1 }
    case .rescale(let rescale): try self.rescale(inputs[0], rescale, target)
    case .rope(let rotation): try rope(inputs[0], inputs[1], rotation, target)
    case .interpolate: try interpolate(inputs)
    case .norm(let kind, let epsilon, let heads): try norm(kind, epsilon, heads: heads, inputs, target)
    case .activation(let kind): try activation(kind, inputs[0], target)
    case .slice(let offset, let count): try slice(inputs[0], offset, count, target)
    case .concatenate: try concatenate(inputs, target)
    case .route(let top): try route(inputs[0], top, target)
    case .routed(let expert): try routed(inputs[0], inputs[1], expert)
    case .mix: try mix(inputs)
    case .attention(let attention): try self.attention(attention, inputs)
    case .pool(let kind): try pool(kind, inputs[0], inputs[1])
    case .normalize: try normalize(inputs[0], target)
    }
  }

  // MARK: Values

  /// The rows of a value, while the value lives.
  package func values(_ buffer: DeviceBuffer) throws(Failure) -> Rows {
    if let value = buffer.storage as? Value {
      return Rows(base: value.buffer.floats + value.first, stride: value.stride)
    }
    throw Failure(.internal, "a value of another device, or a weight")
  }

  /// Bytes of pictures as floats.
  private func pixels(_ tensor: Tensor, _ bytes: Buffer) throws(Failure) -> DeviceBuffer {
    let result = try make(rows: tensor.rows, columns: tensor.columns)
    let target = try values(result)
    bytes.with(UInt8.self) { source in for index in source.indices { target.base[index] = Float(source[index]) } }
    return result
  }

  func table(_ buffer: DeviceBuffer) throws(Failure) -> Table {
    guard let table = buffer.storage as? Table else {
      throw Failure(.internal, "a table of another device, or a value")
    }
    return table
  }

  /// An array of whole numbers.
  package func indices(_ buffer: DeviceBuffer) throws(Failure) -> [Int] {
    try table(buffer).bytes.with(Int32.self) { $0.map(Int.init) }
  }

  public func make(rows: Int, columns: Int) throws(Failure) -> DeviceBuffer {
    guard let elements = Checked.multiply(rows, columns), let size = Checked.multiply(elements, 4) else {
      throw Failure(.limit, "a value of \(rows) × \(columns) is too large")
    }
    return DeviceBuffer(rows: rows, columns: columns, storage: Value(try Buffer(count: size), stride: columns))
  }

  /// Where a result goes: what was asked for, or new memory.
  func result(_ rows: Int, _ columns: Int, _ target: DeviceBuffer?) throws(Failure) -> (DeviceBuffer, Rows) {
    let result: DeviceBuffer
    if let target { result = target } else { result = try make(rows: rows, columns: columns) }
    guard result.rows == rows, result.columns == columns else {
      throw Failure(.internal, "a result of \(rows) × \(columns) for a place of \(result.rows) × \(result.columns)")
    }
    return (result, try values(result))
  }

  public func rows(_ range: Range<Int>, of buffer: DeviceBuffer) throws(Failure) -> DeviceBuffer {
    if let value = buffer.storage as? Value {
      let part = Value(value.buffer, first: value.first + range.lowerBound * value.stride, stride: value.stride)
      return DeviceBuffer(rows: range.count, columns: buffer.columns, storage: part)
    }
    let table = try table(buffer)
    let width = table.bytes.count / max(buffer.rows, 1)
    let part = try Buffer(count: range.count * width)
    part.start.copyMemory(from: table.bytes.start + range.lowerBound * width, byteCount: part.count)
    let shape = [range.count] + table.tensor.shape.dropFirst()
    return try upload(
      Tensor(table.tensor.name, shape: shape, encoding: table.tensor.encoding, content: .bytes(ByteView(part))))
  }

  public func outputs(_ range: Range<Int>, of buffer: DeviceBuffer) throws(Failure) -> DeviceBuffer {
    if buffer.storage is Value { return try slice(buffer, range.lowerBound, range.count, nil) }
    let part = Panels(try panels(buffer), outputs: range)
    return DeviceBuffer(rows: range.count, columns: buffer.columns, storage: part)
  }

  /// A weight's panels; made anew each time for a tensor that is looked up too, and kept as a table.
  func panels(_ buffer: DeviceBuffer) throws(Failure) -> Panels {
    if let panels = buffer.storage as? Panels { return panels }
    return try Panels(try table(buffer).tensor, threads: threads)
  }

  /// Calls `body` for ranges that cover `rows`, in parallel. What a row becomes must not depend on its range.
  package func forRows(
    _ rows: Int, step: Int = 64, _ body: @Sendable (Range<Int>) throws(Failure) -> Void
  ) throws(Failure) {
    try parallel(Checked.ceilDivide(rows, step), threads: threads) { (task) throws(Failure) in
      try body(task * step..<min(rows, (task + 1) * step))
    }
  }
}
