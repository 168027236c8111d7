import Bytes
import Foundation
import TestSupport
import Testing

/// `--views`, `--pool-pictures` and `plan --speed`, as a user runs them.
struct PictureLayoutCommandTests {
  private static func pictures(_ path: String) throws -> (views: Int, pooling: Int, step: JSON) {
    let json = try JSON.parse(Array(try ProgramRun(["inspect", path, "--json"]).output.utf8))
    let pictures = try json.required("pictures")
    let history = try json.required("history").elements()
    return (
      try pictures.required("views").integer(in: 1...100), try pictures.required("pool_pictures").integer(in: 1...2),
      try #require(history.last)
    )
  }

  private static func items(_ directory: TemporaryDirectory) throws -> String {
    let names = ["square.png", "large.png", "wide.png", "tall.png", "odd.png"]
    let rows = names.map { #"{"text":"<image>\nWhat is it?","images":["\#($0)"]}"# } + [#"{"text":"A cat"}"#]
    return try directory.write("items.jsonl", rows.joined(separator: "\n"))
  }

  @Test("alone they leave weights and graph as they are; with bits, size and plan they change pictures too")
  func aloneTheyLeaveWeightsAsTheyAre() throws {
    let directory = try PictureCommandTests.imported()
    let (m, q, p) = (directory.path + "/m.llv", directory.path + "/q.llv", directory.path + "/p.json")
    #expect(try PictureLayoutCommandTests.pictures(m).views == 5)
    let alone = try ProgramRun(["quantize", m, "--views", "2", "--pool-pictures", "2", "-o", q])
    #expect(alone.status == 0 && alone.errors.contains("weights as they were"), "\(alone.errors)")
    #expect(alone.errors.contains("at most 2 views") && alone.errors.contains("pooled 2 x 2"), "\(alone.errors)")
    let found = try PictureLayoutCommandTests.pictures(q)
    #expect(found.views == 2 && found.pooling == 2)
    #expect(try found.step.required("views").integer(in: 0...9) == 2 && found.step["recipe"]?.kind == .null)
    #expect(try ProgramRun(["diff", m, q]).status == 0)
    #expect(
      try ProgramRun(["hash", m]).output.split(separator: " ")[0]
        == ProgramRun(["hash", q]).output.split(separator: " ")[0])
    let bytes = try Repository.read(q)
    #expect(
      try ProgramRun(["quantize", m, "--views", "2", "--pool-pictures", "2", "-o", q, "--force", "--threads", "1"])
        .status == 0)
    #expect(try Repository.read(q) == bytes)

    #expect(try ProgramRun(["plan", m, "--bits", "6", "-o", p]).status == 0)
    for words in [["--bits", "4"], ["--bits", "5.5"], ["--size", "200KB"], ["--plan", p]] {
      let run = try ProgramRun(["quantize", m, "--views", "3", "-o", q, "--force"] + words)
      #expect(run.status == 0, "\(words): \(run.errors)")
      let found = try PictureLayoutCommandTests.pictures(q)
      #expect(found.views == 3 && found.pooling == 1, "\(words)")
      #expect(try ProgramRun(["inspect", q]).output.contains("int4"), "\(words)")
      if words[0] == "--size" { #expect(try Repository.read(q).count <= 200_000) }
    }
    let dry = try ProgramRun(["quantize", m, "--views", "1", "--dry-run"])
    #expect(dry.status == 0 && dry.output.contains("one view"), "\(dry.output)")
    let more = try ProgramRun(["quantize", m, "--views", "9", "-o", q, "--force"])
    #expect(more.status == 0 && more.errors.contains("changes nothing"), "\(more.errors)")
  }

  @Test("verify says what pictures come to, and which settings differ")
  func verifySaysWhatPicturesComeTo() throws {
    let directory = try PictureCommandTests.imported()
    let (m, q) = (directory.path + "/m.llv", directory.path + "/q.llv")
    #expect(try ProgramRun(["quantize", m, "--views", "1", "--pool-pictures", "2", "-o", q]).status == 0)
    let pairs = ["large.png", "wide.png"].map { name in
      #"{"query":{"text":"<image>\nWhat?","images":["\#(name)"]},"positive":{"text":"caption of \#(name)"}}"#
    }
    let data = try directory.write("pairs.jsonl", pairs.joined(separator: "\n"))
    let words = ["verify", q, "--reference", m, "--data", data, "--no-cache"]
    let run = try ProgramRun(words)
    // 4 x 4 patches of one view: 2 x 2 and a newline.
    #expect(run.output.contains("1.00 views, 5.0 tokens (reference "), "\(run.output)")
    for words in ["pool_pictures differs: 1 in the reference, 2 in", "vision, grid differs"] {
      #expect(run.output.replacing("\n    ", with: " ").contains(words), "\(run.output)")
    }
    let speed = try JSON.parse(Array(try ProgramRun(words + ["--json"]).output.utf8)).required("speed")
    let (own, other) = (try speed.required("candidate"), try speed.required("reference"))
    #expect(try own.required("tokens_per_picture").double() == 5)
    #expect(try other.required("views_per_picture").double() > 2)
    let profile = try ProgramRun(words + ["--profile", "llama.cpp"])
    #expect(profile.status == 69 && profile.errors.contains("pools no pictures"), "\(profile.errors)")
  }

