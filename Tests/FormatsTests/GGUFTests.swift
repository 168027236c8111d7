import Bytes
import Formats
import Foundation
import Tensors
import TestSupport
import Testing

@Suite struct GGUFTests {
  @Test("every case is judged as its row says", arguments: try Case.load("gguf"))
  func everyCaseIsJudgedAsItsRowSays(_ row: Case) throws {
    let directory = try TemporaryDirectory()
    let path = try directory.write("f.gguf", try Case.bytes(try row.json.required("bytes")))
    let result = outcome { () throws(Failure) in
      let file = try GGUF.read(path)
      for tensor in file.tensors { _ = try tensor.floats() }
      return file.notes
    }
    #expect(row.complaint(result) == nil)
  }

  @Test("blocks of every type are what gguf-py makes of them, in both byte orders", arguments: ["", "-big"])
  func blocksOfEveryTypeAreWhatGGUFPyMakesOfThem(_ order: String) throws {
    let folder = Repository.root + "/Tests/Goldens/gguf/"
    let file = try GGUF.read(folder + "blocks\(order).gguf")
    let expected = try Safetensors.read(try InputFile(folder + "blocks.safetensors"))
    #expect(file.tensors.count == 15 && expected.tensors.count == 15)
    for tensor in file.tensors {
      let other = try #require(expected.tensors.first { $0.name == tensor.name })
      #expect(tensor.shape == other.shape)
      let (a, b) = (try tensor.floats().array(of: UInt32.self), try other.floats().array(of: UInt32.self))
      #expect(a == b, "\(tensor.name.text)")
    }
  }

  @Test("a hundred thousand keys and a million tokens take time in proportion")
  func aHundredThousandKeysTakeTimeInProportion() throws {
    let directory = try TemporaryDirectory()
    func seconds(keys: Int, tokens: Int) throws -> Double {
      var file = GGUFBytes()
      for index in 0..<keys { file.add("key.\(index)", 4, GGUFBytes.le(UInt32(index))) }
      if tokens > 0 { file.add("tokens", strings: (0..<tokens).map { Array("token\($0)".utf8) }) }
      let path = try directory.write("f.gguf", file.bytes)
      let start = ContinuousClock.now
      let read = try GGUF.read(path)
      #expect(read.keys.values.count == keys + (tokens > 0 ? 1 : 0))
      return (ContinuousClock.now - start) / .seconds(1)
    }
    // Ten times the keys in at most forty times the time: quadratic work would take a hundred.
    _ = try seconds(keys: 10_000, tokens: 0)
    #expect(try seconds(keys: 250_000, tokens: 0) < 40 * max(seconds(keys: 25_000, tokens: 0), 0.005))
    #expect(try seconds(keys: 0, tokens: 1_000_000) < 40 * max(seconds(keys: 0, tokens: 100_000), 0.005))
  }
}
