import Foundation
import TestSupport
import Testing

/// `--dry-run`: the same checks, exit codes and sizes, and no file.
struct DryRunTests {
  /// Each line of a dry run that names a file, and its words for the size.
  static func promised(_ output: String) -> [(path: String, size: String)] {
    output.split(separator: "\n").compactMap { line in
      line.firstMatch(of: #/^would write (.*): (.*)$/#).map { (String($0.1), String($0.2)) }
    }
  }

  static func size(_ bytes: Int) -> String {
    bytes < 10_000 ? "\(bytes) bytes" : String(format: bytes < 100_000 ? "%.1f kB" : "%.0f kB", Double(bytes) / 1_000)
  }

  @Test("each command says before what it then writes, to the byte, and writes nothing")
  func eachCommandSaysBeforeWhatItThenWrites() throws {
    let directory = try CommandTests.imported()
    let folder = directory.path
    let pairs = try directory.write("pairs.jsonl", CommandTests.pairs)
    let table = try directory.write("t.csv", "query,positive\na fox,the red fox\na whale,the blue whale\n")
    let items = try directory.write("i.jsonl", "{\"id\":\"a\",\"text\":\"hello\"}\n\"fox\"\n\"a red fox\"\n")
    let old = folder + "/old.npy"
    #expect(try ProgramRun(["embed", folder + "/m.llv", "--input", items, "--output", old]).status == 0)
    let m = folder + "/m.llv"
    let rows: [(words: [String], status: Int32)] = [
      (["import", folder + "/model", "-o", folder + "/m2.llv"], 0), (["pairs", table, "-o", folder + "/p.jsonl"], 0),
      (["plan", m, "--bits", "6", "-o", folder + "/plan.json"], 0),
      (["export", m, "--to", "hf", "-o", folder + "/hf"], 0),
      (["embed", m, "--input", items, "--output", folder + "/v.npy"], 0),
      (
        [
          "verify", m, "--reference", m, "--data", pairs, "--report", folder + "/r.html", "--no-cache", "--no-layers",
        ], 2
      ), (["anchors", m, "--data", pairs, "--count", "30", "--no-faults", "-o", folder + "/x.anchors"], 0),
      (
        [
          "compare", "--index", old, "--queries", old, "--reference-queries", old, "--report", folder + "/c.html",
        ], 2
      ), (["bench", m, "--repeat", "1", "--timeline", folder + "/t.html"], 0),
    ]
    for (words, status) in rows {
      let before = directory.names
      let dry = try ProgramRun(words + ["--dry-run"])
      #expect(dry.status == status && directory.names == before, "\(words): \(dry.status) \(dry.errors)")
      let promised = DryRunTests.promised(dry.output)
      #expect(!promised.isEmpty, "\(words): \(dry.output)")
      let run = try ProgramRun(words)
      #expect(run.status == status, "\(words): \(run.errors)")
      for (path, size) in promised {
        let bytes = try Repository.read(path).count
        // Pages say how long something took and which command made them.
        if !path.hasSuffix(".html") { #expect(DryRunTests.size(bytes) == size, "\(words): \(path) has \(bytes)") }
      }
    }
  }

  @Test("what cannot be written, or read, ends a dry run with the code of the run")
  func whatCannotBeWrittenEndsADryRun() throws {
    let directory = try CommandTests.imported()
    let m = directory.path + "/m.llv"
    let items = try directory.write("i.jsonl", "\"fox\"\nbad\n")
    let rows: [[String]] = [
      ["import", directory.path + "/model", "-o", m], ["import", directory.path + "/model", "-o", "/absent/m.llv"],
      ["import", directory.path + "/absent", "-o", directory.path + "/x.llv"],
      ["quantize", m, "--bits", "4", "-o", m], ["export", m, "--to", "hf", "-o", directory.path],
      ["embed", m, "--input", items, "--output", directory.path + "/v.npy"],
      ["embed", m, "--input", items, "--output", directory.path + "/v.txt"],
      ["measure", m, "--data", directory.path + "/absent", "-o", directory.path + "/c.llv"],
      ["measure", m, "--data", items, "-o", directory.path + "/c.llv"],
    ]
    for words in rows {
      let before = directory.names
      let dry = try ProgramRun(words + ["--dry-run"])
      #expect(directory.names == before, "\(words)")
      let run = try ProgramRun(words)
      #expect(dry.status == run.status && run.status != 0, "\(words): \(dry.status), \(run.status) \(run.errors)")
      for name in directory.names where !before.contains(name) {
        try FileManager.default.removeItem(atPath: directory.path + "/" + name)
      }
    }
  }

  @Test("measure says what it would take, and keeps no work that was not done")
  func measureSaysWhatItWouldTake() throws {
    let directory = try CommandTests.imported()
    let items = try directory.write("i.jsonl", "\"a fox\"\n\"a whale\"\n")
    let before = directory.names
    let words = ["measure", directory.path + "/m.llv", "--data", items, "-o", directory.path + "/c.llv"]
    let dry = try ProgramRun(words + ["--dry-run"])
    #expect(
      dry.status == 0 && dry.output.contains("would measure 2 items") && directory.names == before, "\(dry.errors)")
  }
}