  @Test(
    "a smaller grid is exported and read back; pooling and a lone view are refused",
    arguments: [
      "hf", "safetensors", "gguf",
    ])
  func aSmallerGridIsExported(_ format: String) throws {
    let directory = try PictureCommandTests.imported()
    let (m, q, r) = (directory.path + "/m.llv", directory.path + "/q.llv", directory.path + "/r.llv")
    #expect(try ProgramRun(["quantize", m, "--views", "3", "-o", q]).status == 0)
    let out = directory.path + "/out" + (format == "gguf" ? ".gguf" : "")
    let export = try ProgramRun(["export", q, "--to", format, "-o", out])
    #expect(export.status == 0, "\(export.errors)")
    let projector = format == "gguf" ? ["--mmproj", directory.path + "/out-mmproj.gguf"] : []
    let back = try ProgramRun(["import", out, "-o", r] + projector)
    #expect(back.status == 0, "\(back.errors)")
    let (found, wanted) = (try PictureLayoutCommandTests.pictures(r), try PictureLayoutCommandTests.pictures(q))
    #expect(found.views == 3 && wanted.views == 3)
    if format == "hf" {
      // transformers' layout, which writes heights first, and its processor's file.
      #expect(try ProgramRun(["quantize", r, "--views", "2", "-o", q, "--force"]).status == 0)
      #expect(try ProgramRun(["export", q, "--to", "hf", "-o", out + "-again"]).status == 0)
      for name in ["config.json", "preprocessor_config.json"] {
        #expect(try Repository.json(out + "-again/" + name).required("image_grid_pinpoints").count == 1, "\(name)")
        #expect(try Repository.json(out + "/" + name).required("image_grid_pinpoints").count == 3, "\(name)")
      }
    }
    for (words, message) in [(["--views", "1"], "every picture is one view"), (["--pool-pictures", "2"], "pooled")] {
      #expect(try ProgramRun(["quantize", m, "-o", r, "--force"] + words).status == 0)
      let refused = try ProgramRun(["export", r, "--to", format, "-o", out + "-2"])
      #expect(refused.status == 69 && refused.errors.contains(message), "\(refused.errors)")
      #expect(refused.errors.split(separator: "\n").count == 1)
    }
  }

  @Test("a plan for a speed holds what was measured, and carries pictures out too, to the same bytes")
  func aPlanForASpeedCarriesPicturesOut() throws {
    let directory = try PictureCommandTests.imported()
    let (m, q, p) = (directory.path + "/m.llv", directory.path + "/q.llv", directory.path + "/p.json")
    let data = try PictureLayoutCommandTests.items(directory)
    let words = ["plan", m, "--data", data, "-o", p, "--rounds", "1", "--force", "--speed"]
    // Anything is fast enough: the most faithful is the model as it is.
    let any = try ProgramRun(words + ["0.000001x"])
    #expect(any.status == 0 && any.output.contains("->"), "\(any.errors)")
    let plan = try Repository.json(p)
    #expect(plan["views"] == nil && plan["pool_pictures"] == nil)
    let rows = try plan.required("notes").required("speed").required("candidates").elements()
    // Five kinds of weights and inputs, four counts of views, pooled or not.
    #expect(rows.count == 40 && any.output.split(separator: "\n").count == 42, "\(any.output)")
    let chosen = try #require(try rows.first { try $0.required("chosen").bool() })
    #expect(try chosen.required("front").bool() && chosen.required("weights").string() == "keep")
    #expect(try rows.allSatisfy { try $0.required("cosine").double() <= chosen.required("cosine").double() })
    #expect(try ProgramRun(["quantize", m, "--plan", p, "-o", q]).errors.contains("weights as they were"))
    #expect(try ProgramRun(["diff", m, q]).status == 0)

    let few = try ProgramRun(words + ["0.001", "--views", "1,2", "--pool-pictures", "2", "--activations", "8"])
    #expect(few.status == 0, "\(few.errors)")
    for _ in 0..<2 {
      #expect(try ProgramRun(["quantize", m, "--plan", p, "-o", q, "--force"]).status == 0)
      let found = try PictureLayoutCommandTests.pictures(q)
      #expect(found.views <= 2 && found.pooling == 2)
    }
    let bytes = try Repository.read(q)
    #expect(try ProgramRun(["quantize", m, "--plan", p, "-o", q, "--force", "--threads", "1"]).status == 0)
    #expect(try Repository.read(q) == bytes)
    let both = try ProgramRun(["quantize", m, "--plan", p, "--views", "1", "-o", q, "--force"])
    #expect(both.status == 64 && both.errors.contains("up to the plan"), "\(both.errors)")

    let sized = try ProgramRun(words + ["0.000001x", "--bits", "6", "--views", "2"])
    #expect(sized.status == 0 && sized.output.contains("planned"), "\(sized.errors)")
    #expect(try Repository.json(p).required("notes")["weight_bytes"] != nil)

    let more = try ProgramRun(words + ["0.000001x", "--views", "9,5,2", "--pool-pictures", "1", "--activations", "8"])
    let views = try Repository.json(p).required("notes").required("speed").required("candidates").elements().map {
      try $0.required("views").integer(in: 1...9)
    }
    #expect(more.status == 0 && Set(views) == [2, 5] && views.count == 6, "\(more.output)")
    let text = try directory.write("text.jsonl", "{\"text\": \"A cat\"}")
    let without = try ProgramRun([
      "plan", m, "--data", text, "-o", p, "--rounds", "1", "--force", "--speed", "0.000001x",
    ])
    #expect(without.errors.contains("no pictures") && without.output.split(separator: "\n").count == 7)

    try FileManager.default.removeItem(atPath: p)
    let none = try ProgramRun(words + ["1e9x"])
    #expect(none.status == 1 && none.errors.contains("no plan reaches"), "\(none.errors)")
    #expect(none.output.contains("items/s") && !FileManager.default.fileExists(atPath: p))
  }

