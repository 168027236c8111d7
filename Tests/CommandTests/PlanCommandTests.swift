import Bytes
import Foundation
import TestSupport
import Testing

/// `measure --sensitivity`, `plan` and budgets, as a user runs them on the demo model; `compare`.
struct PlanCommandTests {
  /// The demo model, and some of its pairs in two halves.
  static func demo(pairs: Int = 12) throws -> (directory: TemporaryDirectory, model: String, halves: [String]) {
    let directory = try TemporaryDirectory()
    let (model, source) = (directory.path + "/m.llv", Repository.root + "/Tools/demo-model")
    let run = try ProgramRun(["import", source + "/model", "-o", model])
    #expect(run.status == 0, "\(run.errors)")
    let lines = String(decoding: try Repository.read(source + "/pairs.jsonl"), as: UTF8.self)
      .replacing("heldout/", with: source + "/heldout/").split(separator: "\n").prefix(2 * pairs)
    var halves: [String] = []
    for half in [0, 1] {
      let text = lines.enumerated().filter { $0.offset % 2 == half }.map(\.element).joined(separator: "\n")
      halves.append(try directory.write("half\(half).jsonl", text))
    }
    return (directory, model, halves)
  }

  private static func numbers(_ run: ProgramRun) throws -> JSON { try JSON.parse(Array(run.output.utf8)) }

