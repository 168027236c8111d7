import Bytes
import Foundation
import TestSupport
import Testing

/// The program itself with a driver of an emulated GPU, and without any.
struct DeviceCommandTests {
  /// A folder with the emulated driver under the name that programs look for.
  static func driver() throws -> (folder: TemporaryDirectory, environment: [String: String]) {
    let folder = try TemporaryDirectory()
    let library = URL(fileURLWithPath: Repository.program).deletingLastPathComponent().path + "/libEmulatedCUDA.so"
    try FileManager.default.createSymbolicLink(atPath: folder.path + "/libcuda.so.1", withDestinationPath: library)
    return (folder, ["LD_LIBRARY_PATH": folder.path])
  }

  @Test("without a driver every command says so in a line")
  func withoutADriver() throws {
    let list = try ProgramRun(["devices"])
    #expect(list.status == 0 && list.output.contains("cpu  ") && list.output.contains("not usable: no NVIDIA driver"))
    let directory = try CommandTests.imported()
    let run = try ProgramRun(["embed", directory.path + "/m.llv", "--device", "gpu"], input: "{\"text\": \"a\"}\n")
    #expect(run.status == 69 && run.output.isEmpty)
    #expect(run.errors.hasPrefix("llvconv: no NVIDIA driver (") && run.errors.split(separator: "\n").count == 1)
    let wrong = try ProgramRun(["embed", directory.path + "/m.llv", "--device", "tpu"])
    #expect(wrong.status == 64 && wrong.errors.contains("--device is cpu, gpu or gpu:NUMBER"))
    let both = try ProgramRun(["devices", "--check", "cpu", "--speed", "cpu"])
    #expect(both.status == 64 && both.errors.contains("give one"))
  }

  @Test("an emulated GPU is listed, embeds as the processor does, and both pass verify together")
  func anEmulatedGPUEmbeds() throws {
    let (driver, environment) = try DeviceCommandTests.driver()
    defer { withExtendedLifetime(driver) {} }
    let list = try ProgramRun(["devices"], environment: environment)
    #expect(list.status == 0 && list.output.contains("gpu:0  emulated GPU, compute 9.0"))

    let directory = try PictureCommandTests.imported()
    let candidate = directory.path + "/q.llv"
    let quantized = try ProgramRun(
      ["quantize", directory.path + "/m.llv", "--bits", "8", "--activations", "8", "-o", candidate])
    #expect(quantized.status == 0, "\(quantized.errors)")
    let pairs = """
      {"query": {"text": "a red cube"}, "positive": {"text": "cube"}, "negatives": [{"text": "a green ball"}]}
      {"query": {"text": "<image>\\nwhat?", "images": ["wide.png"]}, "positive": {"text": "a wide picture"}}
      """
    let data = try directory.write("pairs.jsonl", pairs)
    let verify = try ProgramRun(
      [
        "verify", candidate, "--reference", directory.path + "/m.llv", "--data", data, "--device", "cpu,gpu", "--json",
        "--min-cosine", "-1", "--min-overlap", "0", "--max-recall-drop", "1",
      ], environment: environment)
    let json = try JSON.parse(Array(verify.output.utf8))
    let agreement = try #require(try json.required("agreements").elements().first)
    let passes = try agreement.required("passes").bool()
    #expect(verify.status == 0 && passes, "\(verify.output.suffix(600)) \(verify.errors)")
    let products = try agreement.required("integerProducts").integer(in: 0...1_000)
    #expect(products > 3)
    #expect(try json.required("reports").elements().count == 2)
  }
}
