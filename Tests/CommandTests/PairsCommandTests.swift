import Bytes
import Foundation
import TestSupport
import Testing

/// `pairs`, and that what it makes is what the other commands read.
struct PairsCommandTests {
  @Test("pairs of a table go through verify, eval and measure as they are")
  func pairsOfATableGoThroughEverything() throws {
    let directory = try CommandTests.imported()
    let words = ["hello", "world", "the", "quick", "brown", "fox"]
    let rows = (0..<24).map { "\"\(words[$0 % 6]), \(words[$0 / 4])\",the \(words[$0 % 5]) a,c\($0 % 3)" }
    let table = try directory.write("t.csv", "question,answer,class\r\n" + rows.joined(separator: "\r\n"))
    let (m, pairs) = (directory.path + "/m.llv", directory.path + "/pairs.jsonl")
    let command = ["pairs", table, "--label", "class", "--negatives", "2", "-o", pairs]
    let run = try ProgramRun(command)
    #expect(run.status == 0 && run.output.isEmpty, "\(run.errors)")
    #expect(run.errors.contains("24 pairs: ") && run.errors.contains("next: llvconv verify"), "\(run.errors)")
    let made = try Repository.read(pairs)
    #expect(try ProgramRun(command).status == 73)
    #expect(try ProgramRun(command + ["--force"]).status == 0 && Repository.read(pairs) == made)
    let verify = try ProgramRun(["verify", m, "--reference", m, "--data", pairs, "--strict", "--json"])
    #expect(try JSON.parse(Array(verify.output.utf8)).required("queries").integer(in: 0...99) == 24, "\(verify.errors)")
    #expect(try ProgramRun(["eval", m, "--data", pairs, "--strict"]).output.contains("R@1/5/10"))
    let measure = try ProgramRun(["measure", m, "--data", pairs, "--strict", "-o", directory.path + "/c.llv"])
    #expect(measure.status == 0, "\(measure.errors)")
  }

  @Test("pictures are named from the folder of the pairs, wherever that is")
  func picturesAreNamedFromTheFolderOfThePairs() throws {
    let directory = try PictureCommandTests.imported()
    for name in ["odd.png", "wide.png"] {
      try FileManager.default.createDirectory(atPath: directory.path + "/p/x", withIntermediateDirectories: true)
      try FileManager.default.copyItem(atPath: TinyLlave.folder + name, toPath: directory.path + "/p/x/" + name)
      try directory.write("p/x/\(name.dropLast(4)).txt", "a \(name)")
    }
    try FileManager.default.createDirectory(atPath: directory.path + "/elsewhere", withIntermediateDirectories: true)
    for target in ["a.jsonl", "p/b.jsonl", "elsewhere/d.jsonl"] {
      let pairs = directory.path + "/" + target
      #expect(try ProgramRun(["pairs", directory.path + "/p", "-o", pairs]).status == 0)
      let m = directory.path + "/m.llv"
      let run = try ProgramRun(["eval", m, "--data", pairs, "--strict", "--no-cache"])
      #expect(run.status == 0, "\(target): \(run.errors)")
      let text = String(decoding: try Repository.read(pairs), as: UTF8.self)
      #expect(text.contains("llvconv-test-") == target.hasPrefix("elsewhere"), "\(text)")
    }
  }

  @Test("a mistake gets one line and writes nothing")
  func aMistakeGetsOneLine() throws {
    let directory = try TemporaryDirectory()
    let table = try directory.write("t.csv", "query,positive\n\"a,b\n")
    let before = directory.names
    for (words, status, message) in [
      (["pairs", table, "-o", directory.path + "/p.jsonl"], Int32(65), "t.csv: line 2: a quoted cell"),
      (["pairs", directory.path + "/absent", "-o", directory.path + "/p.jsonl"], 66, "no such file"),
      (["pairs", table, "-o", directory.path + "/p.csv"], 64, "must end in .jsonl"),
      (["pairs", directory.path, "--negatives", "a", "-o", directory.path + "/p.jsonl"], 64, "is a number"),
      (["pairs", directory.path, "--qrels", "a", "-o", directory.path + "/p.jsonl"], 64, "--qrels is for"),
    ] {
      let run = try ProgramRun(words)
      #expect(run.status == status && run.errors.contains(message), "\(run.status) \(run.errors)")
      #expect(run.errors.split(separator: "\n").count == 1 && directory.names == before)
    }
  }
}
