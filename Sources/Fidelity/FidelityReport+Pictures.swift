extension FidelityReport {
  /// A picture or video that is shown inside the page.
  public struct Picture: Sendable {
    public let isVideo: Bool
    public let bytes: [UInt8]
    /// Larger files are not shown.
    public static let limit = 4 << 20

    public init(isVideo: Bool, bytes: [UInt8]) {
      self.isVideo = isVideo
      self.bytes = bytes
    }

    /// The element that shows it, with the file's own bytes inside.
    var html: String {
      let data = Picture.base64(bytes)
      if isVideo { return "<video src=\"data:video/mp4;base64,\(data)\" controls muted loop></video>" }
      let type = bytes.starts(with: [0xFF, 0xD8]) ? "jpeg" : "png"
      return "<img src=\"data:image/\(type);base64,\(data)\" alt=\"\">"
    }

    /// RFC 4648.
    static func base64(_ bytes: [UInt8]) -> String {
      let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
      var result: [UInt8] = []
      result.reserveCapacity(bytes.count / 3 * 4 + 4)
      for start in stride(from: 0, to: bytes.count, by: 3) {
        let part = bytes[start..<min(start + 3, bytes.count)]
        var bits: UInt32 = 0
        for (place, byte) in part.enumerated() { bits |= UInt32(byte) << UInt32(16 - 8 * place) }
        for place in 0..<4 {
          result.append(place <= part.count ? alphabet[Int(bits >> UInt32(18 - 6 * place)) & 63] : UInt8(ascii: "="))
        }
      }
      return String(decoding: result, as: UTF8.self)
    }
  }
}
