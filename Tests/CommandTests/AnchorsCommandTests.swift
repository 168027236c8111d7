import Bytes
import Foundation
import Glibc
import TestSupport
import Testing

/// `anchors`, and `verify --anchors` with models, files of vectors and servers.
@Suite(.enabled(if: Repository.model != nil))
struct AnchorsCommandTests {
  /// Anchors of the real MiniLM, made once.
  static let made: Result<TemporaryDirectory, any Error> = Result {
    let directory = try TemporaryDirectory()
    let lines = String(decoding: try Repository.read("Tools/data/debian-pairs.jsonl"), as: UTF8.self).split(
      separator: "\n")
    // Some in upper case, some long: faults of case and of length have to show.
    let changed = lines[600..<760].enumerated().map { place, line -> String in
      guard place % 4 == 0, let start = line.range(of: "\"text\": \""),
        let end = line[start.upperBound...].range(of: "\"}")
      else { return String(line) }
      let text = line[start.upperBound..<end.lowerBound]
      let other =
        place % 8 == 0
        ? String(repeating: text + " ", count: 12) : text.contains("\\") ? String(text) : text.capitalized
      return line[..<start.upperBound] + other + line[end.lowerBound...]
    }
    try directory.write("pairs.jsonl", changed.joined(separator: "\n"))
    let run = try ProgramRun([
      "anchors", try #require(Repository.model), "--data", directory.path + "/pairs.jsonl", "--count", "60", "-o",
      directory.path + "/i.anchors", "--json",
    ])
    try #require(run.status == 0, "\(run.errors)")
    try directory.write("made.json", run.output)
    return directory
  }

  static func verify(_ candidate: [String], environment: [String: String] = [:]) throws -> (
    run: ProgramRun, causes: [String]
  ) {
    let directory = try made.get()
    let run = try ProgramRun(
      // Few queries decide little: no more than a fifth may be lost.
      ["verify", "--anchors", directory.path + "/i.anchors", "--json", "--max-recall-drop", "0.2"] + candidate,
      environment: environment)
    guard !run.output.isEmpty else { return (run, []) }
    let json = try JSON.parse(Array(run.output.utf8), what: "output")
    return (run, try json.required("causes").elements().map { try $0.required("name").string() })
  }

