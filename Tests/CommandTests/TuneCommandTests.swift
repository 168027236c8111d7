import Bytes
import Formats
import Foundation
import Tensors
import TestSupport
import Testing

/// `tune`, as a user runs it on a tiny model of random weights.
struct TuneCommandTests {
  private static let words = ["hello", "world", "the", "quick", "brown", "fox"]

  /// A model, what four bits make of it, and items.
  private static func quantized(_ form: String = "--affine") throws -> (directory: TemporaryDirectory, words: [String])
  {
    let directory = try CommandTests.imported()
    let (m, q) = (directory.path + "/m.llv", directory.path + "/q.llv")
    let quantize = try ProgramRun(["quantize", m, "--bits", "4", "--group", "16", form, "-o", q])
    #expect(quantize.status == 0, "\(quantize.errors)")
    let texts = (0..<216).map { number in
      "{\"text\": \"\(words[number % 6]) \(words[number / 6 % 6]) \(words[number / 36])\"}"
    }
    let data = try directory.write("items.jsonl", texts.joined(separator: "\n"))
    return (
      directory,
      ["tune", q, "--reference", m, "--data", data, "--steps", "60", "--rate", "0.005", "--held-out", "0.2", "--json"]
    )
  }

  private static func judged(_ run: ProgramRun, _ key: String, _ number: String) throws -> Double {
    let all = try JSON.parse(Array(run.output.utf8)).required(key).elements()
    return try #require(all.first).required("judged").required(number).double()
  }

