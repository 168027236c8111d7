import Bytes
import Formats
import Foundation
import Glibc
import TestSupport
import Testing

/// The built program, as a user runs it.
struct CommandTests {
  /// A directory with the checkpoint `model/` and its container `m.llv`.
  static func imported(_ tiny: TinyBert = TinyBert()) throws -> TemporaryDirectory {
    let directory = try TemporaryDirectory()
    let path = try tiny.write(to: directory)
    let run = try ProgramRun(["import", path, "-o", directory.path + "/m.llv"])
    #expect(run.status == 0, "\(run.errors)")
    return directory
  }

  static let pairs = (0..<12).map { index in
    let words = ["hello", "world", "the", "quick", "brown", "fox"]
    let text = "\(words[index % 6]) \(words[index / 2]) a"
    return
      #"{"id":"p\#(index)","query":{"text":"\#(text)"},"positive":{"text":"\#(text) ."},"negatives":[{"text":"é"}]}"#
  }.joined(separator: "\n")

  @Test("import, quantize, verify, embed and inspect work one after the other")
  func importQuantizeVerifyEmbedAndInspectWorkOneAfterTheOther() throws {
    let directory = try CommandTests.imported()
    let (m, q) = (directory.path + "/m.llv", directory.path + "/q.llv")
    let quantize = try ProgramRun(["quantize", m, "--bits", "8", "-o", q])
    #expect(quantize.status == 0 && quantize.errors.contains("bits per weight"), "\(quantize.errors)")
    let data = try directory.write("pairs.jsonl", CommandTests.pairs)
    let report = directory.path + "/r.html"
    let few = try ProgramRun(["verify", q, "--reference", m, "--data", data])
    #expect(few.status == 2 && few.output.hasPrefix("INCONCLUSIVE") && few.output.contains("decide nothing"))
    #expect(few.output.contains("Next: Verify again with more"), "\(few.output)")
    let words = ["verify", q, "--reference", m, "--data", data, "--allow", "few", "--max-recall-drop", "1"]
    let verify = try ProgramRun(words + ["--report", report, "--json"])
    #expect(verify.status == 0, "\(verify.output)\(verify.errors)")
    let json = try JSON.parse(Array(verify.output.utf8))
    #expect(try json.required("verdict").string() == "pass")
    #expect(try json.required("cosine").required("mean").double() > 0.999)
    #expect(String(decoding: try Repository.read(report), as: UTF8.self).contains("PASS"))
    #expect(directory.names.contains("m.llv.cache"))
    let again = try ProgramRun(words + ["--json"])
    #expect(again.output == verify.output, "the cached reference gives the same verdict")
    let strict = try ProgramRun(["verify", q, "--reference", m, "--data", data, "--min-cosine", "1"])
    #expect(strict.status == 1 && strict.output.hasPrefix("FAIL"))
    let alone = try ProgramRun(["verify", m] + words[2...])
    #expect(alone.status == 2 && alone.output.contains("nothing was compared"), "\(alone.output)")
    let both = try ProgramRun(
      ["verify", q, m] + words[2..<6] + [
        "--allow", "few,reference", "--max-recall-drop", "1", "--force", "--report", report,
      ])
    let table = both.output.components(separatedBy: "\n\n").prefix(3).joined(separator: "\n").split(separator: "\n")
    #expect(both.output.hasPrefix("Take q.llv") && table.allSatisfy { $0.count <= 80 }, "\(both.output)")
    #expect(table.contains { $0.hasPrefix("m.llv ") && $0.hasSuffix("pass") }, "\(table)")
    #expect(String(decoding: try Repository.read(report), as: UTF8.self).contains("verify \(q) \(m) --reference"))
    for words in [["inspect", m], ["inspect", directory.path + "/model"], ["bench", q, "--repeat", "1"], ["devices"]] {
      #expect(try ProgramRun(words).errors.contains("next: llvconv "), "\(words)")
    }
    let inspect = try ProgramRun(["inspect", q, "--statistics", "--graph"])
    #expect(inspect.status == 0 && inspect.output.contains("int8 g32") && inspect.output.contains("graph text"))
    let inspectJSON = try JSON.parse(Array(try ProgramRun(["inspect", q, "--json"]).output.utf8))
    #expect(try inspectJSON.required("history").elements().count == 2)
    let checkpoint = try ProgramRun(["inspect", directory.path + "/model"])
    #expect(checkpoint.status == 0 && checkpoint.output.contains("38 tensors"), "\(checkpoint.output)")
  }

