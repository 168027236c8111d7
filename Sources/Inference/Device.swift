import Bytes
import CKernels
import Tensors

/// Something that can run an `Op`. The one seam to hardware: shapes were checked above it.
public protocol Device: Sendable {
  var name: String { get }
  /// Tokens that run through a graph together: large enough to keep the hardware busy, small enough for its caches. No
  /// result depends on it.
  var tokensPerBatch: Int { get }
  /// Puts a tensor where the device can use it: as the weight of linear operations in whatever order suits them,
  /// otherwise in the tensor's own encoding.
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

/// A device that works on some rows at a time where rows do not depend on each other: what lies between two operations
/// is then small, whatever the batch.
public protocol RowDevice: Device {
  /// Rows that are worked on at a time, of values with so many columns at most.
  func rowsAtATime(columns: Int) -> Int
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

/// An operation on a result as it is made: an activation, or a sum or product with `other`, which has as many rows or
/// one.
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
  ///   - isPicture: for rows that are a text model's tokens, whether each stands for a part of a picture; otherwise
  ///     empty.
  func sees(
    _ weight: TensorName, _ values: [Float], rows: Int, columns: Int, isPicture: ArraySlice<Bool>
  ) throws(Failure)
}

extension GroupedInteger {
  /// Columns of activations that share a scale in products with such weights of `columns` columns: those of a group, or
  /// of a row where the weight's groups are steps of a scale of the row.
  package func activationGroup(_ columns: Int) -> Int { form == .twoLevel ? columns : groupSize }

  /// Bits of the integers that are multiplied.
  package var productBits: Int { form == .twoLevel ? 8 : bits }

  /// What they are larger by than what they stand for: unsigned codes make up for it by their zeros.
  package var productOffset: Int { form == .affine ? 0 : 1 << (productBits - 1) }

  /// Whether integer products can be had: the sum over columns that share a scale has to fit 32 bits.
  package func checkProducts(_ columns: Int) throws(Failure) {
    let group = activationGroup(columns)
    guard group <= 1 << 16 else {
      throw Failure(.limit, "groups of \(group) columns; integer products take at most \(1 << 16)")
    }
  }

  /// Whether steps of two levels keep their bounds, which nothing but a look at each can say.
  package func checkSteps(_ bytes: Buffer, _ layout: Layout, _ name: TensorName) throws(Failure) {
    guard form == .twoLevel else { return }
    try checkSteps(bytes.start + layout.zerosAt, layout.rows * layout.groups, name) {
      ($0 % layout.groups, $0 / layout.groups)
    }
  }

  package func checkSteps(_ bytes: Buffer, _ order: PanelOrder, _ name: TensorName) throws(Failure) {
    guard form == .twoLevel else { return }
    let width = PanelOrder.width
    try checkSteps(bytes.start + order.zerosAt, order.panels * order.zeroBytes, name) {
      ($0 % order.zeroBytes / width, $0 / order.zeroBytes * width + $0 % width)
    }
  }

  private func checkSteps(
    _ steps: UnsafeRawPointer, _ count: Int, _ name: TensorName, _ place: (Int) -> (group: Int, row: Int)
  ) throws(Failure) {
    let bad = llv_first_bad_step(steps.assumingMemoryBound(to: UInt8.self), count, Int32(bits))
    guard bad == count else {
      let (group, row) = place(bad)
      throw Failure(
        .malformed, "the step and zero of group \(group) of row \(row) exceed 8 bits", thing: "tensor \(name.quoted)")
    }
  }
}
