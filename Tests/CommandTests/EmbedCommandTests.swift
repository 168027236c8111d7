import Bytes
import Foundation
import Glibc
import TestSupport
import Testing

/// `embed` as a part of a pipe.
struct EmbedCommandTests {
  /// A program at work, written to and read from line by line.
  final class Session {
    private let process = Process()
    private let (input, output) = (Pipe(), Pipe())
    private var pending: [UInt8] = []

    init(_ arguments: [String]) throws {
      process.executableURL = URL(fileURLWithPath: Repository.program)
      process.arguments = arguments
      (process.standardInput, process.standardOutput) = (input, output)
      process.standardError = FileHandle.nullDevice
      try process.run()
    }

    func write(_ text: String) { input.fileHandleForWriting.write(Data(text.utf8)) }

    /// The next line; nil at the end, and when a minute brings none: whoever waits for an answer would hang.
    func line() -> String? {
      let descriptor = output.fileHandleForReading.fileDescriptor
      while true {
        if let end = pending.firstIndex(of: UInt8(ascii: "\n")) {
          defer { pending.removeFirst(end + 1) }
          return String(decoding: pending[..<end], as: UTF8.self)
        }
        var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&waiting, 1, 60_000) == 1 else { return nil }
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        let got = read(descriptor, &chunk, chunk.count)
        guard got > 0 else { return nil }
        pending += chunk[..<got]
      }
    }

    func finish() -> Int32 {
      try? input.fileHandleForWriting.close()
      process.waitUntilExit()
      return process.terminationStatus
    }
  }

  @Test("a client that waits for each answer gets it, and many lines at once are answered in order")
  func aClientThatWaitsForEachAnswerGetsIt() throws {
    let directory = try CommandTests.imported()
    let session = try Session(["embed", directory.path + "/m.llv"])
    for index in 0..<20 {
      session.write("{\"id\":\(index),\"text\":\"hello fox\"}\n")
      let answer = try #require(session.line(), "no answer to line \(index)")
      #expect(try JSON.parse(Array(answer.utf8)).required("id").string() == String(index))
    }
    session.write((20..<600).map { "{\"id\":\($0),\"text\":\"the world\"}\n" }.joined() + "{\"id\":600,\"te")
    for index in 20..<600 {
      let answer = try #require(session.line(), "no answer to line \(index)")
      #expect(answer.hasPrefix("{\"id\":\"\(index)\",\"embedding\""))
    }
    session.write("xt\":\"a\"}\nnot json\n\"fox\"")
    #expect(session.line()?.hasPrefix("{\"id\":\"600\",\"embedding\"") == true)
    #expect(session.line()?.contains("\"error\"") == true)
    // Not a line until it ends, or the input does.
    #expect(session.finish() == 65)
    #expect(session.line()?.contains("\"embedding\"") == true && session.line() == nil)
  }

  @Test("an embedding does not depend on its batch, bit for bit")
  func anEmbeddingDoesNotDependOnItsBatch() throws {
    let directory = try CommandTests.imported()
    let words = ["hello", "world", "the", "quick", "brown", "fox"]
    let lines = (0..<300).map { (index: Int) -> String in
      let text: [String] = (0...index % 17).map { words[(index + $0 * $0) % 6] }
      return "\"\(text.joined(separator: " "))\"\n"
    }
    let items = try directory.write("x.jsonl", lines.joined())
    var outputs: [[UInt8]] = []
    let batches: [[String]] = [[], ["--batch", "1"], ["--batch", "7"], ["--batch", "100000"]]
    for batch in batches {
      let path = directory.path + "/y\(outputs.count).npy"
      let run = try ProgramRun(["embed", directory.path + "/m.llv", "--input", items, "--output", path] + batch)
      #expect(run.status == 0, "\(run.errors)")
      outputs.append(try Repository.read(path))
    }
    #expect(outputs.allSatisfy { $0 == outputs[0] && $0.count == 128 + 300 * 32 * 4 })
  }

  @Test("keys of metadata are noted once, and pairs are no items")
  func keysOfMetadataAreNotedOnce() throws {
    let directory = try CommandTests.imported()
    let input = (0..<5).map { #"{"id":\#($0),"text":"fox","title":"t","url":"u"}"# }.joined(separator: "\n")
    let run = try ProgramRun(["embed", directory.path + "/m.llv"], input: input)
    #expect(run.status == 0 && run.output.split(separator: "\n").count == 5)
    let note = "note: standard input: 5 lines have keys that are not read: title (5), url (5); --strict refuses them\n"
    #expect(run.errors == note)
    let strict = try ProgramRun(["embed", directory.path + "/m.llv", "--strict"], input: input)
    #expect(strict.status == 65 && strict.errors.contains("5 of 5 items were bad"))
    let pair = try ProgramRun(["embed", directory.path + "/m.llv"], input: #"{"query":"a","positive":"b"}"#)
    #expect(pair.status == 65 && pair.output.contains("a line of pairs"), "\(pair.output)")
    #expect(try ProgramRun(["embed", directory.path + "/m.llv", "--keep-going", "--fail-on-error"]).status == 64)
  }

  @Test("all shards together have each line once, and the whole's vectors")
  func allShardsHaveEachLineOnce() throws {
    let directory = try CommandTests.imported()
    let lines = (0..<50).map { "{\"id\":\"\($0)\",\"text\":\"hello fox \($0 % 5)\"}\n" + ($0 % 9 == 0 ? "\n" : "") }
    let items = try directory.write("x.jsonl", lines.joined() + "bad\n")
    func rows(_ options: [String]) throws -> [String] {
      let run = try ProgramRun(["embed", directory.path + "/m.llv", "--input", items, "--keep-going"] + options)
      #expect(run.status == 0, "\(run.errors)")
      return run.output.split(separator: "\n").map(String.init)
    }
    let whole = try rows([])
    let shards = try (0..<3).map { try rows(["--shard", "\($0)/3", "--batch", "4"]) }
    #expect(whole.count == 51 && shards.allSatisfy { !$0.isEmpty } && shards.flatMap { $0 }.sorted() == whole.sorted())
    for text in ["3/3", "-1/3", "1", "1/0", "a/b", "0/3/1"] {
      let run = try ProgramRun(["embed", directory.path + "/m.llv", "--input", items, "--shard", text])
      #expect(run.status == 64 && run.errors.contains("0/8"), "\(text): \(run.errors)")
    }
  }
}
