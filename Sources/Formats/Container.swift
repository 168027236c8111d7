import Bytes
import Tensors

/// The `.llv` container. Formats/llv/spec.md is the contract.
///
/// Header (64 bytes), then data sections at multiples of 64, then the manifest up to the end of the file.
public enum Container {
  /// Holds a byte above 127, both line ends and the DOS end of file, so that a text-mode transfer shows.
  package static let magic: [UInt8] = [0x89, 0x4C, 0x4C, 0x56, 0x0D, 0x0A, 0x1A, 0x0A]
  package static let version: UInt32 = 1
  static let headerCount = 64
  static let alignment = 64

  /// The fixed part at the front. All fields little endian.
  struct Header {
    var manifestAt: Int
    var manifestCount: Int
    var manifestChecksum: UInt64

    var bytes: [UInt8] {
      var result = magic
      func append<T: FixedWidthInteger>(_ value: T) { withUnsafeBytes(of: value.littleEndian) { result += $0 } }
      append(version)
      append(UInt32(0))
      append(UInt64(manifestAt))
      append(UInt64(manifestCount))
      append(manifestChecksum)
      append(UInt64(manifestAt + manifestCount))
      append(UInt64(0))
      append(XXH64.hash(result))
      return result
    }
  }
}
