import Bytes
import Tensors

/// Frames of a video, sampled as LLaVE's retrieval evaluation does (CLIP4Clip's reader over decord): one every
/// round(rate / framesPerSecond) frames, ties to even; when that gives too many, as many as allowed, evenly spaced over
/// all.
///
/// Decoding is ffmpeg's, in a child process. A container's rotation is not applied.
public enum Video {
  /// Frames squashed to a square of `vision.tile`.
  /// - Throws: `unsupported` for a file that is no `VideoContainer`, `malformed` when there is no video in it,
  ///   `missing` without ffmpeg.
  static func frames(_ path: String, _ vision: Vision) throws(Failure) -> [Picture] {
    let file = try InputFile(path)
    do throws(Failure) {
      let container = try VideoContainer(file)
      let stream = try Stream(file, container)
      let wanted = places(total: stream.count, rate: stream.rate, vision)
      return try decode(file, container, stream, wanted, tile: vision.tile)
    } catch { throw error.inFile(path) }
  }

  /// Which frames are taken of `total`.
  public static func places(total: Int, rate: Double, _ vision: Vision) -> [Int] {
    // Below half a frame a second the rule gives a step of 0; every frame is taken then.
    let step = max(1, Int((rate / vision.framesPerSecond).rounded(.toNearestOrEven)))
    let places = Array(stride(from: 0, to: total, by: step))
    let most = vision.maximumFrames
    guard places.count > most else { return places }
    guard most > 1 else { return [0] }
    let spacing = Double(total - 1) / Double(most - 1)
    return (0..<most).map { $0 == most - 1 ? total - 1 : Int(Double($0) * spacing) }
  }

  private struct Stream {
    let width, height, count: Int
    let rate: Double

    init(_ file: InputFile, _ container: VideoContainer) throws(Failure) {
      let probe = try FFmpeg.probe(
        file, container.rawValue,
        [
          "-select_streams", "v:0", "-count_packets", "-show_entries",
          "stream=width,height,avg_frame_rate,nb_read_packets", "-of", "json",
        ])
      let bytes = try probe.readAll(limit: 1 << 20)
      try probe.finish()
      guard let stream = try JSON.parse(bytes, what: "ffprobe's answer").optional("streams")?.elements("streams").first
      else { throw Failure(.malformed, "has no video stream") }
      func number(_ key: String) throws(Failure) -> Int {
        let value = try stream.required(key)
        if value.kind == .number { return try value.integer(key, in: 0...Int(Int32.max)) }
        guard let number = Int(try value.string(key)), number >= 0 else { throw value.failure("\(key) is no number") }
        return number
      }
      width = try number("width")
      height = try number("height")
      try Picture.check(width, height)
      count = stream.optional("nb_read_packets") == nil ? 0 : try number("nb_read_packets")
      guard count > 0 else { throw Failure(.malformed, "the video has no frames") }
      guard count <= Limits.videoFrames else {
        throw Failure(.limit, "\(count) frames; at most \(Limits.videoFrames) are read")
      }
      let parts = try stream.required("avg_frame_rate").string("avg_frame_rate").split(separator: "/").compactMap {
        Double($0)
      }
      rate = parts.count == 2 && parts[1] > 0 ? min(max(parts[0] / parts[1], 0), 1e6) : 0
    }
  }

  private static func decode(
    _ file: InputFile, _ container: VideoContainer, _ stream: Stream, _ places: [Int], tile: Int
  ) throws(Failure) -> [Picture] {
    let chosen = places.map { "eq(n\\,\($0))" }.joined(separator: "+")
    // Times are renumbered, so that no frame is doubled or dropped to keep a rate.
    let decoder = try FFmpeg.decoder(
      file, container.rawValue, isStrict: false,
      ["-vf", "select='\(chosen)',setpts=N/FRAME_RATE/TB", "-frames:v", String(places.count)])
    let size = stream.width * stream.height * 3
    var frames: [Picture] = []
    while frames.count < places.count {
      let pixels = try decoder.read(size)
      guard pixels.count == size else { break }
      let frame = Picture(width: stream.width, height: stream.height, pixels: pixels)
      frames.append(Bicubic.resize(frame, to: tile, tile))
    }
    _ = try decoder.read(1)
    try decoder.finish()
    guard !frames.isEmpty else { throw Failure(.malformed, "no frame of the video could be decoded") }
    return frames
  }
}
