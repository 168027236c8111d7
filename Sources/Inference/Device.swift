import Bytes
import Tensors

/// Something that can run an `Op`. The one seam to hardware: shapes were checked above it.
public protocol Device: Sendable {
  var name: String { get }
  /// Puts a tensor where the device can use it, in the tensor's own encoding.
  func upload(_ tensor: Tensor) throws(Failure) -> DeviceBuffer
  func run(_ op: Op, _ inputs: [DeviceBuffer]) throws(Failure) -> DeviceBuffer
  /// A value's elements as Float32, row-major.
  func download(_ buffer: DeviceBuffer) throws(Failure) -> [Float]
}

/// A value on a device: how many rows and columns, and whatever the device keeps it in.
public struct DeviceBuffer: Sendable {
  public let rows, columns: Int
  let storage: any AnyObject & Sendable
}
