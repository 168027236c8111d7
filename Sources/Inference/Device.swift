import Bytes
import Tensors

/// Something that can run an `Op`. The one seam to hardware: shapes were checked above it.
public protocol Device: Sendable {
  var name: String { get }
  /// Tokens that run through a graph together: large enough to keep the hardware busy, small enough for its caches. No result depends on it.
  var tokensPerBatch: Int { get }
  /// Puts a tensor where the device can use it: as the weight of linear operations in whatever order suits them, otherwise in
  /// the tensor's own encoding.
  func upload(_ tensor: Tensor, isLinear: Bool) throws(Failure) -> DeviceBuffer
  /// A value of its own, from its elements row by row.
  func upload(floats: [Float], columns: Int) throws(Failure) -> DeviceBuffer
  /// The result of `op`, and of what follows it element by element. The same bits as one operation after the other.
  func run(_ op: Op, _ inputs: [DeviceBuffer], then steps: [FollowingStep]) throws(Failure) -> DeviceBuffer
  /// A value's elements as Float32, row-major.
  func download(_ buffer: DeviceBuffer) throws(Failure) -> [Float]
  /// Waits until all that was asked for is done.
  func finish() throws(Failure)
}

extension Device {
  public var tokensPerBatch: Int { 2_048 }

  public func finish() throws(Failure) {}

  public func upload(_ tensor: Tensor) throws(Failure) -> DeviceBuffer { try upload(tensor, isLinear: false) }

  public func run(_ op: Op, _ inputs: [DeviceBuffer]) throws(Failure) -> DeviceBuffer { try run(op, inputs, then: []) }
}

/// A device that works on some rows at a time where rows do not depend on each other: what lies between two operations is then
/// small, whatever the batch.
public protocol RowDevice: Device {
  /// Rows that are worked on at a time.
  var rowsAtATime: Int { get }
  /// A value that is to be filled.
  func make(rows: Int, columns: Int) throws(Failure) -> DeviceBuffer
  /// Some rows of a value or an index array, without copying a value.
  func rows(_ range: Range<Int>, of buffer: DeviceBuffer) throws(Failure) -> DeviceBuffer
  /// Some outputs of the weight or the bias of a linear operation, without copying.
  func outputs(_ range: Range<Int>, of buffer: DeviceBuffer) throws(Failure) -> DeviceBuffer
  /// The same as `run` without it, with the result written into `target`.
  func run(
    _ op: Op, _ inputs: [DeviceBuffer], then steps: [FollowingStep], into target: DeviceBuffer?
  ) throws(Failure) -> DeviceBuffer
}

/// An operation on a result as it is made: an activation, or a sum or product with `other`, which has as many rows or one.
public struct FollowingStep: Sendable {
  public let op: Op
  public let other: DeviceBuffer?

  public init(_ op: Op, _ other: DeviceBuffer? = nil) {
    self.op = op
    self.other = other
  }
}

/// A value on a device: how many rows and columns, and whatever the device keeps it in.
public struct DeviceBuffer: Sendable {
  public let rows, columns: Int
  package let storage: any AnyObject & Sendable

  package init(rows: Int, columns: Int, storage: any AnyObject & Sendable) {
    (self.rows, self.columns, self.storage) = (rows, columns, storage)
  }
}

/// What a device keeps a tensor of the model in, for those who want to know how it was written.
package protocol EncodedStorage: AnyObject {
  var encoding: Encoding { get }
}

/// Somebody who is shown the inputs of linear operations as a model runs.
public protocol LinearObserver: Sendable {
  /// - Parameters:
  ///   - values: `[rows, columns]`, what is multiplied with the weight called `weight`.
  ///   - isPicture: for rows that are a text model's tokens, whether each stands for a part of a picture; otherwise empty.
  func sees(
    _ weight: TensorName, _ values: [Float], rows: Int, columns: Int, isPicture: ArraySlice<Bool>
  ) throws(Failure)
}

extension GroupedInteger {
  /// Whether integer products can be had: a group's sum has to fit 32 bits.
  package func checkProducts() throws(Failure) {
    guard groupSize <= 1 << 16 else {
      throw Failure(.limit, "groups of \(groupSize) columns; integer products take at most \(1 << 16)")
    }
  }
}
