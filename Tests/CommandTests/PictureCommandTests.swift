import Bytes
import Foundation
import TestSupport
import Testing

/// The built program on pictures and videos, with the tiny LLaVE.
struct PictureCommandTests {
  /// A directory with the container `m.llv` and the goldens' pictures.
  static func imported() throws -> TemporaryDirectory {
    let directory = try TemporaryDirectory()
    let run = try ProgramRun(["import", TinyLlave.folder + "model", "-o", directory.path + "/m.llv"])
    #expect(run.status == 0 && run.errors.contains("left out"), "\(run.errors)")
    for name in try FileManager.default.contentsOfDirectory(atPath: TinyLlave.folder) where name.contains(".") {
      try FileManager.default.copyItem(atPath: TinyLlave.folder + name, toPath: directory.path + "/" + name)
    }
    return directory
  }

  @Test("each bad picture gets one clear line, and the other items are embedded")
  func eachBadPictureGetsOneClearLine() throws {
    let directory = try PictureCommandTests.imported()
    func file(_ folder: String, _ id: String) throws -> [UInt8] {
      let row = try #require(try Case.load(folder).first { $0.id == id })
      return try Case.bytes(try row.json.required("bytes"))
    }
    try directory.write("bomb.png", try file("png", "P04"))
    try directory.write("scans.jpg", try file("jpeg", "Q24"))
    try directory.write("truncated.png", try file("png", "P10"))
    try directory.write("no-frames.mp4", "no video at all")
    try directory.write("picture-as-video.txt", "1234")
    let ask = #""text":"<image>\nRepresent the given image.\n""#
    let rows: [(String, String?)] = [
      (#"{\#(ask),"images":["odd.png"]}"#, nil), (#"{\#(ask),"images":["bomb.png"]}"#, "65535 × 65535"),
      (#"{\#(ask),"images":["scans.jpg"]}"#, "64 scans"), (#"{\#(ask),"images":["truncated.png"]}"#, "truncated"),
      (#"{"video":"no-frames.mp4"}"#, "no video container"),
      (#"{"video":"picture-as-video.txt"}"#, "no video container"),
      (#"{\#(ask),"images":["missing.png"]}"#, "no such file"),
      (#"{\#(ask)}"#, "a marker without an image"),
      (#"{"text":"no marker","images":["odd.png"]}"#, "an image without a marker"),
      (#"{"text":"padding <|endoftext|> inside"}"#, "padding"), (#"{"video":"missing.mkv"}"#, "no such file"),
      (#"{"images":["odd.png"]}"#, nil), (#"{"video":"clip.mkv"}"#, nil), (#"{"text":"A cat and a dog"}"#, nil),
    ]
    let input = try directory.write("items.jsonl", rows.map(\.0).joined(separator: "\n"))
    let run = try ProgramRun(["embed", directory.path + "/m.llv", "--input", input])
    #expect(run.status == 75 && run.errors.contains("10 of 14 items were bad"), "\(run.errors)")
    let lines = try run.output.split(separator: "\n").map { try JSON.parse(Array($0.utf8)) }
    try #require(lines.count == rows.count)
    for (line, row) in zip(lines, rows) {
      guard let words = row.1 else {
        #expect(line["embedding"]?.count == 64, "\(row.0)")
        continue
      }
      let message = try line.required("error").required("message").string()
      #expect(message.contains(words) && !message.contains("\n"), "\(row.0): \(message)")
    }
    // A picture without text gets MMEB's words.
    let (first, alone) = (try lines[0].required("embedding").elements(), try lines[11].required("embedding").elements())
    #expect(try zip(first, alone).allSatisfy { try $0.double() == $1.double() })
  }

  @Test("a quantized model of pictures and texts passes verify, and its report shows pictures")
  func aQuantizedModelOfPicturesAndTextsPassesVerify() throws {
    let directory = try PictureCommandTests.imported()
    let (m, q) = (directory.path + "/m.llv", directory.path + "/q.llv")
    let pictures = ["square.png", "large.png", "wide.png", "tall.png", "odd.png", "huge.png", "sharp.png", "thin.png"]
    let pairs = pictures.enumerated().map { index, name in
      #"{"id":"p\#(index)","query":{"text":"<image>\nFind a caption\n","images":["\#(name)"]},"#
        + #""positive":{"text":"caption \#(index)"}}"#
    }
    let data = try directory.write("pairs.jsonl", pairs.joined(separator: "\n"))
    #expect(try ProgramRun(["quantize", m, "--bits", "8", "-o", q]).status == 0)
    let report = directory.path + "/r.html"
    let verify = try ProgramRun([
      "verify", q, "--reference", m, "--data", data, "--report", report, "--json", "--min-cosine", "0.99",
      "--max-recall-drop", "1", "--allow", "few",
    ])
    #expect(verify.status == 0, "\(verify.errors)\(verify.output)")
    let page = String(decoding: try Repository.read(report), as: UTF8.self)
    #expect(page.contains("src=\"data:image/png;base64,iVBOR"))
  }

  @Test("eval scores choices and searches, goes on where it was, and notices a collapsed encoder")
  func evalScoresChoicesAndSearches() throws {
    let directory = try PictureCommandTests.imported()
    let m = directory.path + "/m.llv"
    // A query is its own best answer.
    let choice = [
      #"{"id":"c","candidate":{"text":"something else"}}"#,
      #"{"query":{"text":"A cat"},"candidates":[{"text":"A cat"},"c"],"task":"vqa"}"#,
      #"{"query":{"text":"A cat"},"candidates":["c",{"text":"A cat"}],"task":"vqa"}"#,
      #"{"query":{"text":"<|image_1|> Say","images":["odd.png"]},"#
        + #""candidates":[{"text":"<image>\nSay","images":["odd.png"]},"c"],"task":"vqa"}"#,
    ]
    try directory.write("data/own.jsonl", choice.joined(separator: "\n"))
    try directory.write(
      "data/videos.jsonl", #"{"query":{"text":"a clip"},"positive":{"video":"clip.mkv"}}"# + "\n")
    for name in ["odd.png", "clip.mkv"] {
      try FileManager.default.copyItem(atPath: TinyLlave.folder + name, toPath: directory.path + "/data/" + name)
    }
    let run = try ProgramRun(["eval", m, "--data", directory.path + "/data", "--json"])
    #expect(run.status == 0, "\(run.errors)")
    let json = try JSON.parse(Array(run.output.utf8))
    let sets = try json.required("data_sets").elements()
    #expect(try abs(sets[0].required("accuracy").double() - 2.0 / 3) < 1e-9)
    #expect(try sets[1].required("forward").required("recall_1").double() == 1)
    #expect(try json.required("means").required("vqa").required("data_sets").integer(in: 0...9) == 1)
    let again = try ProgramRun(["eval", m, "--data", directory.path + "/data", "--json"])
    #expect(again.output == run.output, "embeddings kept by content give the same scores")
    try directory.write(
      "bad.jsonl", #"{"id":"c","candidate":"a"}"# + "\n" + #"{"query":{"text":"x"},"candidates":["nobody"]}"#)
    let bad = try ProgramRun(["eval", m, "--data", directory.path + "/bad.jsonl"])
    #expect(bad.status == 65 && bad.errors.contains("no candidate"), "\(bad.errors)")
    // Only the last token is left of a prompt cut to nothing but its start: all items are equal.
    let collapsed = try ProgramRun(["eval", m, "--data", directory.path + "/data/own.jsonl", "--max-tokens", "3"])
    #expect(collapsed.status == 1 && collapsed.errors.contains("nearly the same"), "\(collapsed.output)")
  }

  @Test("of a long clip the frames of the rule are taken, and no others")
  func ofALongClipTheFramesOfTheRuleAreTaken() throws {
    let directory = try PictureCommandTests.imported()
    // Two seconds at 25 frames a second: every eighth frame. The short clip is those, cut out another way.
    let (long, short) = (directory.path + "/long.mkv", directory.path + "/short.mkv")
    try VideoFileTests.ffmpeg(
      ["-f", "lavfi", "-i", "testsrc=size=40x30:rate=25:duration=2", "-c:v", "ffv1", "-pix_fmt", "bgr0", long])
    try VideoFileTests.ffmpeg([
      "-i", long, "-vf", "select=not(mod(n\\,8)),setpts=N/3/TB", "-r", "3", "-c:v", "ffv1", "-pix_fmt", "bgr0", short,
    ])
    let input = #"{"video":"\#(long)"}"# + "\n" + #"{"video":"\#(short)"}"# + "\n" + #"{"video":"clip.mkv"}"#
    let items = try directory.write("clips.jsonl", input)
    let tokens = try ProgramRun(["embed", directory.path + "/m.llv", "--input", items, "--tokens"])
    let run = try ProgramRun(["embed", directory.path + "/m.llv", "--input", items])
    let rows = run.output.split(separator: "\n")
    try #require(run.status == 0 && rows.count == 3 && !run.output.contains("error"), "\(run.output.prefix(300))")
    #expect(rows[0] == rows[1] && rows[0] != rows[2])
    // Seven frames of two rows of two features and a newline.
    let first = try JSON.parse(Array(try #require(tokens.output.split(separator: "\n").first).utf8))
    let features = try first.required("tokens").elements().filter { try $0.integer(in: -1_000...10_000) < 0 }
    #expect(features.count == 7 * 2 * 3)
  }
}