  @Test(
    "vectors come nearer to the reference's, and new queries find more in its index",
    arguments: [
      "--affine", "--symmetric", "--two-level",
    ])
  func vectorsComeNearer(_ form: String) throws {
    let (directory, words) = try TuneCommandTests.quantized(form)
    let output = directory.path + "/t.llv"
    let run = try ProgramRun(words + ["-o", output])
    #expect(run.status == 0 && run.errors.contains("next: llvconv verify"), "\(run.output)\(run.errors)")
    let (before, after) = (
      1 - (try TuneCommandTests.judged(run, "before", "cosine")),
      1 - (try TuneCommandTests.judged(run, "after", "cosine"))
    )
    #expect(after < 0.8 * before, "\(before) -> \(after)")
    #expect(
      try TuneCommandTests.judged(run, "after", "mixed_overlap_10")
        >= TuneCommandTests.judged(run, "before", "mixed_overlap_10"))
    // The same codes in an ordinary container, which says what was done.
    let (old, new) = (try Repository.read(directory.path + "/q.llv"), try Repository.read(output))
    #expect(abs(old.count - new.count) < 8_192, "\(old.count), \(new.count)")
    let inspect = try ProgramRun(["inspect", output])
    #expect(inspect.status == 0 && inspect.output.contains("tune"), "\(inspect.output)")
  }

  @Test("pairs have labels, other data judges, and no bit depends on the thread count")
  func pairsHaveLabels() throws {
    let (directory, words) = try TuneCommandTests.quantized()
    let pairs = (0..<100).map { number in
      let text = "\(TuneCommandTests.words[number % 6]) \(TuneCommandTests.words[number / 6 % 6])"
      return #"{"query":{"text":"\#(text) \#(number % 7 == 0 ? "a" : "é")"},"positive":{"text":"the \#(text) ."}}"#
    }
    let data = try directory.write("pairs.jsonl", pairs.joined(separator: "\n"))
    let check = try directory.write(
      "check.jsonl", (0..<20).map { _ in "{\"text\": \"中 , hello\"}" }.joined(separator: "\n"))
    var files: [[UInt8]] = []
    for threads in ["1", "3"] {
      let output = directory.path + "/t\(threads).llv"
      let run = try ProgramRun(
        words.map { $0.hasSuffix("items.jsonl") ? data : $0 } + [
          "--check", check, "--threads", threads, "-o", output, "--contrast", "0.02", "--targets", "labels",
        ])
      #expect([0, 1].contains(run.status), "\(run.errors)")
      let before = try JSON.parse(Array(run.output.utf8)).required("before").elements()
      #expect(before.count == 2)
      #expect(try before[0].required("judged").optional("mixed_p_at_1") != nil)
      files.append(run.status == 0 ? try Repository.read(output) : Array(run.output.utf8.prefix(100)))
    }
    #expect(files[0] == files[1])
  }

  @Test(
    "codes move too, come nearer than without, and no bit depends on the thread count",
    arguments: ["--symmetric", "--two-level"])
  func codesMove(_ form: String) throws {
    let (directory, words) = try TuneCommandTests.quantized(form)
    var files: [[UInt8]] = []
    for threads in ["1", "2"] {
      let output = directory.path + "/c\(threads).llv"
      let run = try ProgramRun(words + ["--codes", "--threads", threads, "-o", output])
      #expect(run.status == 0, "\(run.output)\(run.errors)")
      let (before, after) = (
        1 - (try TuneCommandTests.judged(run, "before", "cosine")),
        1 - (try TuneCommandTests.judged(run, "after", "cosine"))
      )
      #expect(after < 0.8 * before, "\(before) -> \(after)")
      files.append(try Repository.read(output))
    }
    #expect(files[0] == files[1])
    let without = directory.path + "/s.llv"
    #expect(try ProgramRun(words + ["-o", without]).status == 0)
    let (scales, codes) = (try TuneCommandTests.codes(without), try TuneCommandTests.codes(directory.path + "/c1.llv"))
    #expect(try scales == TuneCommandTests.codes(directory.path + "/q.llv") && codes != scales)
  }

  /// The codes of all weights in groups, as they are stored.
  private static func codes(_ path: String) throws -> [[UInt8]] {
    try Container.open(path).model.tensors.compactMap { tensor in
      guard case .grouped(let integers) = tensor.encoding else { return nil }
      let layout = try #require(integers.layout(tensor.shape))
      return try tensor.load().withBytes { Array($0[..<(layout.rows * layout.rowBytes)]) }
    }
  }

  @Test("tuning that was killed goes on, to the same bytes", arguments: [[], ["--codes", "--code-rate", "0.05"]])
  func tuningThatWasKilledGoesOn(_ more: [String]) throws {
    var (directory, words) = try TuneCommandTests.quantized()
    words += more + ["--threads", "1", "-o"]
    #expect(try ProgramRun(words + [directory.path + "/whole.llv"]).status == 0)
    let (output, state) = (directory.path + "/t.llv", directory.path + "/t.llv.partial/state.llv")
    let process = Process()
    process.executableURL = URL(fileURLWithPath: Repository.program)
    process.arguments = words + [output]
    (process.standardError, process.standardOutput) = (Pipe(), Pipe())
    try process.run()
    while process.isRunning, !FileManager.default.fileExists(atPath: state) { usleep(200) }
    kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
    #expect(FileManager.default.fileExists(atPath: state) && !directory.names.contains("t.llv"))
    let rest = try ProgramRun(words + [output])
    #expect(rest.status == 0 && rest.errors.contains("going on after step"), "\(rest.errors)")
    #expect(try Repository.read(output) == Repository.read(directory.path + "/whole.llv"))
    #expect(!FileManager.default.fileExists(atPath: state))
  }

  @Test("where nothing gets better without something getting worse, nothing is written")
  func nothingWorseIsWritten() throws {
    let (directory, words) = try TuneCommandTests.quantized()
    let run = try ProgramRun(
      words.map { $0 == "0.005" ? "0.9" : $0 } + ["-o", directory.path + "/t.llv", "--contrast", "100"])
    #expect(run.status == 1 || run.status == 65, "\(run.status) \(run.output)")
    #expect(!directory.names.contains("t.llv"))
  }

  @Test("models that cannot be tuned, and data that is too little, are one line")
  func whatCannotBeTunedIsRefused() throws {
    let (directory, words) = try TuneCommandTests.quantized()
    let output = ["-o", directory.path + "/t.llv"]
    func refused(_ changed: [Int: String], _ status: Int32, _ word: String) throws {
      let run = try ProgramRun(words.enumerated().map { changed[$0.offset] ?? $0.element } + output)
      #expect(run.status == status && run.errors.contains(word), "\(run.status) \(run.errors)")
      #expect(run.errors.split(separator: "\n").count { $0.hasPrefix("llvconv: ") } == 1, "\(run.errors)")
    }
    try refused([1: words[3]], 64, "no weight of it is quantized")
    let one = try directory.write("one.jsonl", "{\"text\": \"hello\"}")
    try refused([5: one], 64, "too few")
    try refused([3: directory.path + "/nothing.llv"], 66, "nothing.llv")
    try refused([6: "--code-rate", 7: "0.01"], 64, "--code-rate is for --codes")
    for rate in ["0", "2", "nan", "much"] {
      let run = try ProgramRun(words + output + ["--codes", "--code-rate", rate])
      #expect(run.status == 64 && run.errors.contains("--code-rate"), "\(rate): \(run.status) \(run.errors)")
    }
    let (demo, gguf) = (directory.path + "/d.llv", directory.path + "/g.llv")
    #expect(try ProgramRun(["import", Repository.root + "/Tools/demo-model/model", "-o", demo]).status == 0)
    #expect(try ProgramRun(["quantize", demo, "--for", "gguf", "--weights", "Q4_0", "-o", gguf]).status == 0)
    try refused([1: gguf], 64, "cannot hold scales that were tuned")
    #expect(!directory.names.contains("t.llv"))
  }
}