  /// A checkpoint with one text of one of its files replaced.
  static func damaged(_ file: String, _ from: String, _ to: String) throws -> (TemporaryDirectory, String) {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/broken"
    try FileManager.default.copyItem(atPath: try #require(Repository.model), toPath: path)
    let text = String(decoding: try Repository.read(path + "/" + file), as: UTF8.self).replacing(": ", with: ":")
    try #require(text.contains(from), "\(from) is not in \(file)")
    try directory.write("broken/" + file, text.replacing(from, with: to))
    return (directory, path)
  }

  @Test("the model itself passes, its 4-bit form passes, and both are the same bytes again")
  func theModelItselfPasses() throws {
    let directory = try AnchorsCommandTests.made.get()
    let model = try #require(Repository.model)
    let (run, causes) = try AnchorsCommandTests.verify([model])
    #expect(run.status == 0 && causes.isEmpty, "\(run.output) \(run.errors)")
    let json = try JSON.parse(Array(try Repository.read(directory.path + "/made.json")), what: "made")
    #expect(try json.required("anchors").integer(in: 0...1_000) == 60)
    let again = directory.path + "/again.anchors"
    let second = try ProgramRun([
      "anchors", model, "--data", directory.path + "/pairs.jsonl", "--count", "60", "--threads", "1", "-o", again,
    ])
    #expect(second.status == 0, "\(second.errors)")
    #expect(try Repository.read(again) == Repository.read(directory.path + "/i.anchors"))
    let quantized = directory.path + "/q.llv"
    _ = try ProgramRun(["import", model, "-o", directory.path + "/m.llv"])
    _ = try ProgramRun(["quantize", directory.path + "/m.llv", "--bits", "4", "-o", quantized])
    let (coarse, seen) = try AnchorsCommandTests.verify([quantized])
    #expect(coarse.status == 0 && seen == ["coarser"], "\(coarse.output) \(coarse.errors)")
  }

  @Test(
    "a damaged model fails, and the damage is named",
    arguments: [
      ("tokenizer.json", "\"post_processor\":", "\"post_processor\":null,\"once\":", "no-special-tokens"),
      ("tokenizer.json", "\"lowercase\":true", "\"lowercase\":false", "case-kept"),
      ("sentence_bert_config.json", "256", "32", "cut-32"),
      (
        "1_Pooling/config.json", "\"pooling_mode_mean_tokens\":true",
        "\"pooling_mode_mean_tokens\":false,\"pooling_mode_lasttoken\":true", "pooling-last"
      ),
      ("modules.json", "models.Normalize", "models.Dropout", "not-normalised"),
    ])
  func aDamagedModelFails(_ file: String, _ from: String, _ to: String, _ cause: String) throws {
    let (directory, path) = try AnchorsCommandTests.damaged(file, from, to)
    let (run, causes) = try AnchorsCommandTests.verify([path])
    #expect(run.status != 0 && causes.first == cause, "\(causes) \(run.errors)")
    withExtendedLifetime(directory) {}
  }

  @Test("vectors of another program are held to anchors by their order")
  func vectorsOfAnotherProgramAreHeldToAnchors() throws {
    let directory = try AnchorsCommandTests.made.get()
    let items = directory.path + "/items.jsonl"
    let list = try ProgramRun(["anchors", directory.path + "/i.anchors", "--items", items, "--force"])
    #expect(list.status == 0, "\(list.errors)")
    let vectors = directory.path + "/v.npy"
    let embed = try ProgramRun([
      "embed", try #require(Repository.model), "--input", items, "--output", vectors, "--force",
    ])
    #expect(embed.status == 0, "\(embed.errors)")
    let (run, causes) = try AnchorsCommandTests.verify([vectors])
    #expect(run.status == 0 && causes.isEmpty, "\(run.output) \(run.errors)")
    let short = directory.path + "/short.npy"
    try String(decoding: try Repository.read(items), as: UTF8.self).split(separator: "\n").prefix(9).joined(
      separator: "\n"
    )
    .write(toFile: directory.path + "/short.jsonl", atomically: true, encoding: .utf8)
    _ = try ProgramRun([
      "embed", try #require(Repository.model), "--input", directory.path + "/short.jsonl", "--output", short, "--force",
    ])
    let refused = try AnchorsCommandTests.verify([short]).run
    #expect(refused.status == 65 && refused.errors.contains("has 9 rows, the anchors are 60"), "\(refused.errors)")
  }

  @Test("options that mean nothing are refused, and so are other files")
  func optionsThatMeanNothingAreRefused() throws {
    let anchors = try AnchorsCommandTests.made.get().path + "/i.anchors"
    let model = try #require(Repository.model)
    let cases: [([String], Int32, String)] = [
      (["verify", "--anchors", anchors], 64, "needs a CANDIDATE, or --endpoint"),
      (["verify", "--anchors", anchors, model, "--data", "x"], 64, "--data does not go with --anchors"),
      (["verify", "--anchors", anchors, model, "--rate", "1"], 64, "--rate goes with --endpoint"),
      (
        ["verify", model, "--reference", model, "--data", "x", "--endpoint", "http://x"], 64,
        "--endpoint goes with --anchors"
      ),
      (["verify", model], 64, "--reference"),
      (["verify", "--anchors", anchors, "--endpoint", "ftp://x"], 64, "takes a URL"),
      (["verify", "--anchors", anchors, "--endpoint", "http://me:secret@x/embed"], 64, "takes no user and password"),
      (["verify", "--anchors", anchors, "--endpoint", "http://x/what"], 64, "--api"),
      (["verify", "--anchors", anchors, "--endpoint", "http://x"], 64, "--endpoint-model"),
      (["verify", "--anchors", model + "/model.safetensors", model], 65, "not an anchors file"),
      (["verify", "--anchors", model + "/config.json", model], 65, "config.json"),
      (["anchors", "--data", "x", "-o", "/tmp/never.anchors"], 64, "needs a model REF"),
    ]
    for (arguments, status, words) in cases {
      let run = try ProgramRun(arguments)
      #expect(run.status == status && run.errors.contains(words), "\(arguments): \(run.status) \(run.errors)")
      #expect(!run.errors.contains("secret"))
    }
  }

  // MARK: Servers

  /// A server that has the reference's vectors of the anchors by heart, in a mode of Tests/anchor_server.py.
  final class Server {
    let process = Process()
    let port: Int

    init(_ mode: String) throws {
      let directory = try AnchorsCommandTests.made.get()
      process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
      process.arguments = [
        "python3", Repository.root + "/Tests/anchor_server.py", directory.path + "/i.anchors", mode,
      ]
      let output = Pipe()
      process.standardOutput = output
      try process.run()
      let line = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
      port = try #require(Int(line.split(separator: "\n").first ?? ""), "the server did not start: \(line)")
    }

    // The tests block the signals that end a process otherwise, and what they start inherits that.
    deinit {
      kill(process.processIdentifier, SIGKILL)
    }
  }

  @Test(
    "servers of every kind are asked as they want it",
    arguments: [
      ("openai", "/v1/embeddings", ["--endpoint-model", "m"]),
      ("openai", "/v1/embeddings", ["--endpoint-model", "m", "--base64"]), ("tei", "/embed", []),
      ("ollama", "/api/embed", ["--endpoint-model", "m"]), ("llama", "/embedding", []),
      // Once too busy, then well; answers in any order, each with its place; a token asked for.
      ("busy", "/v1/embeddings", ["--endpoint-model", "m"]), ("shuffled", "/v1/embeddings", ["--endpoint-model", "m"]),
      ("token", "/v1/embeddings", ["--endpoint-model", "m"]),
    ])
  func serversOfEveryKindAreAsked(_ mode: String, _ path: String, _ options: [String]) throws {
    let server = try Server(mode)
    let (run, causes) = try AnchorsCommandTests.verify(
      ["--endpoint", "http://127.0.0.1:\(server.port)\(path)"] + options, environment: ["LLVCONV_TOKEN": "s3cret\"\\"])
    #expect(run.status == 0 && causes.isEmpty, "\(run.output.prefix(300)) \(run.errors)")
    #expect(!run.output.contains("s3cret") && !run.errors.contains("s3cret"))
    withExtendedLifetime(server) {}
  }

  @Test(
    "servers that are not well fail, or are refused in a line",
    arguments: [
      ("nan", 1, "not-finite", ""), ("columns", 1, "columns-cut", ""), ("batch", 1, "depends-on-batch", ""),
      ("count", 65, "", "index 16 is out of range"), ("error", 74, "", "answered 400: no such model"),
      ("garbage", 65, "", "answer byte"), ("widths", 65, "", "columns"),
    ])
  func serversThatAreNotWellFail(_ mode: String, _ status: Int, _ cause: String, _ words: String) throws {
    let server = try Server(mode)
    let (run, causes) = try AnchorsCommandTests.verify(
      ["--endpoint", "http://127.0.0.1:\(server.port)/v1/embeddings", "--endpoint-model", "m"])
    #expect(Int(run.status) == status, "\(run.output.prefix(300)) \(run.errors)")
    #expect(cause.isEmpty || causes.first == cause, "\(causes)")
    #expect(words.isEmpty || run.errors.contains(words), "\(run.errors)")
    withExtendedLifetime(server) {}
  }

  @Test("a server that is not there is asked again, and then said to be missing")
  func aServerThatIsNotThereIsSaidToBeMissing() throws {
    let (run, _) = try AnchorsCommandTests.verify(["--endpoint", "http://127.0.0.1:9/embed"])
    #expect(run.status == 74 && run.errors.contains("asked 4 times"), "\(run.errors)")
  }
}
