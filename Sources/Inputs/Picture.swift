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

  /// Width and height of a JPEG or PNG file, from its header.
  ///
  /// - Throws: what reading the picture throws before pixels are decoded.
  public static func size(path: String) throws(Failure) -> (width: Int, height: Int) {
    let file = try InputFile(path)
    do throws(Failure) {
      let bytes = try file.all(limit: Limits.imageFile, what: "image")
      let decoder = try Decoder(bytes)
      return try decoder.size(bytes)
    } catch { throw error.inFile(path) }
  }

  /// The same from bytes.
  public init(encoded bytes: [UInt8]) throws(Failure) {
    let decoder = try Decoder(bytes)
    let (width, height) = try decoder.size(bytes)
    self.init(width: width, height: height, pixels: try decoder.pixels(bytes, width, height))
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

/// What reads a picture's bytes.
private struct Decoder {
  private typealias Reader = (
    UnsafePointer<UInt8>?, Int, UnsafeMutablePointer<UInt8>?, UnsafeMutablePointer<UInt32>?,
    UnsafeMutablePointer<UInt32>?, UnsafeMutablePointer<CChar>?
  ) -> Int32

  private let kind: String
  private let read: Reader

  /// Told from the first bytes.
  init(_ bytes: [UInt8]) throws(Failure) {
    if bytes.starts(with: [0xFF, 0xD8]) {
      try JPEGStructure.check(bytes)
      (kind, read) = ("JPEG", llv_jpeg_read)
    } else if bytes.starts(with: [0x89, 0x50, 0x4E, 0x47]) {
      guard bytes.starts(with: [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]) else {
        throw Failure(.malformed, "PNG signature is damaged, as by a text-mode transfer")
      }
      (kind, read) = ("PNG", llv_png_read)
    } else {
      throw Failure(.malformed, bytes.isEmpty ? "the file is empty" : "neither a JPEG nor a PNG file")
    }
  }

  func size(_ bytes: [UInt8]) throws(Failure) -> (width: Int, height: Int) {
    var size = (width: UInt32(0), height: UInt32(0))
    try run(bytes, nil, &size)
    try Picture.check(Int(size.width), Int(size.height))
    return (Int(size.width), Int(size.height))
  }

  func pixels(_ bytes: [UInt8], _ width: Int, _ height: Int) throws(Failure) -> [UInt8] {
    var pixels = [UInt8](repeating: 0, count: width * height * 3)
    var size = (width: UInt32(width), height: UInt32(height))
    try run(bytes, &pixels, &size)
    return pixels
  }

  /// Finds the size where there is no target.
  private func run(
    _ bytes: [UInt8], _ target: UnsafeMutablePointer<UInt8>?, _ size: inout (width: UInt32, height: UInt32)
  ) throws(Failure) {
    var message = [CChar](repeating: 0, count: Int(LLV_MESSAGE))
    guard read(bytes, bytes.count, target, &size.width, &size.height, &message) == 1 else {
      let text = message.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
      throw Failure(.malformed, "\(kind): " + String(decoding: text, as: UTF8.self))
    }
  }
}