  @Test("budgets of bits, bytes and quality are kept, and a plan may be changed by hand")
  func budgetsAreKept() throws {
    let (directory, m, halves) = try PlanCommandTests.demo()
    let (c, p, q) = (directory.path + "/c", directory.path + "/p.json", directory.path + "/q.llv")
    let measure = try ProgramRun([
      "measure", m, "--data", halves[0], "-o", c, "--sensitivity", "--activations", "8", "--sensitivity-tokens", "300",
    ])
    #expect(measure.status == 0, "\(measure.errors)")
    let again = try ProgramRun([
      "measure", m, "--data", halves[0], "-o", c, "--sensitivity", "--activations", "8", "--sensitivity-tokens", "300",
    ])
    #expect(again.status == 0 && again.errors.contains("that measurement already"), "\(again.errors)")

    let sized = try ProgramRun(["quantize", m, "--size", "1.4MB", "--calibration", c, "-o", q, "--json"])
    #expect(sized.status == 0, "\(sized.errors)")
    let bytes = try Repository.read(q).count
    #expect(bytes <= 1_400_000 && bytes > 1_386_000, "\(bytes)")
    #expect(try ProgramRun(["quantize", m, "--size", "1350KB", "-o", q, "--force"]).status == 0)
    let fewer = try Repository.read(q).count
    #expect(fewer <= 1_350_000 && fewer > 1_336_000, "\(fewer)")
    let bits = try ProgramRun(["quantize", m, "--bits", "5.5", "-o", q, "--force", "--json"])
    let found = try PlanCommandTests.numbers(bits).required("bits_per_weight").double()
    #expect(found <= 5.5 && found > 5.445 && bits.errors.contains("no sensitivities"), "\(found) \(bits.errors)")

    let plan = try ProgramRun([
      "plan", m, "--quality", "0.998", "--data", halves[1], "--calibration", c, "--activations", "8", "-o", p,
    ])
    #expect(plan.status == 0 && plan.errors.contains("mean cosine"), "\(plan.errors)")
    #expect(try ProgramRun(["quantize", m, "--plan", p, "--calibration", c, "-o", q, "--force"]).status == 0)
    let verify = try ProgramRun([
      "verify", q, "--reference", m, "--data", halves[1], "--min-cosine", "0.998", "--no-cache", "--json",
    ])
    let report = try PlanCommandTests.numbers(verify)
    let checks = try report.required("checks").elements()
    // The mean itself is what a plan keeps; of so few items its interval may reach below.
    #expect(try checks[0].required("name").string() == "mean cosine")
    let kept = try checks[0].required("value").double()
    #expect(kept >= 0.998, "\(kept); \(plan.errors)")
    #expect(try checks.last?.required("value").double() == 0)

    var text = String(decoding: try Repository.read(p), as: UTF8.self)
    text = text.replacing(#/"choice": "[^"]*"/#, with: "\"choice\": \"8:channel\"", maxReplacements: 1)
    let changed = try directory.write("changed.json", text)
    #expect(try ProgramRun(["quantize", m, "--plan", changed, "-o", q, "--force"]).status == 0)
    #expect(try ProgramRun(["inspect", q]).output.contains("int8"))
  }

  @Test("budgets that cannot be kept, and plans that do not fit, are refused")
  func whatCannotBeIsRefused() throws {
    let (directory, m, halves) = try PlanCommandTests.demo(pairs: 2)
    let (p, q) = (directory.path + "/p.json", directory.path + "/q.llv")
    let impossible = try ProgramRun(["plan", m, "--quality", "1", "--data", halves[1], "-o", p])
    #expect(impossible.status == 1 && impossible.errors.contains("no plan keeps"), "\(impossible.errors)")
    let small = try ProgramRun(["quantize", m, "--size", "100KB", "-o", q])
    #expect(small.status == 64 && small.errors.contains("smallest file"), "\(small.errors)")
    for words in [
      ["plan", m, "-o", p], ["plan", m, "--bits", "5", "--size", "1MB", "-o", p], ["plan", m, "--bits", "1", "-o", p],
      ["plan", m, "--quality", "0.9", "-o", p], ["plan", m, "--bits", "5", "--alpha", "3", "-o", p],
      ["plan", m, "--size", "1XB", "-o", p], ["quantize", m, "-o", q],
      ["quantize", m, "--bits", "5", "--group", "64", "-o", q],
      ["quantize", m, "--bits", "4", "--objective", "mse", "-o", q],
      ["quantize", m, "--bits", "4", "--method", "gptq", "-o", q],
      ["measure", m, "--data", halves[0], "--activations", "8", "-o", q],
    ] { #expect(try ProgramRun(words).status == 64, "\(words)") }
    let good = try ProgramRun(["plan", m, "--bits", "6", "-o", p])
    #expect(good.status == 0, "\(good.errors)")
    let text = String(decoding: try Repository.read(p), as: UTF8.self)
    let foreign = try directory.write("foreign.json", text.replacing(#/"model": "[^"]*"/#, with: "\"model\": \"0\""))
    #expect(try ProgramRun(["quantize", m, "--plan", foreign, "-o", q]).errors.contains("another model"))
    let bad = try directory.write("bad.json", text.replacing(#/"choice": "\d/#, with: "\"choice\": \"9"))
    let refused = try ProgramRun(["quantize", m, "--plan", bad, "-o", q])
    #expect(
      refused.status == 65 && refused.errors.contains("bad.json") && refused.errors.contains("choice"),
      "\(refused.errors)")
    #expect(!directory.names.contains("q.llv"))
  }

  @Test("measuring that was killed goes on, to the same bytes")
  func measuringThatWasKilledGoesOn() throws {
    let (directory, m, halves) = try PlanCommandTests.demo(pairs: 60)
    let words = [
      "measure", m, "--data", halves[0], "--sensitivity", "--sensitivity-tokens", "200", "--threads", "1", "-o",
    ]
    #expect(try ProgramRun(words + [directory.path + "/whole"]).status == 0)
    let (output, part) = (directory.path + "/c", directory.path + "/c.partial")
    for file in ["moments-3.llv", "moved-2.llv"] {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: Repository.program)
      process.arguments = words + [output]
      process.standardError = Pipe()
      try process.run()
      while process.isRunning, !FileManager.default.fileExists(atPath: part + "/" + file) { usleep(200) }
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
      #expect(!directory.names.contains("c") && FileManager.default.fileExists(atPath: part + "/" + file))
    }
    let rest = try ProgramRun(words + [output])
    #expect(rest.status == 0 && rest.errors.contains("going on after stage"), "\(rest.errors)")
    #expect(try Repository.read(output) == Repository.read(directory.path + "/whole"))
    #expect(!FileManager.default.fileExists(atPath: part))
    // Killed between the two: what was measured is there, and so is the work.
    try directory.write("c.partial/moments-1.llv", "")
    let known = try ProgramRun(words + [output])
    #expect(known.status == 0 && known.errors.contains("already"), "\(known.errors)")
    #expect(!FileManager.default.fileExists(atPath: part))
  }

  @Test("vectors in files are compared as verify compares models")
  func vectorsInFilesAreCompared() throws {
    let directory = try CommandTests.imported()
    let (m, q) = (directory.path + "/m.llv", directory.path + "/q.llv")
    #expect(try ProgramRun(["quantize", m, "--bits", "4", "-o", q]).status == 0)
    let vocabulary = ["hello", "world", "the", "quick", "brown"]
    let texts = (0..<25).map { "{\"text\": \"\(vocabulary[$0 % 5]) \(vocabulary[$0 / 5]) fox\"}" }
    let documents = try directory.write("d.jsonl", texts.joined(separator: "\n"))
    let queries = try directory.write("q.jsonl", texts.prefix(7).joined(separator: "\n"))
    for (model, name) in [(m, "old"), (q, "new")] {
      for (data, kind) in [(documents, "d"), (queries, "q")] {
        let run = try ProgramRun(["embed", model, "--input", data, "--output", "\(directory.path)/\(name)-\(kind).npy"])
        #expect(run.status == 0, "\(run.errors)")
      }
    }
    let path = directory.path
    let words = [
      "compare", path + "/new-d.npy", "--index", path + "/old-d.npy", "--queries", path + "/new-q.npy",
      "--reference-queries", path + "/old-q.npy", "--min-cosine", "0", "--min-overlap", "0", "--max-recall-drop", "1",
    ]
    let page = path + "/r.html"
    let run = try ProgramRun(words + ["--paired", "--json", "--report", page])
    #expect(run.status == 2, "\(run.errors)")
    let report = try PlanCommandTests.numbers(run)
    #expect(
      try report.required("queries").integer(in: 0...100) == 7
        && report.required("documents").integer(in: 0...100) == 25)
    #expect(try report.required("reference_retrieval").required("p_at_1").double() == 1)
    #expect(String(decoding: try Repository.read(page), as: UTF8.self).contains("document"))
    let cosine = try report.required("cosine").required("mean").double()
    #expect(cosine > 0.9 && cosine < 1)
    // The index as it is and new queries are enough, and what they do not show is said.
    let own = ["compare", "--allow", "few"] + words[2...]
    let index = try ProgramRun(own + ["--paired", "--json", "--query-items", queries])
    let alone = try PlanCommandTests.numbers(index)
    #expect(index.status == 0 && alone["candidate_retrieval"] == nil, "\(index.output)\(index.errors)")
    #expect(try alone.required("mixed_index_retrieval").required("p_at_1").double() > 0.5)
    #expect(index.output.contains("its documents were not embedded") && index.output.contains("hello hello fox"))
    for metric in ["cosine", "ip", "l2"] {
      let run = try ProgramRun(own + ["--metric", metric, "--json"])
      let overlap = try PlanCommandTests.numbers(run).required("mixed_index_retrieval").required("overlap_at_10")
        .double()
      #expect(run.status == 0 && overlap > 0.5, "\(metric): \(run.errors)")
    }
    let same = try ProgramRun(
      [
        "compare", path + "/old-d.npy", "--index", path + "/old-d.npy", "--queries", path + "/old-q.npy",
        "--reference-queries", path + "/old-q.npy", "--allow", "few", "--max-recall-drop", "1",
      ])
    #expect(same.status == 0 && same.output.hasPrefix("PASS"), "\(same.output)")
    let cut = try directory.write("cut.npy", "\u{93}NUMPY")
    for (place, bad) in [(1, cut), (1, documents), (3, path + "/old-q.npy"), (5, path + "/none.npy")] {
      var broken = words
      broken[place] = bad
      #expect([65, 66].contains(try ProgramRun(broken).status), "\(bad)")
    }
  }
}
