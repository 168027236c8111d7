import Bytes
import TestSupport
import Testing

struct LZ4FrameTests {
  /// 64 bytes, 00…0f four times, with every optional part of the format in use.
  static let frame = hex(
    "04224d187c404000000000000000fe1b000000ff01000102030405060708090a0b0c0d0e0f100018500b0c0d0e0f"
      + "7c8b225b000000003f4154f6"
  )
  static let raw = (0..<64).map { UInt8($0 % 16) }

  static func hex(_ text: String) -> [UInt8] {
    let digits = Array(text)
    return stride(from: 0, to: digits.count, by: 2).compactMap { UInt8(String(digits[$0...$0 + 1]), radix: 16) }
  }

  static func decode(_ frame: [UInt8], _ count: Int = 64) -> Result<[UInt8], Failure> {
    outcome { () throws(Failure) in
      let target = try Buffer(count: count)
      let source = try Buffer(frame)
      try source.withBytes { (source) throws(Failure) in
        try target.withMutableBytes { (target) throws(Failure) in try LZ4Frame.decompress(source, into: target) }
      }
      return target.array(of: UInt8.self)
    }
  }

  @Test("a good frame decodes")
  func aGoodFrameDecodes() throws { #expect(try LZ4FrameTests.decode(LZ4FrameTests.frame).get() == LZ4FrameTests.raw) }

  /// Each row changes one thing in the good frame.
  static let refused: [(String, Failure.Kind, String, @Sendable ([UInt8]) -> [UInt8])] = [
    ("L01 magic", .malformed, "magic", { replaced($0, 0, 5) }),
    ("L02 legacy", .unsupported, "legacy", { [0x02, 0x21, 0x4C, 0x18] + $0.dropFirst(4) }),
    ("L03 skippable", .malformed, "magic", { _ in hex("502a4d18ffffffff") }),
    ("L04 version", .unsupported, "version", { replaced($0, 4, 0xBC) }),
    ("L05 reserved flag", .malformed, "reserved", { replaced($0, 4, 0x7E) }),
    ("L06 reserved bits", .malformed, "block size", { replaced($0, 5, 0xC0) }),
    ("L07 block size code", .malformed, "block size", { replaced($0, 5, 0x30) }),
    ("L08 header checksum", .malformed, "headerChecksum", { replaced($0, 14, 0) }),
    ("L09 block too large", .malformed, "larger than the frame allows", { replaced($0, 17, 2) }),
    ("L10 block checksum", .malformed, "hecksum", { replaced($0, 46, 0) }),
    ("L11 content checksum", .malformed, "hecksum", { replaced($0, 57, 0) }),
    ("L12 content size", .malformed, "declares", { replaced($0, 6, 63) }),
    ("L13 cut", .malformed, "truncated", { Array($0.dropLast(20)) }),
    ("L13 no checksum", .malformed, "truncated", { Array($0.dropLast(4)) }),
    ("L14 trailing", .malformed, "after the frame", { $0 + Array("junk".utf8) }),
    ("L14 two frames", .malformed, "after the frame", { $0 + $0 }),
    ("L22 dictionary", .unsupported, "dictionary", { replaced($0, 4, 0x7D) }),
    ("L23 flipped bit", .malformed, "hecksum", { replaced($0, 20, $0[20] ^ 1) }),
  ]

  static func replaced(_ bytes: [UInt8], _ index: Int, _ value: UInt8) -> [UInt8] {
    var bytes = bytes
    bytes[index] = value
    return bytes
  }

  @Test("a changed frame is refused", arguments: LZ4FrameTests.refused.indices)
  func aChangedFrameIsRefused(_ row: Int) {
    let (id, kind, words, change) = LZ4FrameTests.refused[row]
    guard case .failure(let failure) = LZ4FrameTests.decode(change(LZ4FrameTests.frame)) else {
      Issue.record("\(id) was accepted")
      return
    }
    #expect(failure.kind == kind && failure.description.contains(words), "\(id): \(failure)")
  }

  @Test("what is compressed decodes to itself, in blocks too")
  func whatIsCompressedDecodesToItselfInBlocksToo() throws {
    var random = Random(seed: 9)
    for count in [0, 1, 1_000, 9 << 20] {
      let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 / 7) ^ (random.below(50) == 0 ? 1 : 0) }
      let packed = try bytes.withUnsafeBytes { try LZ4Frame.compress($0) }
      if count == 0 { continue }
      #expect(try LZ4FrameTests.decode(packed, count).get() == bytes)
      guard case .failure = LZ4FrameTests.decode(packed, count + 1) else {
        Issue.record("a frame of \(count) bytes passed for one more")
        return
      }
    }
  }

  @Test("truncated anywhere and with any bit flipped, nothing traps and nothing wrong is accepted")
  func truncatedAnywhereAndWithAnyBitFlippedNothingTrapsAndNothingWrongIsAccepted() {
    let frame = LZ4FrameTests.frame
    for count in 0..<frame.count {
      if case .success = LZ4FrameTests.decode(Array(frame.prefix(count))) { Issue.record("accepted \(count) bytes") }
    }
    for bit in 0..<frame.count * 8 {
      if case .success(let bytes) = LZ4FrameTests.decode(
        LZ4FrameTests.replaced(frame, bit / 8, frame[bit / 8] ^ UInt8(1 << (bit % 8))))
      {
        #expect(bytes == LZ4FrameTests.raw)
      }
    }
  }

  @Test("byte planes come back", arguments: [2, 4, 8])
  func bytePlanesComeBack(_ width: Int) throws {
    var random = Random(seed: 11)
    let bytes = (0..<width * 1_001).map { $0 % width == 0 ? UInt8(3) : UInt8(truncatingIfNeeded: random.next()) }
    let codec = Codec.lz4Planes(width: width)
    let packed = try bytes.withUnsafeBytes { try codec.encode($0) ?? [] }
    let stored = StoredBytes(
      stored: ByteView(try Buffer(packed)), codec: codec, count: bytes.count, checksum: XXH64.hash(bytes))
    #expect(try stored.load().array(of: UInt8.self) == bytes)
    #expect(throws: Failure.self) {
      try StoredBytes(stored: ByteView(try Buffer(packed)), codec: codec, count: bytes.count, checksum: 1).load()
    }
  }
}
