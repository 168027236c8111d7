import Bytes
import Tensors

/// One file of ggml's model format: keys with values, and tensors. Versions 1 to 3; big-endian from version 3 on.
/// Formats/gguf/spec.md is the contract.
public struct GGUF: Sendable {
  public let keys: GGUFKeys
  /// In the order of their data.
  public let tensors: [Tensor]
  /// Things that are allowed and worth telling a person.
  public let notes: [String]
  public let file: InputFile

  /// Reads and judges everything but the tensors' bytes.
  ///
  /// - Order of checks: magic, version and byte order; counts against the file; keys; tensor infos; offsets without
  ///   holes or overlaps, inside the file. Nothing is allocated from a number before it was compared with what is left.
  /// - Throws: `malformed`, `unsupported` or `limit`, naming the key or tensor and the byte.
  /// - Cost: linear in keys and tensors.
  public static func read(_ path: String) throws(Failure) -> GGUF {
    let file = try InputFile(path)
    do throws(Failure) { return try GGUF(file) } catch { throw error.inFile(path) }
  }

  private init(_ file: InputFile) throws(Failure) {
    self.file = file
    var reader = ByteReader(ByteView(file, 0, file.count))
    let head = try Header(&reader)
    keys = try GGUFKeys(&reader, head)
    let infos = try TensorInfo.all(&reader, head)
    let alignment = try keys.alignment()
    let start = Checked.roundUp(reader.at, to: alignment) ?? .max
    var notes: [String] = []
    tensors = try TensorInfo.tensors(
      infos, file, dataStart: start, alignment, isBigEndian: reader.isBigEndian, notes: &notes)
    self.notes = notes
  }

  /// Version, byte order and counts.
  struct Header {
    let version: UInt32
    let tensors, keys: Int

    init(_ reader: inout ByteReader) throws(Failure) {
      guard reader.left > 0 else { throw Failure(.malformed, "empty file: no 24-byte header") }
      let magic = try reader.bytes(min(4, reader.left), "magic")
      guard magic.elementsEqual("GGUF".utf8) else {
        let hint =
          magic.elementsEqual("FUGG".utf8)
          ? "; it is byte-swapped" : magic.elementsEqual("GGML".utf8) ? "; it is ggml's format before GGUF" : ""
        throw Failure(.malformed, "magic \(Failure.quoted(magic)) is not GGUF\(hint)", place: "byte 0")
      }
      guard reader.left >= 4 else { throw Failure(.malformed, "the file ends inside its 24-byte header") }
      var version = try reader.integer(UInt32.self, "version")
      if version > 0xFFFF, (1...0xFFFF).contains(version.byteSwapped) {
        version = version.byteSwapped
        guard version >= 3 else {
          throw Failure(.unsupported, "big-endian needs version 3, this is version \(version)", place: "byte 4")
        }
        reader.isBigEndian = true
      }
      guard (1...0xFFFF).contains(version) else {
        throw Failure(.malformed, "version \(version) is none", place: "byte 4")
      }
      guard version <= 3 else {
        throw Failure(.unsupported, "version \(version); this program reads 1 to 3", place: "byte 4")
      }
      self.version = version
      guard reader.left >= (version == 1 ? 8 : 16) else {
        throw Failure(.malformed, "the file ends inside its 24-byte header", place: "byte \(reader.at)")
      }
      let isOld = version == 1
      // The smallest tensor info and the smallest key.
      tensors = try Header.count(&reader, "tensor", size: isOld ? 17 : 25, isOld, limit: Limits.tensors)
      keys = try Header.count(&reader, "key", size: isOld ? 10 : 14, isOld, limit: Limits.tensors)
    }

    private static func count(
      _ reader: inout ByteReader, _ what: String, size: Int, _ isOld: Bool, limit: Int
    ) throws(Failure) -> Int {
      let place = reader.at
      let value = isOld ? UInt64(try reader.integer(UInt32.self, what)) : try reader.integer(UInt64.self, what)
      guard value <= UInt64(reader.left / size) else {
        throw Failure(.malformed, "\(value) \(what)s are more than fit in the file", place: "byte \(place)")
      }
      guard value <= UInt64(limit) else {
        throw Failure(.limit, "\(value) \(what)s, at most \(limit)", place: "byte \(place)")
      }
      return Int(value)
    }

    /// Lengths are of 32 bits in version 1.
    func length(_ reader: inout ByteReader, _ what: String, limit: Int) throws(Failure) -> Int {
      version == 1
        ? try reader.count(what, limit: limit, as: UInt32.self) : try reader.count(what, limit: limit)
    }
  }
}