  @Test("embed gives a row for each item, in order, and says what is wrong with bad ones")
  func embedGivesARowForEachItemInOrderAndSaysWhatIsWrongWithBadOnes() throws {
    let directory = try CommandTests.imported()
    let input =
      #"{"id":"a","text":"hello world"}"# + "\n\nnot json\n" + #"{"id":3,"text":"fox","color":"red"}"# + "\n"
      + #"{"id":"i","images":["x.png"]}"# + "\n" + #"{"text":"hello world"}"#
    let run = try ProgramRun(["embed", directory.path + "/m.llv", "--strict"], input: input)
    #expect(run.status == 65, "the exit code is that of the first bad item")
    let rows = try run.output.split(separator: "\n").map { try JSON.parse(Array($0.utf8)) }
    #expect(rows.count == 5)
    #expect(try rows[0].required("embedding").elements().count == 32 && rows[0].required("id").string() == "a")
    #expect(try rows[1].required("error").required("code").string() == "malformed")
    #expect(try rows[2].required("error").required("message").string().contains("color"))
    #expect(
      try rows[3].required("error").required("code").string() == "unsupported" && rows[3].required("id").string() == "i"
    )
    #expect(try rows[4].required("id").kind == .null)
    let (first, last) = (try rows[0].required("embedding").elements(), try rows[4].required("embedding").elements())
    #expect(try zip(first, last).allSatisfy { try $0.double() == $1.double() })
    #expect(try ProgramRun(["embed", directory.path + "/m.llv", "--fail-on-error"], input: input).status == 65)
    #expect(try ProgramRun(["embed", directory.path + "/m.llv", "--keep-going"], input: input).status == 0)
    let tokens = try ProgramRun(["embed", directory.path + "/m.llv", "--tokens"], input: #"{"text":"hello fox"}"#)
    #expect(tokens.output == "{\"id\":null,\"tokens\":[2,5,10,3]}\n")
  }