  @Test("of a text model weights and inputs are tried, and layouts are refused")
  func ofATextModelWeightsAreTried() throws {
    let directory = try CommandTests.imported()
    let (m, p, q) = (directory.path + "/m.llv", directory.path + "/p.json", directory.path + "/q.llv")
    let data = try directory.write("t.jsonl", "{\"text\": \"hello world\"}\n{\"text\": \"the quick fox\"}")
    let words = ["plan", m, "--data", data, "-o", p, "--rounds", "2", "--speed", "0.000001x"]
    let plan = try ProgramRun(words)
    #expect(plan.status == 0 && plan.output.split(separator: "\n").count == 7, "\(plan.output)\(plan.errors)")
    for extra in [["--views", "2"], ["--pool-pictures", "2"]] {
      let run = try ProgramRun(words + extra + ["--force"])
      #expect(run.status == 64 && run.errors.contains("models of text and pictures"), "\(run.errors)")
      let quantize = try ProgramRun(["quantize", m, "-o", q] + extra)
      #expect(quantize.status == 64 && quantize.errors.contains("models of text and pictures"), "\(quantize.errors)")
    }
    #expect(!directory.names.contains("q.llv"))
  }

  @Test("what means nothing is refused in a line")
  func whatMeansNothingIsRefused() throws {
    let directory = try PictureCommandTests.imported()
    let (m, p, q) = (directory.path + "/m.llv", directory.path + "/p.json", directory.path + "/q.llv")
    let data = try PictureLayoutCommandTests.items(directory)
    let quantize = ["quantize", m, "-o", q]
    let plan = ["plan", m, "-o", p]
    let speed = plan + ["--data", data, "--speed"]
    for (words, message) in [
      (quantize + ["--views", "0"], "--views must be a whole number from 1"),
      (quantize + ["--views", "-2"], "--views must be"), (quantize + ["--views", "two"], "--views must be"),
      (quantize + ["--pool-pictures", "3"], "--pool-pictures must be one of 2"),
      (quantize + ["--views", "2", "--group", "64"], "--group is for weights"),
      (quantize + ["--views", "2", "--activations", "8"], "--activations is for weights"),
      (quantize, "or --views or --pool-pictures"), (plan + ["--speed", "2x"], "--speed needs --data"),
      (speed + ["fast"], "like 2x"), (speed + ["-1"], "like 2x"), (speed + ["0x"], "like 2x"),
      (speed + ["nan"], "like 2x"), (speed + ["2x", "--quality", "0.9"], "does not go with --quality"),
      (speed + ["2x", "--bits", "5", "--size", "1MB"], "one of --bits and --size"),
      (speed + ["2x", "--views", "1,0"], "--views must be whole numbers"),
      (speed + ["2x", "--views", "1,,2"], "--views must be whole numbers"),
      (speed + ["2x", "--rounds", "0"], "--rounds must be"), (speed + ["2x", "--alpha", "3"], "--alpha is for"),
      (plan + ["--bits", "6", "--views", "2"], "--views is for --speed"),
    ] {
      let run = try ProgramRun(words)
      #expect(run.status == 64 && run.errors.contains(message), "\(words): \(run.errors)")
    }
    #expect(!directory.names.contains("q.llv") && !directory.names.contains("p.json"))
  }
}
