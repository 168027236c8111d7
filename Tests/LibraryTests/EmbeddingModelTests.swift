import Foundation
import LLVConv
import TestSupport
import Testing

/// The library as its users have it: public names alone.
struct EmbeddingModelTests {
  /// A tiny checkpoint's container, made by the library.
  static func container() throws -> (directory: TemporaryDirectory, path: String) {
    let directory = try TemporaryDirectory()
    let output = directory.path + "/m.llv"
    let written = try Conversion.importModel(try TinyBert().write(to: directory), to: output)
    #expect(written.path == output && written.bytes > 0)
    return (directory, output)
  }

  /// One for all tests that read it alone.
  private static let shared = try? container()

  static func path() throws -> String { try #require(shared).path }

  @Test("vectors are those of the program, bit for bit")
  func vectorsAreThoseOfTheProgram() throws {
    let (directory, path) = try EmbeddingModelTests.container()
    let texts = (0..<700).map { ["hello", "world the", "quick brown fox", "é 中 ."][$0 % 4] + " a\($0 % 7)" }
    let lines = try directory.write("x.jsonl", texts.map { "\"\($0)\"\n" }.joined())
    let run = try ProgramRun(["embed", path, "--input", lines, "--output", directory.path + "/x.npy"])
    #expect(run.status == 0, "\(run.errors)")
    let model = try EmbeddingModel(path)
    let vectors = try model.embed(texts)
    let bytes = try Repository.read(directory.path + "/x.npy").dropFirst(128)
    #expect(vectors.flatMap { $0 }.withUnsafeBytes { Array($0) } == Array(bytes))
    #expect(try model.embed(texts[5]) == vectors[5])
    #expect(model.dimensions == 32 && model.architecture == "bert" && model.takesText && !model.takesPictures)
  }

  @Test("a picture is the same from a file, from its bytes and from pixels; a bad item is one result")
  func aPictureIsTheSameFromAFileFromItsBytesAndFromPixels() throws {
    let model = try EmbeddingModel(TinyLlave.folder + "model")
    let path = TinyLlave.folder + "square.png"
    let bytes = try Repository.read(path)
    let results = try model.embed([
      Item(images: [path]), Item(pictures: [.encoded(bytes)]), Item(pictures: [.decoded(try Picture(encoded: bytes))]),
      Item(text: "<image> and <image>", images: [path], pictures: [.encoded(bytes)]),
      Item(text: "no marker", pictures: [.encoded(bytes)]), Item(pictures: [.encoded([1, 2, 3])]),
    ])
    let vectors = try results.prefix(4).map { try $0.get() }
    #expect(vectors[0] == vectors[1] && vectors[1] == vectors[2] && vectors[3] != vectors[0])
    for result in results.suffix(2) {
      #expect(throws: Failure.self) { try result.get() }
    }
    #expect(throws: Failure.self) { try Picture(rgb: [1, 2, 3], width: 1, height: 2) }
  }

  @Test("options have the program's names, and a misspelt one is named")
  func optionsHaveTheProgramsNames() throws {
    let path = try EmbeddingModelTests.path()
    #expect(try EmbeddingModel(path, options: ["threads": 1, "max_tokens": 5]).maximumTokens == 5)
    let failure = try #require(throws: Failure.self) { try EmbeddingModel(path, options: ["thread": 1]) }
    #expect(failure.kind == .usage && failure.description.contains("did you mean threads?"))
    for (command, names) in [
      ("import", Conversion.importOptions), ("quantize", Conversion.quantizeOptions),
      ("verify", Conversion.verifyOptions + Conversion.endpointOptions), ("anchors", Conversion.anchorsOptions),
      ("embed", EmbeddingModel.optionNames),
    ] {
      let help = try ProgramRun(["help", command]).output
      let listed = help.split(separator: "\n").filter { $0.hasPrefix("  --") }.map { line in
        String(line.dropFirst(4).prefix { $0 != " " })
      }
      #expect(Set(names).isSubset(of: listed), "\(command)")
      // What the program alone can do: print, and name files that calls name by position.
      let printed: Set = ["json", "quiet", "dry-run", "report", "reference", "data", "anchors", "items"]
      let own = command == "verify" ? printed.union(["force"]) : printed
      if command != "embed" { #expect(Set(listed).subtracting(own) == Set(names), "\(command)") }
    }
  }

  @Test("import, quantize and verify work one after the other, and say how far they are")
  func importQuantizeAndVerifyWork() throws {
    let (directory, path) = try EmbeddingModelTests.container()
    let heard = Heard()
    let small = try Conversion.quantize(
      path, to: directory.path + "/q.llv", options: ["bits": 8, "tensor": ["*.dense.weight=keep"]],
      listener: heard.listener)
    #expect(small.bytes > 0 && heard.shares.contains { $0 > 0 })
    let words = ["hello", "world", "the", "quick", "brown", "fox"]
    let pairs = try directory.write(
      "pairs.jsonl",
      words.map { "{\"query\":\"\($0)\",\"positive\":\"\($0) .\",\"negatives\":[\"a é\"]}\n" }.joined())
    let result = try Conversion.verify([small.path], reference: path, data: pairs, listener: heard.listener)
    #expect(result.verdict == .inconclusive && result.json.contains("\"verdict\"") && result.page.contains("<html"))
    let again = try #require(throws: Failure.self) {
      try Conversion.quantize(path, to: small.path, options: ["bits": 8])
    }
    #expect(again.kind == .cannotCreate)
  }

  final class Heard: @unchecked Sendable {
    private let lock = NSLock()
    private var all: [Double] = []
    var shares: [Double] { lock.withLock { all } }
    var listener: Listener { Listener(progress: { _, share in self.lock.withLock { self.all.append(share) } }) }
  }
}