  @Test("npy output is NumPy's, appears whole, and says which items its rows are")
  func npyOutputIsNumPySAndAppearsWhole() throws {
    let directory = try CommandTests.imported()
    let items = try directory.write(
      "x.jsonl", "{\"id\":\"a\",\"text\":\"hello\"}\nbad\n\n\"fox\"\n{\"id\":\"b\\n\",\"text\":\"fox\"}\n")
    let arguments = ["embed", directory.path + "/m.llv", "--input", items, "--output", directory.path + "/y.npy"]
    let run = try ProgramRun(arguments)
    #expect(run.status == 65 && run.errors.contains("2 of 4 items were bad and have no row"), "\(run.errors)")
    #expect(run.errors.contains("line 2 byte 0") && run.errors.contains("control character"), "\(run.errors)")
    let bytes = try Repository.read(directory.path + "/y.npy")
    #expect(bytes.starts(with: [0x93] + Array("NUMPY".utf8) + [1, 0]) && bytes.count == 128 + 2 * 32 * 4)
    #expect(String(decoding: bytes[10..<128], as: UTF8.self).contains("'shape': (2, 32)"))
    let floats = bytes[128...].withUnsafeBytes { raw in
      (0..<64).map { raw.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
    }
    #expect(floats.allSatisfy { $0.isFinite })
    #expect(try Repository.read(directory.path + "/y.npy.ids") == Array("a\nline 4\n".utf8))
    #expect(try ProgramRun(arguments).status == 73)
    #expect(try ProgramRun(arguments + ["--force", "--keep-going"]).status == 0)
  }

  static let refused: [([String], Int32, String)] = [
    (["explode"], 64, "unknown command"), (["quantise"], 64, "did you mean quantize?"),
    (["import"], 64, "takes SOURCE"), (["import", "x"], 64, "needs -o"),
    (["import", "x", "-o", "y", "--colour"], 64, "has no option"),
    (["quantize", "DIR/m.llv", "--bit", "4"], 64, "did you mean --bits?"),
    (["quantize", "DIR/m.llv", "--bits", "4", "-o", "DIR/m.llv", "--force"], 64, "would be lost"),
    (["verify", "DIR/m.llv", "--reference", "DIR/m.llv", "--data", "x", "--allow", "all"], 64, "--allow takes few"),
    (
      ["quantize", "DIR/m.llv", "--bits", "4", "-o", "DIR/y", "--tensor", "*.dens.weight=8"], 64,
      "did you mean *dense.weight?"
    ),
    (["import", "/absent", "-o", "DIR/y"], 66, "no such file"),
    (["import", "DIR", "-o", "DIR/y"], 66, "neither model.safetensors"),
    (["import", "DIR/model", "-o", "DIR/m.llv"], 73, "--force"),
    (["import", "DIR/m.llv", "-o", "DIR/y"], 64, "container already"),
    (["import", "DIR/model", "-o", "/absent/y"], 73, "directory"),
    (["quantize", "DIR/m.llv", "--bits", "3", "-o", "DIR/y"], 64, "--bits must be from 4 to 16"),
    (["quantize", "DIR/m.llv", "--bits", "4"], 64, "needs -o"),
    (["quantize", "DIR/model/vocab.txt", "--bits", "4", "-o", "DIR/y"], 65, "not an .llv container"),
    (["quantize", "DIR/m.llv", "--bits", "4", "--tensor", "nothing=8", "-o", "DIR/y"], 64, "matches no weight"),
    (["quantize", "DIR/m.llv", "--bits", "4", "--group", "x", "-o", "DIR/y"], 64, "--group"),
    (["verify", "DIR/m.llv", "--reference", "DIR/m.llv", "--data", "DIR/model/config.json"], 65, "an item needs"),
    (["verify", "DIR/m.llv", "--reference", "DIR/m.llv", "--data", "DIR/absent"], 66, "no such file"),
    (["embed", "DIR/m.llv", "--prompt", "query"], 64, "no prompt"),
    (["embed", "DIR/m.llv", "--output", "DIR/y.txt"], 64, ".npy"),
    (["inspect", "DIR/model/vocab.txt"], 65, "byte 0"), (["embed", "DIR/m.llv", "--threads", "0"], 64, "--threads"),
  ]

  @Test("a mistake gets one line, its exit code and no output", arguments: refused.indices)
  func aMistakeGetsOneLineItsExitCodeAndNoOutput(_ row: Int) throws {
    let (words, status, message) = CommandTests.refused[row]
    let directory = try CommandTests.imported()
    let before = directory.names
    let run = try ProgramRun(words.map { $0.replacingOccurrences(of: "DIR", with: directory.path) })
    #expect(run.status == status && run.errors.contains(message), "\(words): \(run.status) \(run.errors)")
    #expect(run.output.isEmpty && run.errors.split(separator: "\n").count == 1, "\(run.output)\(run.errors)")
    #expect(directory.names == before)
  }

  @Test("help says how, for the program and every command")
  func helpSaysHowForTheProgramAndEveryCommand() throws {
    let help = try ProgramRun(["--help"])
    #expect(help.status == 0)
    for command in ["import", "measure", "quantize", "verify", "embed", "inspect", "bench"] {
      #expect(help.output.contains("  \(command)"))
      let own = try ProgramRun([command, "--help"])
      #expect(own.status == 0 && own.output.contains("USAGE: llvconv \(command)") && own.output.contains("OPTIONS"))
    }
    #expect(try ProgramRun([]).status == 64)
    #expect(try ProgramRun(["help", "verify"]).output == ProgramRun(["verify", "--help"]).output)
    #expect(try ProgramRun(["-v"]).output == ProgramRun(["version"]).output)
    #expect(try ProgramRun(["help", "veryfy"]).errors.contains("did you mean verify?"))
    let commands = help.output.split(separator: "\n").compactMap { $0.firstMatch(of: #/^  ([a-z]+)  /#)?.output.1 }
    #expect(commands.count == 18)
    for words in [["help"]] + commands.map({ ["help", String($0)] }) {
      let long = try ProgramRun(words).output.split(separator: "\n").filter { $0.count > 80 }
      #expect(long.isEmpty, "\(long)")
    }
    #expect(try ProgramRun(["--limits"]).output.contains("safetensors header: 100000000 bytes"))
  }

  @Test("swapped models, ids of several queries and pairs said twice are no evidence")
  func whatIsNoEvidenceIsSaid() throws {
    let directory = try CommandTests.imported()
    let (m, q) = (directory.path + "/m.llv", directory.path + "/q.llv")
    #expect(try ProgramRun(["quantize", m, "--bits", "4", "-o", q]).status == 0)
    let lines = CommandTests.pairs.split(separator: "\n").map(String.init)
    func verify(_ lines: [String], _ extra: [String] = []) throws -> (status: Int32, output: String, errors: String) {
      let data = try directory.write("pairs.jsonl", lines.joined(separator: "\n"))
      let free = ["--min-cosine", "0", "--min-overlap", "0", "--max-recall-drop", "1", "--allow", "few"]
      let run = try ProgramRun(["verify", q, "--reference", m, "--data", data] + free + extra)
      return (run.status, run.output.replacing("\n", with: " "), run.errors)
    }
    #expect(try verify(lines).status == 0)
    let twice = try verify(lines + lines)
    #expect(twice.output.contains("on 12 queries") && twice.errors.contains("12 of 24 pairs are there more than once"))
    let same = try verify(lines.map { $0.replacing(#/"id":"p\d+"/#, with: "\"id\":\"p\"") })
    #expect(same.status == 2 && same.output.contains("11 pairs have the id of another query, as \"p\""), "\(same.output)")
    let swapped = try ProgramRun(["verify", m, "--reference", q, "--data", directory.path + "/pairs.jsonl"])
    #expect(swapped.status == 1 && swapped.output.contains("were the two swapped?"), "\(swapped.output)")
  }

  @Test("integers are not rounded again, sizes that are too small say the smallest, and --quiet says nothing")
  func integersAreNotRoundedAgain() throws {
    let directory = try CommandTests.imported()
    let (m, q, p) = (directory.path + "/m.llv", directory.path + "/q.llv", directory.path + "/p.json")
    let first = try ProgramRun(["quantize", m, "--bits", "4", "--group", "16", "-o", q, "--quiet"])
    #expect(first.status == 0 && first.errors.isEmpty && first.output.isEmpty)
    for words in [["quantize", q, "--bits", "8"], ["plan", q, "--bits", "6"], ["quantize", q, "--size", "1MB"]] {
      let run = try ProgramRun(words + ["-o", directory.path + "/x"])
      #expect(run.status == 64 && run.errors.contains("integers already (encoder.layer.0"), "\(run.errors)")
    }
    let small = try ProgramRun(["plan", m, "--size", "1KB", "-o", p])
    let least = try #require(small.errors.split(separator: " ").last.flatMap { Int($0.dropLast()) })
    #expect(small.status == 64 && small.errors.contains("try --size \(least)"), "\(small.errors)")
    let plan = try ProgramRun(["plan", m, "--size", "\(least)", "-o", p])
    #expect(plan.status == 0 && plan.output.contains("encoder.layer.*.output.dense.weight\n  "), "\(plan.errors)")
    #expect(plan.output.contains("layers 0-") && plan.output.contains("loss "), "\(plan.output)")
    #expect(try ProgramRun(["quantize", m, "--plan", p, "-o", directory.path + "/s.llv"]).status == 0)
    #expect(try Repository.read(directory.path + "/s.llv").count <= least)
    let less = try ProgramRun(["plan", m, "--size", "\(least - 1)", "-o", p, "--force"])
    #expect(less.status == 64 && less.errors.contains("smallest file"), "\(less.errors)")
  }

  @Test("the same input gives the same bytes, whatever the number of threads")
  func theSameInputGivesTheSameBytesWhateverTheNumberOfThreads() throws {
    let directory = try CommandTests.imported()
    var quantized: [[UInt8]] = []
    for threads in ["1", "2", "7"] {
      let (m, q) = (directory.path + "/m\(threads)", directory.path + "/q\(threads)")
      #expect(try ProgramRun(["import", directory.path + "/model", "-o", m, "--threads", threads]).status == 0)
      #expect(try Repository.read(m) == Repository.read(directory.path + "/m.llv"))
      #expect(try ProgramRun(["quantize", m, "--bits", "4", "-o", q, "--threads", threads]).status == 0)
      quantized.append(try Repository.read(q))
    }
    #expect(quantized[0] == quantized[1] && quantized[0] == quantized[2])
  }

  @Test("a dry run writes nothing and says what would come")
  func aDryRunWritesNothingAndSaysWhatWouldCome() throws {
    let directory = try CommandTests.imported()
    let before = directory.names
    let run = try ProgramRun(["quantize", directory.path + "/m.llv", "--bits", "4", "--group", "64", "--dry-run"])
    #expect(run.status == 0 && directory.names == before)
    for words in ["bits per weight", "memory", "time", "shorter than groups of 64", "2 layers: "] {
      #expect(run.output.contains(words))
    }
  }

  @Test("output onto the input keeps it whole")
  func outputOntoTheInputKeepsItWhole() throws {
    let directory = try CommandTests.imported()
    let m = directory.path + "/m.llv"
    let (before, link) = (try Repository.read(m), directory.path + "/link")
    symlink(m, link)
    for output in [m, link] {
      let run = try ProgramRun(["quantize", m, "--bits", "4", "-o", output, "--force"])
      #expect(run.status == 64 && run.errors.contains("read by this command"), "\(run.errors)")
    }
    #expect(try Repository.read(m) == before)
  }

  @Test("NaN in a weight is named, and nothing is written")
  func nanInAWeightIsNamedAndNothingIsWritten() throws {
    var tiny = TinyBert()
    tiny.change = { name, shape, values in
      var values = values
      if name == "encoder.layer.1.output.dense.weight" { values[48 * 2 + 5] = .nan }
      return (name, shape, values)
    }
    let directory = try CommandTests.imported(tiny)
    let run = try ProgramRun(["quantize", directory.path + "/m.llv", "--bits", "8", "-o", directory.path + "/q"])
    #expect(
      run.status == 65 && run.errors.contains("encoder.layer.1.output.dense.weight") && run.errors.contains("[2, 5]"),
      "\(run.errors)")
    #expect(!directory.names.contains("q") && !directory.names.contains { $0.hasSuffix(".tmp") })
  }

  @Test("damage in a container is found when the tensor is read")
  func damageInAContainerIsFoundWhenTheTensorIsRead() throws {
    let directory = try CommandTests.imported()
    var bytes = try Repository.read(directory.path + "/m.llv")
    bytes[bytes.count / 2] ^= 1
    try directory.write("bad.llv", bytes)
    let run = try ProgramRun(["inspect", directory.path + "/bad.llv", "--statistics"])
    #expect(run.status == 65 && run.errors.contains("damaged"), "\(run.errors)")
  }
}

/// Stopping the program at any moment leaves the output absent or whole.
@Suite(.serialized) struct StopTests {
  /// Starts the program, sends `signal` after `delay` microseconds, and gives the exit status.
  static func stop(_ arguments: [String], _ signal: Int32, after delay: UInt32) throws -> Int32 {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: Repository.program)
    process.arguments = arguments
    process.standardError = FileHandle.nullDevice
    try process.run()
    usleep(delay)
    kill(process.processIdentifier, signal)
    process.waitUntilExit()
    return process.terminationStatus
  }

  /// A checkpoint large enough that a run takes some tens of milliseconds.
  static func large() throws -> TemporaryDirectory {
    var tiny = TinyBert()
    (tiny.hidden, tiny.intermediate, tiny.layers) = (256, 1024, 4)
    return try CommandTests.imported(tiny)
  }

  @Test("killed at random moments, import and quantize leave nothing or everything")
  func killedAtRandomMomentsImportAndQuantizeLeaveNothingOrEverything() throws {
    let directory = try StopTests.large()
    var random = Random(seed: 43)
    for arguments in [["import", directory.path + "/model"], ["quantize", directory.path + "/m.llv", "--bits", "4"]] {
      let target = directory.path + "/out.llv"
      try? FileManager.default.removeItem(atPath: target)
      let started = ContinuousClock.now
      #expect(try ProgramRun(arguments + ["-o", target]).status == 0)
      let micros = UInt32((ContinuousClock.now - started).components.attoseconds / 1_000_000_000_000)
      let whole = try Repository.read(target)
      for _ in 0..<25 {
        try? FileManager.default.removeItem(atPath: target)
        _ = try StopTests.stop(arguments + ["-o", target], SIGKILL, after: UInt32(random.below(Int(micros) + 2_000)))
        if FileManager.default.fileExists(atPath: target) { #expect(try Repository.read(target) == whole) }
      }
      // The next run sweeps what the killed ones left.
      #expect(try ProgramRun(arguments + ["-o", target, "--force"]).status == 0)
      #expect(!directory.names.contains { $0.hasSuffix(".tmp") })
      #expect(try Repository.read(target) == whole)
    }
  }

  @Test("a signal cleans up and is named in the exit code", arguments: [SIGINT, SIGTERM, SIGHUP])
  func aSignalCleansUpAndIsNamedInTheExitCode(_ signal: Int32) throws {
    let directory = try StopTests.large()
    var seen = 0
    for delay in stride(from: UInt32(4_000), to: 40_000, by: 2_000) {
      let status = try StopTests.stop(
        ["import", directory.path + "/model", "-o", directory.path + "/out.llv", "--force"], signal, after: delay)
      #expect(!directory.names.contains { $0.hasSuffix(".tmp") })
      #expect(status == 0 || status == 128 + signal)
      if status == 128 + signal { seen += 1 }
    }
    #expect(seen > 0)
  }
}
