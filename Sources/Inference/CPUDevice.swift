import Bytes
import CKernels
import COpenBLAS
import Tensors

/// Runs on the processor: linear operations through our own kernels, attention's products through OpenBLAS.
///
/// A row of a result depends on that row's own sequence alone: not on the batch, the order, or the number of threads.
public struct CPUDevice: Device {
  public let name = "cpu"
  let threads: Int

  public init(threads: Int = availableThreads) {
    self.threads = max(1, threads)
    // Threads are started by `parallel` alone.
    openblas_set_num_threads(1)
  }

  /// Activations, in Float32 `[rows, columns]`.
  final class Value: Sendable {
    let buffer: Buffer
    init(_ buffer: Buffer) { self.buffer = buffer }
  }

  /// A weight or an index array, in its own encoding.
  final class Weight: Sendable {
    let tensor: Tensor
    let bytes: Buffer

    init(_ tensor: Tensor, _ bytes: Buffer) {
      self.tensor = tensor
      self.bytes = bytes
    }
  }

  public func upload(_ tensor: Tensor) throws(Failure) -> DeviceBuffer {
    let tensor = tensor.matrix
    let bytes = try tensor.load(threads: threads)
    let isVector = tensor.shape.count <= 1
    if tensor.encoding == .plain(.U8) { return try pixels(tensor, bytes) }
    // Gains and biases are few and used often: kept as floats.
    if isVector, case .plain(let type) = tensor.encoding, type.isWeight {
      return DeviceBuffer(rows: 1, columns: tensor.columns, storage: Value(try tensor.floats(threads: threads)))
    }
    return DeviceBuffer(
      rows: isVector ? tensor.count : tensor.rows, columns: isVector ? 1 : tensor.columns,
      storage: Weight(tensor, bytes))
  }

  public func download(_ buffer: DeviceBuffer) throws(Failure) -> [Float] {
    try value(buffer).array(of: Float.self)
  }

  public func run(_ op: Op, _ inputs: [DeviceBuffer]) throws(Failure) -> DeviceBuffer {
    switch op {
    case .embedding: try embedding(inputs)
    case .row(let index): try row(index, of: inputs[0])
    case .linear(let input): try linear(input, inputs)
    case .add: try add(inputs[0], inputs[1])
    case .multiply: try multiply(inputs[0], inputs[1])
    case .rescale(let rescale): try self.rescale(inputs[0], rescale)
    case .rope(let theta, let width): try rope(inputs[0], inputs[1], theta: theta, headWidth: width)
    case .interpolate: try interpolate(inputs)
    case .norm(let kind, let epsilon): try norm(kind, epsilon, inputs)
    case .activation(let kind): try activation(kind, inputs[0])
    case .slice(let offset, let count): try slice(inputs[0], offset, count)
    case .attention(let attention): try self.attention(attention, inputs)
    case .pool(let kind): try pool(kind, inputs[0], inputs[1])
    case .normalize: try normalize(inputs[0])
    }
  }

  // MARK: Values

  func value(_ buffer: DeviceBuffer) throws(Failure) -> Buffer {
    if let value = buffer.storage as? Value { return value.buffer }
    // Blending weights of a batch arrive as a tensor.
    if let weight = buffer.storage as? Weight, weight.tensor.encoding == .plain(.F32) { return weight.bytes }
    throw Failure(.internal, "a value of another device, or a weight")
  }

  /// Bytes of pictures as floats.
  private func pixels(_ tensor: Tensor, _ bytes: Buffer) throws(Failure) -> DeviceBuffer {
    let (result, buffer) = try make(tensor.rows, tensor.columns)
    bytes.with(UInt8.self) { source in
      buffer.with(Float.self) { target in
        for index in target.indices { target[index] = Float(source[index]) }
      }
    }
    return result
  }

  func weight(_ buffer: DeviceBuffer) throws(Failure) -> Weight {
    guard let weight = buffer.storage as? Weight else {
      throw Failure(.internal, "a weight of another device, or a value")
    }
    return weight
  }

  /// An array of whole numbers.
  func indices(_ buffer: DeviceBuffer) throws(Failure) -> [Int] {
    try weight(buffer).bytes.with(Int32.self) { $0.map(Int.init) }
  }

  func make(_ rows: Int, _ columns: Int) throws(Failure) -> (DeviceBuffer, Buffer) {
    guard let elements = Checked.multiply(rows, columns), let size = Checked.multiply(elements, 4) else {
      throw Failure(.limit, "a value of \(rows) × \(columns) is too large")
    }
    let buffer = try Buffer(count: size)
    return (DeviceBuffer(rows: rows, columns: columns, storage: Value(buffer)), buffer)
  }

  /// Calls `body` for ranges that cover `rows`, in parallel. What a row becomes must not depend on its range.
  func forRows(_ rows: Int, step: Int = 64, _ body: @Sendable (Range<Int>) throws(Failure) -> Void) throws(Failure) {
    try parallel(Checked.ceilDivide(rows, step), threads: threads) { (task) throws(Failure) in
      try body(task * step..<min(rows, (task + 1) * step))
    }
  }
}
