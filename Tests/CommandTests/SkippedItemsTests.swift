import Bytes
import Foundation
import TestSupport
import Testing

/// Bad items are left out of what is measured, and said so.
struct SkippedItemsTests {
  /// Twenty pairs of a text and a picture; those of `bad` have pictures that are missing or none.
  static func data(_ directory: TemporaryDirectory, bad: Set<Int>, negative: String? = nil) throws -> String {
    try directory.write("broken.png", "no picture")
    let pictures = ["square.png", "wide.png", "tall.png", "odd.png"]
    let lines = (0..<20).map { index in
      let name = bad.contains(index) ? (index % 2 == 0 ? "gone.png" : "broken.png") : pictures[index % 4]
      let tail = index == 0 ? negative.map { #","negatives":[{"images":["\#($0)"]},"a cat"]"# } ?? "" : ""
      return #"{"id":"p\#(index)","query":"item \#(index)","positive":{"images":["\#(name)"]}\#(tail)}"#
    }
    return try directory.write("data.jsonl", lines.joined(separator: "\n"))
  }

  static func skipped(_ run: ProgramRun) throws -> JSON {
    try JSON.parse(Array(run.output.utf8)).required("skipped")
  }

  @Test("verify leaves out pairs of bad items and bad negatives, of both models; strict stops")
  func verifyLeavesOutPairsOfBadItems() throws {
    let directory = try PictureCommandTests.imported()
    let m = directory.path + "/m.llv"
    let data = try SkippedItemsTests.data(directory, bad: [3], negative: "gone.png")
    let command = ["verify", m, "--reference", m, "--data", data, "--no-layers", "--json"]
    let run = try ProgramRun(command)
    let json = try JSON.parse(Array(run.output.utf8))
    #expect(try json.required("queries").integer(in: 0...99) == 19, "\(run.errors)")
    // Four pictures and a negative of text.
    #expect(try json.required("documents").integer(in: 0...99) == 5)
    let skipped = try SkippedItemsTests.skipped(run)
    #expect(try skipped.required("count").integer(in: 0...99) == 2 && skipped.required("of").integer(in: 0...99) == 27)
    let first = try skipped.required("items").elements()[0]
    #expect(try first.required("id").string() == "p3, positive" && first.required("code").string() == "malformed")
    #expect(run.errors.contains("2 of 27 items, and with them 1 of 20 pairs, are bad"), "\(run.errors)")
    #expect(try skipped.required("pairs").integer(in: 0...99) == 1)
    #expect(run.errors.contains("\"p0, negative 1\"") && run.errors.contains("no such file"))
    let again = try ProgramRun(command)
    #expect(again.output == run.output, "the same with the reference's vectors kept")
    let strict = try ProgramRun(command + ["--strict"])
    #expect(strict.status == 65 && strict.errors.contains("p3, positive"), "\(strict.errors)")
    let none = try ProgramRun(["verify", m, "--reference", m, "--data", try SkippedItemsTests.data(directory, bad: [])])
    #expect(!none.output.contains("left out") && !none.errors.contains("left out"))
  }

  @Test("many bad items are listed in part and make a note; all bad is an error")
  func manyBadItems() throws {
    let directory = try PictureCommandTests.imported()
    let m = directory.path + "/m.llv"
    let data = try SkippedItemsTests.data(directory, bad: Set(0..<16), negative: "gone.png")
    let run = try ProgramRun(["verify", m, "--reference", m, "--data", data, "--no-layers"])
    let note = "2 of 27 items, and with them 16 of 20 pairs, are bad and left out"
    #expect(
      run.status == 2 && run.output.replacing("\n", with: " ").contains(note) && run.errors.contains(note),
      "\(run.output)\(run.errors)")
    let lines = (0..<30).map { #"{"id":"x\#($0)","images":["gone\#($0).png"]}"# } + ["\"a cat\""]
    let many = try directory.write("many.jsonl", lines.joined(separator: "\n"))
    let measure = try ProgramRun(["measure", m, "--data", many, "-o", directory.path + "/c.llv"])
    #expect(measure.status == 0 && measure.errors.contains("30 of 31 items are bad"), "\(measure.errors)")
    #expect(measure.errors.contains("\"x9\"") && !measure.errors.contains("\"x10\""))
    #expect(measure.errors.contains("and 20 more"))
    let strict = try ProgramRun(["measure", m, "--data", many, "-o", directory.path + "/d.llv", "--strict"])
    #expect(strict.status == 66 && strict.errors.contains("x0"), "\(strict.errors)")
    let all = try directory.write("all.jsonl", lines.dropLast().joined(separator: "\n"))
    let nothing = try ProgramRun(["measure", m, "--data", all, "-o", directory.path + "/d.llv"])
    #expect(nothing.status == 66 && nothing.errors.contains("nothing is left: 30 of 30"), "\(nothing.errors)")
    let pairs = try SkippedItemsTests.data(directory, bad: Set(0..<20))
    let verify = try ProgramRun(["verify", m, "--reference", m, "--data", pairs])
    #expect([65, 66].contains(verify.status) && verify.errors.contains("nothing is left"), "\(verify.errors)")
  }

  @Test("sensitivities pass by bad items and the pairs of such")
  func sensitivitiesPassByBadItems() throws {
    let directory = try PictureCommandTests.imported()
    let (m, c) = (directory.path + "/m.llv", directory.path + "/c.llv")
    let data = try SkippedItemsTests.data(directory, bad: [0, 1], negative: "gone.png")
    let run = try ProgramRun(
      ["measure", m, "--data", data, "-o", c, "--sensitivity", "--sensitivity-tokens", "400"])
    #expect(run.status == 0 && run.errors.contains("3 of 42 items are bad"), "\(run.errors)")
    let plan = ["plan", m, "--bits", "6", "--calibration", c, "-o", directory.path + "/p.json"]
    #expect(try ProgramRun(plan).status == 0)
  }

  @Test("eval leaves out queries that are bad or whose right answer is, and other bad candidates")
  func evalLeavesOutBadQueries() throws {
    let directory = try PictureCommandTests.imported()
    let lines = [
      #"{"query":"a cat","candidates":["a cat",{"images":["gone.png"]},"a dog"]}"#,
      #"{"query":"a cat","candidates":[{"images":["gone.png"]},"a dog"]}"#,
      #"{"query":{"images":["none.png"]},"candidates":["a dog"]}"#,
      #"{"query":{"images":["odd.png"]},"candidates":["a dog",{"images":["odd.png"]}],"label":"l","title":"t"}"#,
    ]
    let data = try directory.write("choice.jsonl", lines.joined(separator: "\n"))
    let command = ["eval", directory.path + "/m.llv", "--data", data, "--json"]
    let run = try ProgramRun(command)
    let set = try #require(try JSON.parse(Array(run.output.utf8)).required("data_sets").elements().first)
    #expect(try set.required("queries").integer(in: 0...9) == 2 && set.required("accuracy").double() == 0.5)
    #expect(try set.required("skipped").required("count").integer(in: 0...9) == 2, "\(run.output)")
    #expect(try set.required("notes").elements().count == 1)
    #expect(run.errors.contains("1 line has keys that are not read: title (1)"), "\(run.errors)")
    #expect(run.errors.contains("2 of 5 items, and with them 2 of 4 pairs, are bad and left out"), "\(run.errors)")
    let text = try ProgramRun(command.dropLast())
    #expect(text.output.contains("note: 2 of 5 items"), "\(text.output)")
    #expect(try ProgramRun(command + ["--strict"]).status == 65, "the key comes before the items")
    let clean = try directory.write("clean.jsonl", lines.dropLast().joined(separator: "\n"))
    #expect(try ProgramRun(["eval", directory.path + "/m.llv", "--data", clean, "--strict"]).status == 66)
    let bad = try directory.write("bad.jsonl", lines[1])
    let nothing = try ProgramRun(["eval", directory.path + "/m.llv", "--data", bad])
    #expect(nothing.status == 66 && nothing.errors.contains("nothing is left"), "\(nothing.errors)")
  }
}
