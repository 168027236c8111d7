import Bytes

/// A decoded picture: RGB, 8 bits a channel, rows from the top, `[height, width, 3]`.
public struct Picture: Sendable, Hashable {
  public let width, height: Int
  public let pixels: [UInt8]

  public init(width: Int, height: Int, pixels: [UInt8]) {
    precondition(pixels.count == width * height * 3, "three bytes a pixel")
    self.width = width
    self.height = height
    self.pixels = pixels
  }

  /// Pixels that somebody else decoded.
  ///
  /// - Throws: `malformed` when their count does not fit, `limit` for more than are decoded of a file.
  public init(rgb pixels: [UInt8], width: Int, height: Int) throws(Failure) {
    try Picture.check(width, height)
    guard pixels.count == width * height * 3 else {
      throw Failure(.malformed, "\(pixels.count) bytes for a picture of \(width) × \(height) pixels of three bytes")
    }
    self.init(width: width, height: height, pixels: pixels)
  }

  init(_ source: PictureSource) throws(Failure) {
    switch source {
    case .encoded(let bytes): try self.init(encoded: bytes)
    case .decoded(let picture): self = picture
    }
  }

  /// Reads a file of a `PictureFormat`, told by content; of an animation the first frame. As models are trained: EXIF
  /// orientation is not applied, alpha is dropped, grey is replicated, colour profiles are ignored.
  ///
  /// - Throws: `malformed` for what no decoder should patch over, `limit` before memory is taken for it, `unsupported`
  ///   for kinds of pictures that are not read, `missing` without ffmpeg for GIF, BMP and TIFF.
  public init(path: String) throws(Failure) {
    let file = try InputFile(path)
    do throws(Failure) {
      try self.init(encoded: try file.all(limit: Limits.imageFile, what: "image"))
    } catch { throw error.inFile(path) }
  }

  /// Width and height of such a file, from its header.
  ///
  /// - Throws: what reading the picture throws before pixels are decoded.
  public static func size(path: String) throws(Failure) -> (width: Int, height: Int) {
    let file = try InputFile(path)
    do throws(Failure) {
      let decoder = try PictureDecoder(try file.all(limit: Limits.imageFile, what: "image"))
      return (decoder.width, decoder.height)
    } catch { throw error.inFile(path) }
  }

  /// The same from bytes.
  public init(encoded bytes: [UInt8]) throws(Failure) {
    let decoder = try PictureDecoder(bytes)
    self.init(width: decoder.width, height: decoder.height, pixels: try decoder.pixels())
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
