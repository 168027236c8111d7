import CLZ4

/// LZ4 frames (LZ4 Frame Format 1.6.x) through liblz4, with the checks the library leaves to its caller: the declared
/// size is the expected one, the number of blocks is bounded, nothing is missing and nothing follows.
public enum LZ4Frame {
  private static let magic: UInt32 = 0x184D_2204

  /// One frame of independent 4 MiB blocks that declares its content size. The same bytes for the same input.
  public static func compress(_ raw: UnsafeRawBufferPointer) throws(Failure) -> [UInt8] {
    var preferences = LZ4F_preferences_t()
    preferences.frameInfo.blockSizeID = LZ4F_max4MB
    preferences.frameInfo.blockMode = LZ4F_blockIndependent
    preferences.frameInfo.contentSize = UInt64(raw.count)
    let bound = LZ4F_compressFrameBound(raw.count, &preferences)
    var result = [UInt8](repeating: 0, count: bound)
    let written = LZ4F_compressFrame(&result, bound, raw.baseAddress, raw.count, &preferences)
    guard LZ4F_isError(written) == 0 else { throw Failure(.internal, "LZ4: \(errorName(written))") }
    result.removeLast(bound - written)
    return result
  }

  /// Decodes exactly one frame that holds exactly `target.count` bytes.
  /// - Throws: `malformed` for anything else; `unsupported` for legacy frames and dictionaries.
  public static func decompress(
    _ packed: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
  ) throws(Failure) {
    try checkStructure(packed, expecting: target.count)
    var context: OpaquePointer?
    guard LZ4F_isError(LZ4F_createDecompressionContext(&context, UInt32(LZ4F_VERSION))) == 0 else {
      throw Failure(.limit, "cannot allocate an LZ4 decoder")
    }
    defer { LZ4F_freeDecompressionContext(context) }
    var read = 0
    var written = 0
    while true {
      var taken = packed.count - read
      var given = target.count - written
      let hint = LZ4F_decompress(
        context, target.baseAddress.map { $0 + written }, &given, packed.baseAddress.map { $0 + read }, &taken, nil)
      guard LZ4F_isError(hint) == 0 else { throw Failure(.malformed, "LZ4 frame: \(errorName(hint))") }
      read += taken
      written += given
      if hint == 0 { break }
      guard taken > 0 || given > 0 else {
        throw Failure(
          .malformed, written == target.count ? "LZ4 frame holds more than it declares" : "LZ4 frame is truncated")
      }
    }
    guard written == target.count else {
      throw Failure(.malformed, "LZ4 frame holds \(written) bytes, \(target.count) expected")
    }
  }

  /// Walks header and block sizes before the decoder sees a byte of it.
  private static func checkStructure(_ packed: UnsafeRawBufferPointer, expecting size: Int) throws(Failure) {
    func malformed(_ problem: String, _ offset: Int) -> Failure {
      Failure(.malformed, "LZ4 frame: \(problem)", place: "frame byte \(offset)")
    }
    func word(_ offset: Int) -> UInt32 {
      UInt32(littleEndian: packed.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }
    guard packed.count >= 7 else { throw malformed("truncated header", packed.count) }
    guard word(0) != 0x184C_2102 else { throw Failure(.unsupported, "legacy LZ4 frame") }
    guard word(0) == magic else { throw malformed("wrong magic number", 0) }
    let flags = packed[4]
    guard flags >> 6 == 1 else { throw Failure(.unsupported, "LZ4 frame version \(flags >> 6)") }
    guard flags & 2 == 0 else { throw malformed("reserved flag is set", 4) }
    guard flags & 1 == 0 else { throw Failure(.unsupported, "LZ4 frame with a dictionary") }
    guard flags & 8 != 0, packed.count >= 15 else { throw malformed("content size is not declared", 4) }
    let descriptor = packed[5]
    guard descriptor & 0x8F == 0, descriptor >> 4 >= 4 else { throw malformed("unknown block size", 5) }
    let declared = UInt64(littleEndian: packed.loadUnaligned(fromByteOffset: 6, as: UInt64.self))
    guard declared == UInt64(size) else { throw malformed("declares \(declared) bytes, \(size) expected", 6) }
    let largest = 1 << (8 + 2 * Int(descriptor >> 4))
    var at = 15
    var blocks = 0
    while true {
      guard packed.count - at >= 4 else { throw malformed("truncated: no end mark", at) }
      let block = Int(word(at) & 0x7FFF_FFFF)
      at += 4
      if block == 0, word(at - 4) == 0 { break }
      guard block <= largest else { throw malformed("block \(blocks) is larger than the frame allows", at) }
      at += block + (flags & 16 != 0 ? 4 : 0)
      blocks += 1
      guard at <= packed.count else { throw malformed("truncated in block \(blocks - 1)", packed.count) }
      guard blocks <= Checked.ceilDivide(size, largest) + 1 else { throw Failure(.limit, "LZ4 frame: too many blocks") }
    }
    at += flags & 4 != 0 ? 4 : 0
    guard at <= packed.count else { throw malformed("truncated: no content checksum", packed.count) }
    guard at == packed.count else { throw malformed("\(packed.count - at) bytes after the frame", at) }
  }

  private static func errorName(_ code: Int) -> String { String(cString: LZ4F_getErrorName(code)) }
}
