import Bytes
import Formats
import Tensors
import TestSupport
import Testing

/// Importance matrices on the command line: written by `measure`, taken by `quantize`.
struct ImatrixCommandTests {
  @Test("measure writes the mean squares of the checkpoint's own weights, whatever was fused")
  func measureWritesTheMeanSquaresOfTheCheckpointsWeights() throws {
    for directory in [try CommandTests.imported(), try PictureCommandTests.imported()] {
      let path = directory.path
      let data = try directory.write("pairs.jsonl", CommandTests.pairs)
      func measure(_ name: String, _ extra: [String] = []) throws -> [TensorName: ImportanceMatrix.Entry] {
        let words = ["measure", path + "/m.llv", "--data", data, "-o", "\(path)/\(name)", "--imatrix"]
        let run = try ProgramRun(words + ["\(path)/\(name).gguf"] + extra)
        #expect(run.status == 0 && run.errors.contains("llama-quantize --imatrix"), "\(run.errors)")
        return try ImportanceMatrix("\(path)/\(name).gguf").entries
      }
      let (fused, plain) = (try measure("fused"), try measure("plain", ["--no-fuse"]))
      #expect(fused.count >= 12 && Set(fused.keys) == Set(plain.keys))
      for (name, entry) in plain {
        let other = try #require(fused[name])
        #expect(other.count == entry.count && entry.count > 12)
        let largest = entry.squares.max() ?? 0
        let isClose = zip(other.squares, entry.squares).allSatisfy { abs($0 - $1) <= 1e-3 * $1 + 1e-6 * largest }
        #expect(isClose, "\(name.text)")
      }
      // What was measured already is not measured again, and still written.
      let again = try measure("fused", ["--force"])
      #expect(again == fused)
    }
  }

  @Test("quantize takes an importance matrix, by squared errors weighted with it; gptq and other files are refused")
  func quantizeTakesAnImportanceMatrix() throws {
    let directory = try PictureCommandTests.imported()
    let path = directory.path
    let data = try directory.write("pairs.jsonl", CommandTests.pairs)
    let (m, x) = (path + "/m.llv", path + "/x.gguf")
    #expect(try ProgramRun(["measure", m, "--data", data, "-o", path + "/c", "--imatrix", x]).status == 0)
    func quantize(_ calibration: String, _ extra: [String] = []) throws -> ProgramRun {
      try ProgramRun(["quantize", m, "--bits", "4", "--calibration", calibration, "-o", path + "/q.llv"] + extra)
    }
    let refused = try quantize(x, ["--method", "gptq"])
    #expect(refused.status == 64 && refused.errors.contains("mean squares alone"), "\(refused.errors)")
    let other = try quantize(Repository.root + "/Tests/Goldens/gguf/demo-imatrix.gguf")
    #expect(other.status == 64 && other.errors.contains("is of another model"), "\(other.errors)")
    #expect(try ProgramRun(["export", m, "--to", "gguf", "-o", path + "/g.gguf"]).status == 0)
    let model = try quantize(path + "/g.gguf")
    #expect(model.status == 69 && model.errors.contains("of another kind"), "\(model.errors)")
    #expect(!directory.names.contains("q.llv"))
    let run = try quantize(x)
    #expect(run.status == 0 && run.errors.contains("says nothing of"), "\(run.errors)")
    let inspect = try ProgramRun(["inspect", path + "/q.llv"])
    #expect(inspect.output.contains("\"weighted\"") && inspect.output.contains("calibration: \""), "\(inspect.output)")
  }

  @Test("measure refuses an importance matrix onto a file that is there, before it measures")
  func measureRefusesToReplace() throws {
    let directory = try CommandTests.imported()
    let data = try directory.write("pairs.jsonl", CommandTests.pairs)
    let x = try directory.write("x.gguf", "mine")
    let run = try ProgramRun([
      "measure", directory.path + "/m.llv", "--data", data, "-o", directory.path + "/c", "--imatrix", x,
    ])
    #expect(run.status == 73 && !directory.names.contains("c"), "\(run.errors)")
    #expect(try Repository.read(x) == Array("mine".utf8))
  }
}
