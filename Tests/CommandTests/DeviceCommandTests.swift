import Bytes
import Foundation
import TestSupport
import Testing

/// The program itself with a driver of an emulated GPU, and without any.
struct DeviceCommandTests {
  /// A folder with the emulated driver under the name that programs look for.
  static func driver() throws -> (folder: TemporaryDirectory, environment: [String: String]) {
    let folder = try TemporaryDirectory()
    let library = URL(fileURLWithPath: Repository.program).deletingLastPathComponent().path + "/libEmulatedDriver.so"
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

    // A model that was trained: what the GPU's BF16 moves in the pixels' projection is small beside what a picture is.
    let directory = try TemporaryDirectory()
    let demo = Repository.root + "/Tools/demo-model/"
    let (reference, candidate) = (directory.path + "/m.llv", directory.path + "/q.llv")
    let imported = try ProgramRun(["import", demo + "model", "-o", reference])
    #expect(imported.status == 0, "\(imported.errors)")
    let quantized = try ProgramRun(["quantize", reference, "--bits", "8", "--activations", "8", "-o", candidate])
    #expect(quantized.status == 0, "\(quantized.errors)")
    let pairs = """
      {"query": {"text": "a red cube"}, "positive": {"text": "cube"}, "negatives": [{"text": "a green ball"}]}
      {"query": {"text": "<image>\\nwhat?", "images": ["scene.png"]}, "positive": {"text": "a wide picture"}}
      """
    try FileManager.default.copyItem(
      atPath: demo + "heldout/images/scene-000.png", toPath: directory.path + "/scene.png")
    let data = try directory.write("pairs.jsonl", pairs)

    // Texts go through integers from the first layer on.
    let texts = "{\"text\": \"a red cube\"}\n{\"text\": \"a small circle left of a large cross\"}\n"
    let vectors = try ["cpu", "gpu"].map { device in
      try ProgramRun(["embed", candidate, "--device", device], input: texts, environment: environment).output
    }
    #expect(vectors[0] == vectors[1] && vectors[0].split(separator: "\n").count == 2)

    let verify = try ProgramRun(
      [
        "verify", candidate, "--reference", reference, "--data", data, "--device", "cpu,gpu", "--json",
        "--min-cosine", "-1", "--min-overlap", "0", "--max-recall-drop", "1", "--allow", "few",
      ], environment: environment)
    let json = try JSON.parse(Array(verify.output.utf8))
    let agreement = try #require(try json.required("agreements").elements().first)
    let passes = try agreement.required("passes").bool()
    #expect(verify.status == 0 && passes, "\(verify.output.suffix(600)) \(verify.errors)")
    let products = try agreement.required("integerProducts").integer(in: 0...1_000)
    // Attention of the tower and of the text among them.
    #expect(products > 10)
    #expect(try json.required("reports").elements().count == 2)
  }
}
