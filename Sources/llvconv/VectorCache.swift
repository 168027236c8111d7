import Bytes
import Fidelity
import Glibc

/// Reference embeddings kept beside their container, in `MODEL.llv.cache/`, by a hash of everything they depend on.
///
/// A file is 32 bytes (magic, width, count, checksum of the vectors) and one LZ4 frame of byte planes. A file that is
/// damaged or of another shape is not used; a directory that cannot be written is not an error.
struct VectorCache {
  private let directory: String
  private static let magic: UInt64 = 0x3156_5643_5643_4C4C

  init(beside container: String) { directory = container + ".cache" }

  private func path(_ key: UInt64) -> String { "\(directory)/\(XXH64.text(key)).vectors" }

  func load(_ key: UInt64, width: Int, count: Int) -> [Float]? {
    guard let file = try? InputFile(path(key)), file.count > 32, let size = Checked.multiply(width * count, 4),
      let header = try? ByteView(file, 0, 32).load().array(of: UInt64.self),
      header[0] == VectorCache.magic, header[1] == UInt64(width), header[2] == UInt64(count)
    else { return nil }
    let stored = StoredBytes(
      stored: ByteView(file, 32, file.count - 32), codec: .lz4Planes(width: 4), count: size, checksum: header[3])
    return try? stored.load().array(of: Float.self)
  }

  func store(_ key: UInt64, width: Int, _ values: [Float]) {
    mkdir(directory, 0o777)
    _ = try? write(key, width, values)
  }

  private func write(_ key: UInt64, _ width: Int, _ values: [Float]) throws(Failure) {
    let output = try OutputFile(path(key), isReplacing: true)
    let buffer = try Buffer(count: values.count * 4)
    buffer.with(Float.self) { _ = $0.update(fromContentsOf: values) }
    let (checksum, packed) = try buffer.withBytes { (raw) throws(Failure) in
      (XXH64.hash(raw), try Codec.lz4Planes(width: 4).encode(raw) ?? [])
    }
    var header: [UInt8] = []
    for field in [VectorCache.magic, UInt64(width), UInt64(values.count / max(1, width)), checksum] {
      withUnsafeBytes(of: field.littleEndian) { header += $0 }
    }
    try output.write(header)
    try output.write(packed)
    try output.commit()
  }
}
