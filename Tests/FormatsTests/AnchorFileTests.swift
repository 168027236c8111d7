import Bytes
import Formats
import TestSupport
import Testing

/// Formats/anchors/spec.md.
struct AnchorFileTests {
  static func anchors() throws -> AnchorFile {
    var file = AnchorFile()
    (file.madeBy, file.data, file.queries, file.documents, file.width) = ("test", "d.jsonl", 5, 7, 3)
    file.model = ["name": "m", "prompts": ["query": "query: "]]
    file.thresholds = [("min-cosine", 0.9)]
    file.items = [
      .init(
        id: "q", role: .sample, text: "a \"text\"\n", instruction: "i", pictures: [0], sent: "ia", positive: 1,
        negatives: [0]),
      .init(
        id: "d", role: .document, text: nil, instruction: nil, pictures: [0], sent: nil, positive: nil, negatives: []),
    ]
    file.vectors = [1, 0, 0, 0, 0.5, -0.25]
    file.index = [0, 1, 0, 1, 0, 0]
    file.indexNames = [.init(id: "0", text: "none"), .init(id: "1", text: "one")]
    file.pictures = [ByteView(try Buffer([1, 2, 3]))]
    file.faultRows = [1]
    file.faults = [.init(name: "cut-3", words: "cut", vectors: [0, 0, 1])]
    return file
  }

  static func written(_ file: AnchorFile) throws -> (directory: TemporaryDirectory, path: String) {
    let directory = try TemporaryDirectory()
    let output = try OutputFile(directory.path + "/i.anchors", isReplacing: false)
    try file.write(to: output)
    try output.commit()
    return (directory, output.path)
  }

  @Test("what is written is read")
  func whatIsWrittenIsRead() throws {
    let file = try AnchorFileTests.anchors()
    let (directory, path) = try AnchorFileTests.written(file)
    let read = try AnchorFile(path)
    #expect(read.items == file.items && read.indexNames == file.indexNames && read.faults == file.faults)
    #expect(read.vectors == file.vectors && read.index == file.index && read.width == 3 && read.model == file.model)
    #expect(read.thresholds.map(\.name) == ["min-cosine"] && read.faultRows == [1] && read.queries == 5)
    #expect(try read.pictures[0].bytes() == [1, 2, 3])
    withExtendedLifetime(directory) {}
  }

  @Test("what does not fit together is refused by name")
  func whatDoesNotFitTogetherIsRefusedByName() throws {
    func refused(_ words: String, _ change: (inout AnchorFile) -> Void) throws {
      var file = try AnchorFileTests.anchors()
      change(&file)
      let (directory, path) = try AnchorFileTests.written(file)
      let failure = #expect(throws: Failure.self) { try AnchorFile(path) }
      #expect(
        failure?.kind == .malformed && failure?.description.contains(words) == true, "\(failure?.description ?? "")")
      withExtendedLifetime(directory) {}
    }
    try refused("tensor index: has shape [2, 3], expected [1, 3]") { $0.indexNames.removeLast() }
    try refused("not finite") { $0.vectors[1] = .infinity }
    try refused("fault_rows") { $0.faultRows = [2] }
    try refused("anchor 0: names a row") { $0.items[0].positive = 2 }
    try refused("anchor 0: names a row") { $0.items[0].pictures = [1] }
    try refused("needs a text or a picture") { $0.items[1].pictures = [] }
    try refused("neither cosine nor ip") { $0.metric = "l2" }
    try refused("fault.0: has shape") { $0.faultRows = [0, 1] }
  }

  @Test("other safetensors files, later versions and cut files are refused")
  func otherFilesAreRefused() throws {
    let directory = try TemporaryDirectory()
    let (other, path) = try AnchorFileTests.written(try AnchorFileTests.anchors())
    let bytes = try Repository.read(path)
    let later = String(decoding: bytes.prefix(2_000), as: UTF8.self).contains("\"version\":\"1\"")
    #expect(later)
    func changed(_ from: String, _ to: String) -> [UInt8] {
      var result = bytes
      let (old, new) = (Array(from.utf8), Array(to.utf8))
      for place in 0..<(result.count - old.count) where Array(result[place..<place + old.count]) == old {
        result.replaceSubrange(place..<place + old.count, with: new)
        break
      }
      return result
    }
    let cases: [([UInt8], String)] = [
      (changed("\"version\":\"1\"", "\"version\":\"2\""), "version \"2\""),
      (changed("llvconv anchors", "llvconv anchorz"), "not an anchors file"),
      (Array(bytes.dropLast()), "missing at the end"),
    ]
    for (bytes, words) in cases {
      let failure = #expect(throws: Failure.self) { try AnchorFile(try directory.write("x.anchors", bytes)) }
      #expect(failure?.description.contains(words) == true, "\(failure?.description ?? "")")
    }
    withExtendedLifetime(other) {}
  }
}
