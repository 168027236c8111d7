import Bytes

/// The containers of videos that are read, told apart by their first bytes, whatever a file is called.
///
/// Playlists, scripts, subtitles and patterns of image names are none of them: they make ffmpeg open other files.
enum VideoContainer: String, CaseIterable {
  // ffmpeg's names.
  case mov, matroska, avi, mpegts, mpeg, ogg, flv, asf, gif

  /// - Throws: `unsupported` for everything else.
  init(_ file: InputFile) throws(Failure) {
    let head = try ByteView(file, 0, min(1_024, file.count)).bytes()
    guard !head.isEmpty else { throw Failure(.malformed, "the file is empty") }
    if let found = VideoContainer.allCases.first(where: { $0.isStart(head) }) {
      self = found
      return
    }
    if let picture = PictureFormat.detect(head) {
      throw Failure(.unsupported, "is a \(picture.rawValue) picture, not a video; pictures go under \"images\"")
    }
    throw Failure(
      .unsupported,
      "is no video container that is read: MP4, QuickTime, Matroska, WebM, AVI, MPEG-TS, MPEG-PS, Ogg, FLV, ASF, GIF; "
        + "playlists and scripts, which name other files, are not followed")
  }

  private func isStart(_ head: [UInt8]) -> Bool {
    func has(_ text: String, at place: Int = 0) -> Bool { head.dropFirst(place).starts(with: text.utf8) }
    switch self {
    case .mov:
      // A still picture may lie in such a container too.
      return ["ftyp", "moov", "mdat", "free", "skip", "wide", "pnot"].contains { has($0, at: 4) }
        && PictureFormat.detect(head) != .avif
    case .matroska: return head.starts(with: [0x1A, 0x45, 0xDF, 0xA3])
    case .avi: return has("RIFF") && (has("AVI ", at: 8) || has("AVIX", at: 8))
    case .mpegts: return isPackets(head, from: 0, of: 188) || isPackets(head, from: 4, of: 192)
    case .mpeg: return head.starts(with: [0, 0, 1, 0xBA])
    case .ogg: return has("OggS")
    case .flv: return has("FLV\u{1}")
    case .asf: return head.starts(with: [0x30, 0x26, 0xB2, 0x75, 0x8E, 0x66, 0xCF, 0x11])
    case .gif: return has("GIF87a") || has("GIF89a")
    }
  }

  /// Whether each packet starts with the byte that those of MPEG-TS start with.
  private func isPackets(_ head: [UInt8], from: Int, of size: Int) -> Bool {
    let starts = stride(from: from, to: head.count, by: size)
    return head.count > from + size && starts.allSatisfy { head[$0] == 0x47 }
  }
}
