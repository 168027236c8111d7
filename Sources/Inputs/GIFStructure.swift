import Bytes

/// The blocks of a GIF file (GIF89a), walked before a decoder sees them.
enum GIFStructure {
  /// Size, and the file with its first picture alone: no comments, no animation, no transparency, as the alpha of other
  /// formats is dropped. What the picture leaves free has the colour that Pillow gives it.
  ///
  /// - Throws: `malformed`, naming the place.
  /// - Cost: one pass over the bytes up to the end of the first picture.
  static func firstPicture(_ bytes: [UInt8]) throws(Failure) -> (width: Int, height: Int, bytes: [UInt8]) {
    let header = PictureHeader(bytes, "GIF")
    let (width, height) = (try header.short(6), try header.short(8))
    var at = 13 + colours(try header.byte(10))
    guard at <= bytes.count else { throw header.malformed("truncated in its colours", bytes.count) }
    var result = Array(bytes[..<at])
    result[11] = 0
    while true {
      let start = at
      switch try header.byte(at) {
      case 0x21:
        // Of a graphic control's one block: the last byte is the transparent colour, where the first one's bit says so.
        if try header.byte(at + 1) == 0xF9, try header.byte(at + 2) == 4, try header.byte(at + 3) & 1 == 1 {
          result[11] = UInt8(try header.byte(at + 6))
        }
        at += 2
        try skipBlocks(header, &at)
      case 0x2C:
        let (left, top) = (try header.short(at + 1), try header.short(at + 3))
        guard left + (try header.short(at + 5)) <= width, top + (try header.short(at + 7)) <= height else {
          throw header.malformed("a picture that goes beyond its screen of \(width) × \(height)", at)
        }
        at += 10 + colours(try header.byte(at + 9)) + 1
        try skipBlocks(header, &at)
        return (width, height, result + bytes[start..<at] + [0x3B])
      case 0x3B: throw header.malformed("no picture", at)
      case let other: throw header.malformed("block of unknown kind \(other)", at)
      }
    }
  }

  /// Bytes of the colour table that `flags` announce.
  private static func colours(_ flags: Int) -> Int { flags & 0x80 == 0 ? 0 : 3 << (flags & 7 + 1) }

  private static func skipBlocks(_ header: PictureHeader, _ at: inout Int) throws(Failure) {
    while true {
      let count = try header.byte(at)
      at += 1 + count
      if count == 0 { return }
    }
  }
}
