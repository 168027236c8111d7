import Bytes

/// ffmpeg in a child process, made to read one open file and nothing else.
///
/// The file is its standard input, so no name reaches it. What the file may be is said, not guessed by ffmpeg, which
/// would follow playlists and scripts to other files; formats inside of formats are held to the same name.
enum FFmpeg {
  /// Comes first: what it says of itself would be taken for its first complaint.
  private static let quiet = ["-v", "error"]
  private static let install = "install ffmpeg (Debian and Ubuntu: apt-get install ffmpeg)"

  /// - Parameters:
  ///   - demuxer: ffmpeg's name for what the file is.
  ///   - isStrict: whether damage is a failure. Of a video the frames that can be decoded are better than none.
  ///   - output: options for what is written: raw RGB, 8 bits a channel.
  static func decoder(
    _ file: InputFile, _ demuxer: String, isStrict: Bool, _ output: [String]
  ) throws(Failure) -> ChildProcess {
    let strict = isStrict ? ["-xerror", "-err_detect", "explode"] : []
    // As they are stored: neither turned nor mirrored.
    let input = quiet + ["-nostdin"] + strict + ["-noautorotate"] + reading(demuxer)
    return try ChildProcess(
      "ffmpeg", input + ["-map", "0:v:0"] + output + ["-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"], input: file,
      install: install)
  }

  /// The program that tells what is in a file.
  static func probe(_ file: InputFile, _ demuxer: String, _ options: [String]) throws(Failure) -> ChildProcess {
    try ChildProcess("ffprobe", quiet + options + reading(demuxer), input: file, install: install)
  }

  private static func reading(_ demuxer: String) -> [String] {
    // QuickTime files may name others that hold their frames.
    let alone = demuxer == "mov" ? ["-enable_drefs", "0", "-use_absolute_path", "0"] : []
    return ["-protocol_whitelist", "file", "-format_whitelist", demuxer]
      + ["-max_pixels", String(Limits.imagePixels)] + alone + ["-f", demuxer, "-i", "file:/dev/stdin"]
  }
}
