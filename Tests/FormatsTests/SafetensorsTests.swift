import Bytes
import Formats
import Foundation
import Tensors
import TestSupport
import Testing

@Suite(.serialized) struct SafetensorsTests {
  @Test("every case is judged as its row says", arguments: try Case.load("safetensors"))
  func everyCaseIsJudgedAsItsRowSays(_ row: Case) throws {
    #if DEBUG
      // A header of 77 MB takes minutes without optimisation.
      if row.id == "S70b" { return }
    #endif
    let directory = try TemporaryDirectory()
    let path = try directory.write("f.safetensors", try Case.bytes(try row.json.required("bytes")))
    let result = outcome { () throws(Failure) in
      let contents = try Safetensors.read(try InputFile(path))
      for tensor in contents.tensors.prefix(100) { _ = try tensor.load() }
      return contents.notes
    }
    #expect(row.complaint(result) == nil)
  }

  @Test("values, names and metadata are read")
  func valuesNamesAndMetadataAreRead() throws {
    let directory = try TemporaryDirectory()
    let path = try directory.write(
      "f", TinyBert.safetensors([("a", [2], [1, -2]), ("b.c", [1, 3], [0.5, .nan, .infinity])]))
    let contents = try Safetensors.read(try InputFile(path))
    #expect(contents.metadata.map(\.key) == ["format"])
    #expect(contents.tensors.map(\.name) == ["a", "b.c"])
    #expect(contents.tensors[1].shape == [1, 3])
    let values = try contents.tensors[1].floats().array(of: Float.self)
    #expect(values[0] == 0.5 && values[1].isNaN && values[2] == .infinity)
  }

  @Test("the same facts in another order give the same verdict")
  func theSameFactsInAnotherOrderGiveTheSameVerdict() throws {
    let entries = [
      #""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#,
      #""b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}"#,
      #""c":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}"#,
    ]
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [1, 0, 2]] {
      let header = "{" + order.map { entries[$0] }.joined(separator: ",") + "}"
      let contents = try read(header: header, data: 8).get()
      #expect(contents.tensors.map(\.name) == ["a", "c", "b"])
    }
  }

  @Test("truncated anywhere, a file is refused")
  func truncatedAnywhereAFileIsRefused() throws {
    let bytes = TinyBert.safetensors([("a", [3], [1, 2, 3])])
    let directory = try TemporaryDirectory()
    for count in 0..<bytes.count {
      let path = try directory.write("f", Array(bytes.prefix(count)))
      guard case .failure = outcome({ () throws(Failure) in try Safetensors.read(try InputFile(path)) }) else {
        Issue.record("accepted \(count) of \(bytes.count) bytes")
        continue
      }
    }
  }

  private func read(header: String, data: Int) throws -> Result<Safetensors.Contents, Failure> {
    let directory = try TemporaryDirectory()
    let parts = try JSON.parse(Array(#"[{"header":\#(JSONText.string(header).text())},{"zeros":\#(data)}]"#.utf8))
    let path = try directory.write("f", try Case.bytes(parts))
    return outcome { () throws(Failure) in try Safetensors.read(try InputFile(path)) }
  }
}

struct ShardIndexTests {
  @Test("every case is judged as its row says", arguments: try Case.load("shard-index"))
  func everyCaseIsJudgedAsItsRowSays(_ row: Case) throws {
    let directory = try TemporaryDirectory()
    for (name, parts) in try row.json.required("files").members() {
      try directory.write("d/" + String(decoding: name, as: UTF8.self), try Case.bytes(parts))
    }
    for (name, target) in try row.json.optional("links")?.members() ?? [] {
      let path = directory.path + "/d/" + String(decoding: name, as: UTF8.self)
      try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: try target.string())
    }
    for name in try row.json.optional("fifo")?.elements() ?? [] {
      mkfifo(directory.path + "/d/" + (try name.string()), 0o644)
    }
    let result = outcome { () throws(Failure) in try Checkpoint.open(directory.path + "/d").notes }
    #expect(row.complaint(result) == nil)
  }

  @Test("two shards give one checkpoint")
  func twoShardsGiveOneCheckpoint() throws {
    let directory = try TemporaryDirectory()
    try directory.write("s1.safetensors", TinyBert.safetensors([("a", [1], [1])]))
    try directory.write("s2.safetensors", TinyBert.safetensors([("b", [1], [2]), ("c", [1], [3])]))
    try directory.write(
      "model.safetensors.index.json",
      #"{"metadata":{"total_size":12},"weight_map":{"a":"s1.safetensors","b":"s2.safetensors","c":"s2.safetensors"}}"#)
    let checkpoint = try Checkpoint.open(directory.path)
    #expect(checkpoint.tensors.map(\.name) == ["a", "b", "c"])
    #expect(try checkpoint.tensors[2].floats().array(of: Float.self) == [3])
    #expect(checkpoint.notes.isEmpty)
  }
}
