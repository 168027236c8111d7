import CKernels

/// How stored bytes relate to the bytes they stand for.
public enum Codec: Sendable, Hashable {
  case raw
  /// One LZ4 frame.
  case lz4
  /// One LZ4 frame over byte planes: the first byte of every `width`-byte element, then the second, and so on. Floating
  /// point numbers that use few of their bits fall into runs this way.
  case lz4Planes(width: Int)

  public var text: String {
    switch self {
    case .raw: "raw"
    case .lz4: "lz4"
    case .lz4Planes(let width): "lz4-planes-\(width)"
    }
  }

  public init?(text: String) {
    let all: [Codec] = [.raw, .lz4, .lz4Planes(width: 2), .lz4Planes(width: 4), .lz4Planes(width: 8)]
    guard let codec = all.first(where: { $0.text == text }) else { return nil }
    self = codec
  }

  /// The stored form of `raw`, whose length is a multiple of the plane width; nil for `.raw`, which is the bytes
  /// themselves.
  public func encode(_ raw: UnsafeRawBufferPointer) throws(Failure) -> [UInt8]? {
    switch self {
    case .raw: return nil
    case .lz4: return try LZ4Frame.compress(raw)
    case .lz4Planes(let width):
      let planes = try Buffer(count: raw.count)
      return try planes.withMutableBytes { (target) throws(Failure) in
        llv_planes_split(raw.baseAddress, target.baseAddress, raw.count / width, width)
        return try LZ4Frame.compress(UnsafeRawBufferPointer(target))
      }
    }
  }
}

/// Bytes as they are stored in a file, and how to get back the bytes they stand for.
public struct StoredBytes: Sendable {
  public let stored: ByteView
  public let codec: Codec
  /// Length after decoding.
  public let count: Int
  /// XXH64 of the decoded bytes.
  public let checksum: UInt64

  public init(stored: ByteView, codec: Codec, count: Int, checksum: UInt64) {
    self.stored = stored
    self.codec = codec
    self.count = count
    self.checksum = checksum
  }

  /// Reads, decodes and checks.
  /// - Throws: `malformed` when the stored bytes do not decode to what was declared.
  public func load() throws(Failure) -> Buffer {
    guard count <= Checked.multiply(stored.count, Limits.lz4Expansion) ?? .max else {
      throw Failure(.malformed, "\(stored.count) stored bytes cannot hold \(count)")
    }
    let buffer: Buffer
    switch codec {
    case .raw: buffer = try stored.load()
    case .lz4: buffer = try decompressed()
    case .lz4Planes(let width):
      let planes = try decompressed()
      buffer = try Buffer(count: count)
      planes.withBytes { source in
        buffer.withMutableBytes { llv_planes_join(source.baseAddress, $0.baseAddress, count / width, width) }
      }
    }
    try compare(buffer.withBytes { XXH64.hash($0) })
    return buffer
  }

  /// The same to be read alone: raw bytes of a file stay where they are.
  public func mapped() throws(Failure) -> Buffer {
    guard codec == .raw else { return try load() }
    let buffer = try stored.mapped()
    try compare(buffer.withBytes { XXH64.hash($0) })
    return buffer
  }

  /// Copies pieces of the decoded bytes, after the checksum of all of them has been held to.
  ///
  /// - Parameter pieces: ascending in `from`, not overlapping, inside both sides.
  public func copy(_ pieces: [(from: Int, count: Int, to: Int)], into target: Buffer) throws(Failure) {
    guard codec == .raw else {
      let view = ByteView(try load())
      for piece in pieces { try view.read(piece, into: target) }
      return
    }
    var hash = XXH64()
    var at = 0
    var next = 0
    try stored.forEachChunk { (chunk) throws(Failure) in
      hash.update(chunk)
      let end = at + chunk.count
      target.withMutableBytes { bytes in
        // A piece may lie in two chunks; it is done with when its end is.
        for index in next..<pieces.count {
          let piece = pieces[index]
          guard piece.from < end else { break }
          let (from, to) = (max(piece.from, at), min(piece.from + piece.count, end))
          if from < to {
            UnsafeMutableRawBufferPointer(
              rebasing: bytes[(piece.to + from - piece.from)..<(piece.to + to - piece.from)]
            )
            .copyMemory(from: UnsafeRawBufferPointer(rebasing: chunk[(from - at)..<(to - at)]))
          }
          if piece.from + piece.count <= end { next = index + 1 }
        }
      }
      at = end
    }
    try compare(hash.value())
  }

  /// Holds the bytes to their checksum; raw ones without having them all in memory.
  public func check() throws(Failure) {
    guard codec == .raw else {
      _ = try load()
      return
    }
    var hash = XXH64()
    try stored.forEachChunk { (chunk) throws(Failure) in hash.update(chunk) }
    try compare(hash.value())
  }

  private func compare(_ found: UInt64) throws(Failure) {
    guard found == checksum else {
      throw Failure(
        .malformed, "checksum is \(XXH64.text(found)), \(XXH64.text(checksum)) expected: the file is damaged",
        file: stored.file?.path)
    }
  }

  private func decompressed() throws(Failure) -> Buffer {
    let packed = try stored.load()
    let target = try Buffer(count: count)
    do {
      try packed.withBytes { (source) throws(Failure) in
        try target.withMutableBytes { (bytes) throws(Failure) in try LZ4Frame.decompress(source, into: bytes) }
      }
    } catch {
      throw stored.file.map { error.inFile($0.path) } ?? error
    }
    return target
  }
}
