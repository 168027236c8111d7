import Bytes
import CImages

/// A decoded picture: RGB, 8 bits a channel, rows from the top, `[height, width, 3]`.
public struct Picture: Sendable, Equatable {
  public let width, height: Int
  public let pixels: [UInt8]

  public init(width: Int, height: Int, pixels: [UInt8]) {
    precondition(pixels.count == width * height * 3, "three bytes a pixel")
    self.width = width
    self.height = height
    self.pixels = pixels
  }

  /// Reads a JPEG or PNG file, told apart by content. As models are trained: EXIF orientation is not applied, alpha is
  /// dropped, grey is replicated, colour profiles are ignored.
  ///
  /// - Throws: `malformed` for what no decoder should patch over, `limit` before memory is taken for it, `unsupported` for
  ///   CMYK, lossless and arithmetic JPEG.
  public init(path: String) throws(Failure) {
    let file = try InputFile(path)
    do throws(Failure) {
      try self.init(encoded: try file.all(limit: Limits.imageFile, what: "image"))
    } catch { throw error.inFile(path) }
  }

  /// The same from bytes.
  public init(encoded bytes: [UInt8]) throws(Failure) {
    if bytes.starts(with: [0xFF, 0xD8]) {
      try JPEGStructure.check(bytes)
      try self.init(bytes, "JPEG", llv_jpeg_read)
    } else if bytes.starts(with: [0x89, 0x50, 0x4E, 0x47]) {
      guard bytes.starts(with: [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]) else {
        throw Failure(.malformed, "PNG signature is damaged, as by a text-mode transfer")
      }
      try self.init(bytes, "PNG", llv_png_read)
    } else {
      throw Failure(.malformed, bytes.isEmpty ? "the file is empty" : "neither a JPEG nor a PNG file")
    }
  }

  private typealias Reader = (
    UnsafePointer<UInt8>?, Int, UnsafeMutablePointer<UInt8>?, UnsafeMutablePointer<UInt32>?,
    UnsafeMutablePointer<UInt32>?, UnsafeMutablePointer<CChar>?
  ) -> Int32

  private init(_ bytes: [UInt8], _ kind: String, _ read: Reader) throws(Failure) {
    var (width, height) = (UInt32(0), UInt32(0))
    var message = [CChar](repeating: 0, count: Int(LLV_MESSAGE))
    func failure() -> Failure {
      let text = message.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
      return Failure(.malformed, "\(kind): " + String(decoding: text, as: UTF8.self))
    }
    guard read(bytes, bytes.count, nil, &width, &height, &message) == 1 else { throw failure() }
    try Picture.check(Int(width), Int(height))
    var pixels = [UInt8](repeating: 0, count: Int(width) * Int(height) * 3)
    guard read(bytes, bytes.count, &pixels, &width, &height, &message) == 1 else { throw failure() }
    self.init(width: Int(width), height: Int(height), pixels: pixels)
  }

  /// Holds a size to the limits, before memory is taken for it.
  static func check(_ width: Int, _ height: Int) throws(Failure) {
    guard width > 0, height > 0 else { throw Failure(.malformed, "a picture of \(width) × \(height) pixels") }
    guard width <= Limits.imageSide, height <= Limits.imageSide, width * height <= Limits.imagePixels else {
      throw Failure(
        .limit,
        "\(width) × \(height) pixels; at most \(Limits.imageSide) a side and \(Limits.imagePixels) in all are decoded")
    }
  }
}
