import Bytes
import Foundation
import TestSupport
import Testing

/// Files that ffmpeg would take for lists of other files, and the containers that are videos.
struct VideoFileTests {
  static func ffmpeg(_ arguments: [String]) throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["ffmpeg", "-v", "error", "-y"] + arguments
    process.standardInput = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0, "\(arguments)")
  }

  /// What `embed` says of each video, nil where it gave a vector.
  static func complaints(_ names: [String], in directory: TemporaryDirectory) throws -> [String?] {
    let lines = names.map { JSONText.object([("video", .string($0))]).text() }
    let items = try directory.write("items.jsonl", lines.joined(separator: "\n"))
    let run = try ProgramRun(["embed", directory.path + "/m.llv", "--input", items, "--keep-going"])
    let rows = try run.output.split(separator: "\n").map { try JSON.parse(Array($0.utf8)) }
    try #require(run.status == 0 && rows.count == names.count, "\(run.errors)")
    return try rows.map { try $0["error"]?.required("message").string() }
  }

  @Test("a playlist, script or pattern opens no other file, whatever it is called")
  func aPlaylistScriptOrPatternOpensNoOtherFile() throws {
    let directory = try PictureCommandTests.imported()
    // Were one of these opened, there would be an embedding: they are videos.
    let (mkv, ts) = (directory.path + "/clip.mkv", directory.path + "/secret.ts")
    try VideoFileTests.ffmpeg(["-i", mkv, "-c:v", "mpeg2video", "-r", "25", ts])
    try FileManager.default.copyItem(atPath: mkv, toPath: directory.path + "/secret1.mkv")
    try FileManager.default.copyItem(atPath: directory.path + "/odd.png", toPath: directory.path + "/image1.png")
    let playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.ts\n#EXT-X-ENDLIST\n"
    let script = "ffconcat version 1.0\nfile secret1.mkv\n"
    let dash = """
      <?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" profiles="urn:x"><Period>
      <AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>secret1.mkv</BaseURL>
      </Representation></AdaptationSet></Period></MPD>
      """
    var names: [String] = []
    for (text, endings) in [
      (playlist, ["m3u8", "mp4", "ts"]), (script, ["ffconcat", "mkv", "mp4"]), (dash, ["mpd", "mp4"]),
      ("file 'secret1.mkv'\n", ["txt"]), ("1\n00:00:00,000 --> 00:00:01,000\nhello\n", ["srt"]),
      ("testsrc=size=40x30\n", ["lavfi"]), ("v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n", ["sdp"]),
      ("[playlist]\nFile1=secret1.mkv\n", ["pls"]),
    ] {
      for ending in endings {
        let name = "list\(names.count).\(ending)"
        names.append(name)
        try directory.write(name, text)
      }
    }
    for complaint in try VideoFileTests.complaints(names, in: directory) {
      #expect(complaint?.contains("is no video container") ?? false, "\(complaint ?? "an embedding")")
    }
    let others = [
      "image%d.png", "secret%d.mkv", "concat:secret1.mkv", "file:secret1.mkv", "subfile,,start,0,end,0,,:secret1.mkv",
      "crypto:secret1.mkv", "http://127.0.0.1:9/x.mp4",
    ]
    for (name, complaint) in zip(others, try VideoFileTests.complaints(others, in: directory)) {
      #expect(complaint?.contains("no such file") ?? false, "\(name): \(complaint ?? "an embedding")")
    }
    let pictures = try VideoFileTests.complaints(["image1.png", "items.jsonl"], in: directory)
    #expect(pictures[0]?.contains("is a PNG picture, not a video") ?? false, "\(pictures[0] ?? "an embedding")")
  }

  @Test("containers inside of which other files or lists are named read nothing else")
  func containersThatNameOtherFilesReadNothingElse() throws {
    let directory = try PictureCommandTests.imported()
    // The media of a QuickTime track may lie in another file. This one has its frames nowhere else.
    let frames = directory.path + "/secret.mov"
    try VideoFileTests.ffmpeg(["-i", directory.path + "/clip.mkv", "-c:v", "qtrle", "-pix_fmt", "rgb24", frames])
    try directory.write("movie.mov", try VideoFileTests.referring(to: "secret.mov", try Repository.read(frames)))
    let complaint = try VideoFileTests.complaints(["movie.mov"], in: directory)[0]
    #expect(complaint != nil, "the frames of another file were read")
  }

  /// A movie without its media, which it says are in `name`: an alias record in the place of the track's `url ` entry.
  static func referring(to name: String, _ movie: [UInt8]) throws -> [UInt8] {
    func number(_ at: Int) -> Int { movie[at..<at + 4].reduce(0) { $0 << 8 | Int($1) } }
    func bytes(_ value: Int) -> [UInt8] { [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> $0) } }
    func place(_ kind: String) throws -> Int {
      let found = movie.indices.last { movie[$0...].starts(with: kind.utf8) }
      return try #require(found) - 4
    }
    // Volume, folder and file names of fixed lengths, then the path as its second kind of tagged text.
    var record = [UInt8](repeating: 0, count: 150)
    record.replaceSubrange(50..<51 + name.utf8.count, with: [UInt8(name.utf8.count)] + Array(name.utf8))
    record.replaceSubrange(130..<134, with: [0, 1, 0, 1])
    record += [0, 2, 0, UInt8(name.utf8.count)] + Array(name.utf8) + (name.utf8.count % 2 == 1 ? [0] : [])
    record += [0xFF, 0xFF, 0, 0]
    let entry = bytes(12 + record.count) + Array("alis".utf8) + [0, 0, 0, 0] + record
    let url = try place("url ")
    var result = Array(movie[..<url]) + entry + movie[(url + number(url))...]
    for kind in ["dref", "dinf", "minf", "mdia", "trak", "moov"] {
      let at = try place(kind)
      result.replaceSubrange(at..<at + 4, with: bytes(number(at) + entry.count - number(url)))
    }
    return result
  }

  @Test("every container that is read gives its frames, under any name")
  func everyContainerThatIsReadGivesItsFrames() throws {
    let directory = try PictureCommandTests.imported()
    let clip = directory.path + "/clip.mkv"
    let kinds = [
      ("mov", "qtrle"), ("mp4", "mpeg4"), ("avi", "ffv1"), ("mkv", "ffv1"), ("ts", "mpeg2video"),
      ("m2ts", "mpeg2video"),
      ("mpg", "mpeg1video"), ("flv", "flv"), ("wmv", "wmv2"), ("gif", "gif"), ("3gp", "mpeg4"),
    ]
    var names: [String] = []
    for (ending, codec) in kinds {
      let made = directory.path + "/made." + ending
      try VideoFileTests.ffmpeg(["-i", clip, "-s", "64x48", "-r", "25", "-c:v", codec, made])
      names.append("-i \(ending) %d.txt")
      try FileManager.default.moveItem(atPath: made, toPath: directory.path + "/" + (names.last ?? ""))
    }
    for (name, complaint) in zip(names, try VideoFileTests.complaints(names, in: directory)) {
      #expect(complaint == nil, "\(name): \(complaint ?? "")")
    }
  }
}
