import Bytes
import CImages

/// What reads a picture's bytes: a library of this process, or ffmpeg in a child process. Size from the header alone.
struct PictureDecoder {
  private typealias Library = (
    UnsafePointer<UInt8>?, Int, UnsafeMutablePointer<UInt8>?, UnsafeMutablePointer<UInt32>?,
    UnsafeMutablePointer<UInt32>?, UnsafeMutablePointer<CChar>?
  ) -> Int32

  private enum Reader {
    case linked(Library)
    case child(demuxer: String)
  }

  let width, height: Int
  private let format: PictureFormat
  private let bytes: [UInt8]
  private let reader: Reader

  /// - Throws: `malformed`, `unsupported`, or `limit` before memory is taken for pixels.
  init(_ bytes: [UInt8]) throws(Failure) {
    format = try PictureFormat(bytes)
    var bytes = bytes
    switch format {
    case .jpeg:
      try JPEGStructure.check(bytes)
      reader = .linked(llv_jpeg_read)
    case .png:
      guard bytes.starts(with: [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]) else {
        throw Failure(.malformed, "PNG signature is damaged, as by a text-mode transfer")
      }
      reader = .linked(llv_png_read)
    case .webp: reader = .linked(llv_webp_read)
    case .avif: reader = .linked(llv_avif_read)
    case .gif: reader = .child(demuxer: "gif")
    case .bmp: reader = .child(demuxer: "bmp_pipe")
    case .tiff: reader = .child(demuxer: "tiff_pipe")
    }
    switch format {
    case .gif: (width, height, bytes) = try GIFStructure.firstPicture(bytes)
    case .bmp: (width, height) = try BMPStructure.size(bytes)
    case .tiff:
      let structure = try TIFFStructure(bytes)
      (width, height, bytes) = (structure.width, structure.height, structure.bytes)
    default:
      guard case .linked(let read) = reader else { throw Failure(.internal, "a picture without a reader") }
      var size = (width: UInt32(0), height: UInt32(0))
      try PictureDecoder.run(read, format, bytes, nil, &size)
      (width, height) = (Int(size.width), Int(size.height))
    }
    self.bytes = bytes
    try Picture.check(width, height)
  }

  /// RGB rows, `[height, width, 3]`.
  func pixels() throws(Failure) -> [UInt8] {
    switch reader {
    case .linked(let read):
      var pixels = [UInt8](repeating: 0, count: width * height * 3)
      var size = (width: UInt32(width), height: UInt32(height))
      try PictureDecoder.run(read, format, bytes, &pixels, &size)
      return pixels
    case .child(let demuxer):
      let file = try InputFile(unnamed: bytes)
      let decoder = try FFmpeg.decoder(file, demuxer, isStrict: true, ["-frames:v", "1"])
      let pixels = try decoder.read(width * height * 3)
      let rest = try decoder.read(1)
      let damaged = "\(format.rawValue): the data is damaged or truncated"
      do throws(Failure) { try decoder.finish() } catch { throw Failure(.malformed, "\(damaged); \(error.problem)") }
      // Some decoders complain, patch it over and go on.
      guard pixels.count == width * height * 3, rest.isEmpty, decoder.complaint == nil else {
        throw Failure(.malformed, damaged)
      }
      return pixels
    }
  }

  /// Finds the size where there is no target.
  private static func run(
    _ read: Library, _ format: PictureFormat, _ bytes: [UInt8], _ target: UnsafeMutablePointer<UInt8>?,
    _ size: inout (width: UInt32, height: UInt32)
  ) throws(Failure) {
    var message = [CChar](repeating: 0, count: Int(LLV_MESSAGE))
    guard read(bytes, bytes.count, target, &size.width, &size.height, &message) == 1 else {
      let text = message.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
      throw Failure(.malformed, "\(format.rawValue): " + String(decoding: text, as: UTF8.self))
    }
  }
}
