import Bytes
import Glibc

/// Embeddings kept beside their container, in `MODEL.llv.cache/vectors`, by a hash of everything they depend on. What
/// is there is not computed again: a long job that was stopped goes on where it was.
///
/// The file is 16 bytes (magic, width) and records of a key, a checksum and a vector, appended as they come; a record
/// that is cut or damaged ends what is used. A directory that cannot be written is not an error, nor is a file that
/// cannot be read, which stays as it is. Never trimmed: delete it at will.
package final class VectorCache {
  private static let magic: UInt64 = 0x3256_5643_5643_4C4C
  private let width: Int
  private var descriptor: Int32 = -1
  private var vectors: [UInt64: [Float]] = [:]
  private var pending: [UInt8] = []

  package init(beside container: String, width: Int) {
    self.width = width
    let directory = container + ".cache"
    let path = directory + "/vectors"
    guard !DryRun.isOn else {
      _ = load(path)
      return
    }
    mkdir(directory, 0o777)
    let file = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o666)
    guard file >= 0, let valid = load(path), ftruncate(file, valid) == 0 else {
      if file >= 0 { close(file) }
      return
    }
    descriptor = file
    if valid == 0 {
      for field in [VectorCache.magic, UInt64(width)] { withUnsafeBytes(of: field.littleEndian) { pending += $0 } }
    }
  }

  deinit {
    flush()
    if descriptor >= 0 { close(descriptor) }
  }

  package var count: Int { vectors.count }

  package subscript(key: UInt64) -> [Float]? { vectors[key] }

  package func add(_ key: UInt64, _ vector: [Float]) {
    guard vector.count == width, vectors[key] == nil else { return }
    vectors[key] = vector
    withUnsafeBytes(of: key.littleEndian) { pending += $0 }
    withUnsafeBytes(of: VectorCache.checksum(key, vector).littleEndian) { pending += $0 }
    vector.withUnsafeBytes { pending += $0 }
  }

  /// Writes what was added.
  package func flush() {
    guard descriptor >= 0, !pending.isEmpty else { return }
    // One call where the system takes all, so that two programs do not mix their records.
    while !pending.isEmpty {
      let wrote = pending.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
      if wrote < 0 && errno == EINTR { continue }
      // What did not fit is cut off at the next start.
      guard wrote > 0 else { break }
      pending.removeFirst(wrote)
    }
    pending.removeAll(keepingCapacity: true)
  }

  private static func checksum(_ key: UInt64, _ vector: [Float]) -> UInt64 {
    var hash = XXH64()
    withUnsafeBytes(of: key.littleEndian) { hash.update($0) }
    vector.withUnsafeBytes { hash.update($0) }
    return hash.value()
  }

  /// Reads all good records; the length of them in bytes, 0 for a file that is none of ours, nil where it cannot be
  /// read.
  private func load(_ path: String) -> Int? {
    guard let file = try? InputFile(path) else { return nil }
    guard file.count >= 16 else { return 0 }
    guard let bytes = try? ByteView(file, 0, file.count).load() else { return nil }
    let record = 16 + width * 4
    return bytes.withBytes { bytes in
      guard bytes.loadUnaligned(as: UInt64.self) == VectorCache.magic,
        bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self) == UInt64(width)
      else { return 0 }
      var at = 16
      while at + record <= bytes.count {
        let key = bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self)
        let vector = [Float](unsafeUninitializedCapacity: width) { target, count in
          UnsafeMutableRawBufferPointer(target).copyMemory(
            from: UnsafeRawBufferPointer(rebasing: bytes[at + 16..<at + record]))
          count = width
        }
        guard bytes.loadUnaligned(fromByteOffset: at + 8, as: UInt64.self) == VectorCache.checksum(key, vector) else {
          break
        }
        vectors[key] = vector
        at += record
      }
      return at
    }
  }
}
