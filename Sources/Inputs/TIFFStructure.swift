import Bytes

/// The first directory of a TIFF file (TIFF 6.0): what decoders do not agree on is refused, so that one which is read
/// has the pixels that Pillow gives it.
struct TIFFStructure {
  let width, height: Int
  /// The file with a directory that says how the pixels are stored and nothing else: no other page, no maker's notes.
  let bytes: [UInt8]
  /// Sizes, bits, compression, colours, bit order, strips, samples, fax options, planes, predictor, palette.
  private static let kept: Set<Int> = [256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320]

  /// - Throws: `malformed`, `unsupported`, naming the tag.
  init(_ bytes: [UInt8]) throws(Failure) {
    let header = PictureHeader(bytes, "TIFF", isBigEndian: bytes.starts(with: "MM".utf8))
    guard try header.short(2) == 42 else { throw header.unsupported("BigTIFF is") }
    let tags = try TIFFStructure.tags(header)
    func value(_ tag: Int, _ standard: Int) throws(Failure) -> Int { try tags[tag]?.first ?? standard }
    guard let width = try tags[256]?.first, let height = try tags[257]?.first else {
      throw header.malformed("no width or height", try header.long(4))
    }
    (self.width, self.height) = (width, height)
    let depth = try value(258, 1)
    guard try tags[258]?.all.allSatisfy({ $0 == depth }) ?? true else {
      throw header.unsupported("samples of different widths are")
    }
    let (compression, photometric) = (try value(259, 1), try value(262, 1))
    guard [1, 2, 3, 4, 5, 8, 32_773, 32_946].contains(compression) else {
      throw header.unsupported("compression \(compression) is")
    }
    let kinds = [0: [1, 4, 8, 16], 1: [1, 4, 8, 16], 2: [8, 16], 3: [4, 8], 5: [8]]
    guard let depths = kinds[photometric] else { throw header.unsupported("colour space \(photometric) is") }
    guard depths.contains(depth) else {
      throw header.unsupported("\(depth) bits a sample in colour space \(photometric) are")
    }
    guard try value(339, 1) == 1 else { throw header.unsupported("numbers with signs or fractions are") }
    guard try value(338, 0) != 1 else { throw header.unsupported("colours multiplied by alpha are") }
    guard try value(274, 1) == 1 else { throw header.unsupported("pictures stored turned or mirrored are") }
    guard tags[322] == nil else { throw header.unsupported("tiles are") }
    let entries = tags.filter { TIFFStructure.kept.contains($0.key) }.sorted { $0.key < $1.key }.map(\.value.entry)
    self.bytes = TIFFStructure.replacingDirectory(header, entries)
  }

  private static func replacingDirectory(_ header: PictureHeader, _ entries: [ArraySlice<UInt8>]) -> [UInt8] {
    func number(_ value: Int, _ size: Int) -> [UInt8] {
      let digits = (0..<size).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
      return header.isBigEndian ? digits.reversed() : digits
    }
    var result = header.bytes + (header.bytes.count % 2 == 1 ? [0] : [])
    result.replaceSubrange(4..<8, with: number(result.count, 4))
    return result + number(entries.count, 2) + entries.joined() + number(0, 4)
  }

  /// A tag's values, which lie in the directory or elsewhere.
  private struct Values {
    let header: PictureHeader
    let size, count, at: Int
    /// The tag as the directory has it.
    let entry: ArraySlice<UInt8>

    var first: Int { get throws(Failure) { try value(0) } }

    /// Of tags with a value for each sample: no picture here has more than five.
    var all: [Int] {
      get throws(Failure) {
        var values: [Int] = []
        for index in 0..<min(count, 8) { values.append(try value(index)) }
        return values
      }
    }

    private func value(_ index: Int) throws(Failure) -> Int {
      let place = at + index * size
      guard count > index, let value = header.number(place, bytes: size) else {
        throw header.malformed("a tag without its values", place)
      }
      return value
    }
  }

  private static func tags(_ header: PictureHeader) throws(Failure) -> [Int: Values] {
    let directory = try header.long(4)
    var tags: [Int: Values] = [:]
    var last = -1
    for index in 0..<(try header.short(directory)) {
      let at = directory + 2 + 12 * index
      let (tag, count) = (try header.short(at), try header.long(at + 4))
      // One decoder takes the first of two, another the last.
      guard tag > last else { throw header.malformed("tag \(tag) after tag \(last)", at) }
      last = tag
      // Bytes, shorts and longs; the rest is not for us.
      guard let size = [1: 1, 3: 2, 4: 4][try header.short(at + 2)] else { continue }
      let isInside = count <= 4 / size
      tags[tag] = Values(
        header: header, size: size, count: count, at: isInside ? at + 8 : try header.long(at + 8),
        entry: header.bytes[at..<at + 12])
    }
    return tags
  }
}
