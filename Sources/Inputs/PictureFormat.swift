import Bytes

/// The formats of pictures, told apart by their first bytes, whatever a file is called.
enum PictureFormat: String, Sendable {
  case jpeg = "JPEG"
  case png = "PNG"
  case webp = "WebP"
  case avif = "AVIF"
  case gif = "GIF"
  case bmp = "BMP"
  case tiff = "TIFF"

  /// Nil where the bytes are of no picture that is read.
  static func detect(_ bytes: [UInt8]) -> PictureFormat? {
    func has(_ text: String, at place: Int = 0) -> Bool { bytes.dropFirst(place).starts(with: text.utf8) }
    if bytes.starts(with: [0xFF, 0xD8]) { return .jpeg }
    if bytes.starts(with: [0x89]), has("PNG", at: 1) { return .png }
    if has("RIFF"), has("WEBP", at: 8) { return .webp }
    if has("ftyp", at: 4), brands(bytes).contains(where: ["avif", "avis"].contains) { return .avif }
    if has("GIF87a") || has("GIF89a") { return .gif }
    if has("BM") { return .bmp }
    return ["II*\0", "MM\0*", "II+\0", "MM\0+"].contains(where: { has($0) }) ? .tiff : nil
  }

  /// - Throws: `unsupported` for other pictures, by name; `malformed` for everything else.
  init(_ bytes: [UInt8]) throws(Failure) {
    if let format = PictureFormat.detect(bytes) {
      self = format
      return
    }
    if let other = PictureFormat.other(bytes) {
      throw Failure(.unsupported, "\(other) is not read; convert the picture to PNG first")
    }
    let names = "neither a JPEG, PNG, WebP, AVIF, GIF, BMP nor TIFF file"
    throw Failure(.malformed, bytes.isEmpty ? "the file is empty" : names)
  }

  /// Pictures that people have and this program does not read.
  private static func other(_ bytes: [UInt8]) -> String? {
    func has(_ text: String, at place: Int = 0) -> Bool { bytes.dropFirst(place).starts(with: text.utf8) }
    if bytes.starts(with: [0xFF, 0x0A]) || has("JXL ", at: 4) { return "JPEG XL" }
    if has("jP  ", at: 4) || bytes.starts(with: [0xFF, 0x4F, 0xFF, 0x51]) { return "JPEG 2000" }
    if has("8BPS") { return "Photoshop's PSD" }
    if has("<svg") { return "SVG" }
    let isHEIC = has("ftyp", at: 4) && brands(bytes).contains(where: ["heic", "heix", "mif1", "hevc"].contains)
    return isHEIC ? "HEIC" : nil
  }

  /// What the first box of an ISO base media file says it can be read as.
  private static func brands(_ bytes: [UInt8]) -> [String] {
    let end = min(PictureHeader(bytes, "", isBigEndian: true).number(0, bytes: 4) ?? 0, bytes.count, 256)
    return stride(from: 8, to: max(8, end - 3), by: 4).map { String(decoding: bytes[$0..<$0 + 4], as: UTF8.self) }
  }
}

/// Numbers in a picture's header, none of them taken from beyond the end of the file.
struct PictureHeader {
  let bytes: [UInt8]
  let format: String
  var isBigEndian = false

  init(_ bytes: [UInt8], _ format: String, isBigEndian: Bool = false) {
    (self.bytes, self.format, self.isBigEndian) = (bytes, format, isBigEndian)
  }

  /// The number of `size` bytes at `at`; nil beyond the end.
  func number(_ at: Int, bytes size: Int) -> Int? {
    guard at >= 0, at <= bytes.count - size else { return nil }
    let digits = bytes[at..<at + size]
    return isBigEndian
      ? digits.reduce(0) { $0 << 8 | Int($1) } : digits.reversed().reduce(0) { $0 << 8 | Int($1) }
  }

  /// - Throws: `malformed` "truncated" beyond the end.
  func byte(_ at: Int) throws(Failure) -> Int { try held(number(at, bytes: 1), at) }
  func short(_ at: Int) throws(Failure) -> Int { try held(number(at, bytes: 2), at) }
  func long(_ at: Int) throws(Failure) -> Int { try held(number(at, bytes: 4), at) }

  private func held(_ value: Int?, _ at: Int) throws(Failure) -> Int {
    guard let value else { throw malformed("truncated in its header", at) }
    return value
  }

  func malformed(_ what: String, _ at: Int) -> Failure {
    Failure(.malformed, "\(format): \(what)", place: "byte \(at)")
  }

  func unsupported(_ what: String) -> Failure {
    Failure(.unsupported, "\(format): \(what) not read; convert the picture to PNG first")
  }
}
