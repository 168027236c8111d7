import Bytes

/// The segments of a JPEG file (ITU-T T.81 annex B), walked before a decoder sees them: what libjpeg would guess at,
/// take minutes for, or not read.
enum JPEGStructure {
  /// - Throws: `malformed`, `unsupported` or `limit`, naming the place.
  /// - Cost: one pass over the bytes.
  static func check(_ bytes: [UInt8]) throws(Failure) {
    var at = 2
    var state = State()
    while true {
      let marker = try nextMarker(bytes, &at)
      switch marker {
      case 0xD9: return try state.end(at)
      case 0x01, 0xD0...0xD7: continue  // no length
      case 0xD8: throw malformed("a second start of image", at)
      default: break
      }
      guard at + 2 <= bytes.count else { throw truncated }
      let length = Int(bytes[at]) << 8 | Int(bytes[at + 1])
      guard length >= 2 else { throw malformed("segment of length \(length)", at) }
      guard length <= bytes.count - at else { throw truncated }
      let body = bytes[(at + 2)..<(at + length)]
      try state.see(marker, body, at)
      at += length
      if marker == 0xDA { skipScan(bytes, &at) }
    }
  }

  private struct State {
    var frame: UInt8?
    var components = 0
    var scans = 0
    var hasHuffman = false
    var hasQuantization = false

    mutating func see(_ marker: UInt8, _ body: ArraySlice<UInt8>, _ at: Int) throws(Failure) {
      switch marker {
      case 0xC4: hasHuffman = true
      case 0xDB: hasQuantization = true
      case 0xC0...0xCF where marker != 0xC8 && marker != 0xCC:
        guard frame == nil else { throw malformed("a second frame header", at) }
        frame = marker
        try seeFrame(marker, Array(body), at)
      case 0xDA:
        guard frame != nil else { throw malformed("a scan before the frame header", at) }
        guard hasHuffman else { throw malformed("a scan without Huffman tables", at) }
        guard hasQuantization else { throw malformed("a scan without quantization tables", at) }
        guard let count = body.first, count > 0 else { throw malformed("a scan without components", at) }
        scans += 1
        guard scans <= Limits.imageScans else {
          throw Failure(.limit, "JPEG: more than \(Limits.imageScans) scans", place: "byte \(at)")
        }
      default: break
      }
    }

    private mutating func seeFrame(_ marker: UInt8, _ body: [UInt8], _ at: Int) throws(Failure) {
      guard marker <= 0xC2 else {
        let kind = marker >= 0xC9 ? "arithmetic" : marker == 0xC3 ? "lossless" : "hierarchical"
        throw Failure(.unsupported, "JPEG: \(kind) coding is not read", place: "byte \(at)")
      }
      guard body.count >= 6 else { throw malformed("a frame header of \(body.count) bytes", at) }
      guard body[0] == 8 else {
        throw Failure(
          body[0] == 12 ? .unsupported : .malformed, "JPEG: \(body[0]) bits a sample; 8 are read", place: "byte \(at)")
      }
      components = Int(body[5])
      guard components > 0, body.count == 6 + 3 * components else { throw malformed("\(components) components", at) }
      guard components == 1 || components == 3 || components == 4 else {
        throw Failure(
          .unsupported, "JPEG: \(components) components are not read; grey, colour and CMYK are", place: "byte \(at)")
      }
      if body[1] == 0, body[2] == 0 {
        throw Failure(.unsupported, "JPEG: height given after the scan (DNL) is not read", place: "byte \(at)")
      }
      // libjpeg has a limit of its own, and another name for it.
      try Picture.check(Int(body[3]) << 8 | Int(body[4]), Int(body[1]) << 8 | Int(body[2]))
    }

    func end(_ at: Int) throws(Failure) {
      guard scans > 0 else { throw malformed("no scan", at) }
    }
  }

  /// The marker at `at`, past fill bytes. Anything before it is skipped, as decoders do.
  private static func nextMarker(_ bytes: [UInt8], _ at: inout Int) throws(Failure) -> UInt8 {
    while true {
      while at < bytes.count, bytes[at] != 0xFF { at += 1 }
      while at < bytes.count, bytes[at] == 0xFF { at += 1 }
      guard at < bytes.count else { throw truncated }
      at += 1
      if bytes[at - 1] != 0 { return bytes[at - 1] }
    }
  }

  /// Moves past entropy-coded data: to the next marker that is neither a stuffed zero nor a restart.
  private static func skipScan(_ bytes: [UInt8], _ at: inout Int) {
    bytes.withUnsafeBufferPointer { bytes in
      while at + 1 < bytes.count {
        if bytes[at] == 0xFF {
          let next = bytes[at + 1]
          if next != 0, next != 0xFF, !(0xD0...0xD7).contains(next) { return }
        }
        at += 1
      }
      at = bytes.count
    }
  }

  private static let truncated = Failure(.malformed, "JPEG: truncated; the end of image is missing")

  private static func malformed(_ what: String, _ at: Int) -> Failure {
    Failure(.malformed, "JPEG: \(what)", place: "byte \(at)")
  }
}
