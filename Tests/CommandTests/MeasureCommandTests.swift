import Bytes
import TestSupport
import Testing

/// `measure`, `quantize --calibration` and `bench`, as a user runs them.
struct MeasureCommandTests {
  @Test("measure, quantize with it and verify work one after the other, the same for any number of threads")
  func measureQuantizeAndVerify() throws {
    let directory = try CommandTests.imported()
    let m = directory.path + "/m.llv"
    let data = try directory.write("pairs.jsonl", CommandTests.pairs)
    var measured: [[UInt8]] = []
    var quantized: [[UInt8]] = []
    for threads in ["1", "3"] {
      let (c, q) = (directory.path + "/c\(threads)", directory.path + "/q\(threads)")
      let measure = try ProgramRun(["measure", m, "--data", data, "-o", c, "--threads", threads])
      #expect(measure.status == 0, "\(measure.errors)")
      measured.append(try Repository.read(c))
      let quantize = try ProgramRun(
        ["quantize", m, "--bits", "4", "--group", "16", "--calibration", c, "-o", q, "--threads", threads])
      #expect(quantize.status == 0, "\(quantize.errors)")
      quantized.append(try Repository.read(q))
    }
    #expect(measured[0] == measured[1] && quantized[0] == quantized[1])
    let inspect = try ProgramRun(["inspect", directory.path + "/q1"])
    #expect(inspect.output.contains("\"gptq\"") && inspect.output.contains("calibration: \""), "\(inspect.output)")
    let verify = try ProgramRun(["verify", directory.path + "/q1", "--reference", m, "--data", data, "--json"])
    // The data was calibrated on, and is few.
    #expect(verify.output.contains("\"calibration\"") && verify.output.contains("calibrated on"), "\(verify.output)")
  }

  @Test("a calibration of another model, or none at all, is refused")
  func aCalibrationOfAnotherModelIsRefused() throws {
    let directory = try CommandTests.imported()
    var tiny = TinyBert()
    tiny.layers = 1
    let other = try CommandTests.imported(tiny)
    let data = try directory.write("pairs.jsonl", CommandTests.pairs)
    let c = directory.path + "/c"
    #expect(try ProgramRun(["measure", other.path + "/m.llv", "--data", data, "-o", c]).status == 0)
    let before = directory.names
    let m = directory.path + "/m.llv"
    let foreign = try ProgramRun(["quantize", m, "--bits", "4", "--calibration", c, "-o", directory.path + "/q"])
    #expect(foreign.status == 64 && foreign.errors.contains("another model"), "\(foreign.errors)")
    let model = try ProgramRun(["quantize", m, "--bits", "4", "--calibration", m, "-o", directory.path + "/q"])
    #expect(model.status == 65 && model.errors.contains("not made by llvconv measure"), "\(model.errors)")
    let bad = try directory.write("bad.jsonl", "{\"text\": 3}")
    let measure = try ProgramRun(["measure", m, "--data", bad, "-o", directory.path + "/d"])
    #expect(measure.status == 65 && measure.errors.contains("bad.jsonl"), "\(measure.errors)")
    let empty = try directory.write("empty.jsonl", "")
    #expect(try ProgramRun(["measure", m, "--data", empty, "-o", directory.path + "/d"]).status == 65)
    #expect(directory.names.filter { !["bad.jsonl", "empty.jsonl"].contains($0) } == before)
  }

  @Test("bench says how fast, as text, as JSON and as a page")
  func benchSaysHowFast() throws {
    let directory = try CommandTests.imported()
    let (m, page) = (directory.path + "/m.llv", directory.path + "/t.html")
    let run = try ProgramRun(
      ["bench", m, "--tokens", "7", "--batch", "3", "--repeat", "2", "--json", "--timeline", page])
    #expect(run.status == 0, "\(run.errors)")
    let json = try JSON.parse(Array(run.output.utf8))
    #expect(try json.required("tokens").integer("tokens", in: 0...100) == 21)
    #expect(try json.required("runs").elements().count == 2)
    #expect(try json.required("tokensPerSecond").double() > 0)
    let names = try json.required("operations").elements().map { try $0.required("name").string() }
    #expect(names.contains { $0.hasPrefix("linear") } && names.contains("attention"), "\(names)")
    let html = String(decoding: try Repository.read(page), as: UTF8.self)
    #expect(html.contains("<svg") && html.contains("attention") && !html.contains("http"))
    #expect(try ProgramRun(["bench", m, "--repeat", "1"]).output.contains("tokens/s"))
    #expect(try ProgramRun(["bench", m, "--tokens", "2000"]).status == 64)
    #expect(try ProgramRun(["bench", m, "--tokens", "7", "--images", "1"]).status == 64)
    let data = try directory.write("items.jsonl", "{\"text\": \"hello world\"}\n{\"text\": \"fox\"}")
    #expect(try ProgramRun(["bench", m, "--input", data, "--repeat", "1"]).output.contains("2 inputs"))
    #expect(try ProgramRun(["bench", m, "--input", data, "--tokens", "4"]).status == 64)
  }
}
