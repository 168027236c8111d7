import Bytes

/// The headers of a BMP file, of Windows or OS/2.
enum BMPStructure {
  private static let depths = [1, 4, 8, 16, 24, 32]

  /// - Throws: `malformed`, `unsupported`.
  static func size(_ bytes: [UInt8]) throws(Failure) -> (width: Int, height: Int) {
    let header = PictureHeader(bytes, "BMP")
    let length = try header.long(14)
    if length == 12 {
      try check(header, depth: try header.short(24), compression: 0)
      return (try header.short(18), try header.short(20))
    }
    guard (40...124).contains(length) else { throw header.malformed("a header of \(length) bytes", 14) }
    try check(header, depth: try header.short(28), compression: try header.long(30))
    // A negative height says that rows go from the top.
    let (width, height) = (try header.long(18), Int(Int32(truncatingIfNeeded: try header.long(22))))
    return (width, abs(height))
  }

  private static func check(_ header: PictureHeader, depth: Int, compression: Int) throws(Failure) {
    guard depths.contains(depth) else { throw header.malformed("\(depth) bits a pixel", 28) }
    guard compression <= 3 else { throw header.unsupported("compression \(compression) is") }
  }
}
