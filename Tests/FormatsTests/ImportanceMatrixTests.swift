import Bytes
import Formats
import Tensors
import TestSupport
import Testing

/// llama.cpp's importance matrices, read and written.
struct ImportanceMatrixTests {
  /// What llama-imatrix (llama.cpp of llama-cpp-python 0.3.36) wrote of Tools/demo-model as GGUF, on captions.
  static let golden = Repository.root + "/Tests/Goldens/gguf/demo-imatrix.gguf"

  static func demo() throws -> Model {
    var notes: [String] = []
    return try Import.model(try Checkpoint.open(Repository.root + "/Tools/demo-model/model"), notes: &notes)
  }

  @Test("what llama.cpp wrote is read, and belongs to every linear weight of the text model, by its own name")
  func whatLlamaCppWroteIsRead() throws {
    let matrix = try ImportanceMatrix(ImportanceMatrixTests.golden)
    #expect(matrix.entries.count == 21 && matrix.datasets == ["captions.txt"])
    #expect(matrix.chunks == 9 && matrix.chunkSize == 128)
    let entry = try #require(matrix.entries["blk.0.attn_k.weight"])
    #expect(entry.count == 1_152 && entry.squares.count == 192)
    #expect(abs(entry.squares[0] * 1_152 - 845.4418) < 1e-3)
    let model = try ImportanceMatrixTests.demo()
    let squares = try matrix.meanSquares(of: model)
    #expect(squares.count == 21 && squares["model.layers.0.self_attn.k_proj.weight"] == entry.squares)
    for (name, values) in squares { #expect(model[name]?.columns == values.count, "\(name.text)") }
  }

  @Test("what is written reads back, and its bytes do not depend on the number of threads")
  func whatIsWrittenReadsBack() throws {
    let (golden, model) = (try ImportanceMatrix(ImportanceMatrixTests.golden), try ImportanceMatrixTests.demo())
    let made = try ImportanceMatrix(
      golden.meanSquares(of: model), of: model, tokens: 1_152, chunks: 9, dataset: "captions.txt")
    let directory = try TemporaryDirectory()
    var files: [[UInt8]] = []
    for threads in [1, 3] {
      let output = try OutputFile(directory.path + "/\(threads).gguf", isReplacing: false)
      try made.write(output, threads: threads)
      try output.commit()
      files.append(try Repository.read(directory.path + "/\(threads).gguf"))
    }
    #expect(files[0] == files[1])
    let again = try ImportanceMatrix(directory.path + "/1.gguf")
    #expect(again.datasets == golden.datasets && again.chunks == 9 && again.chunkSize == 128)
    #expect(Set(again.entries.keys) == Set(golden.entries.keys))
    for (name, entry) in golden.entries {
      let own = try #require(again.entries[name])
      #expect(own.count == entry.count)
      // A mean becomes a sum and a mean again: three roundings.
      #expect(zip(own.squares, entry.squares).allSatisfy { abs($0 - $1) <= $1 * 0x1p-22 }, "\(name.text)")
    }
  }

  @Test("a matrix of another model is refused, and so is a model that ggml does not know")
  func aMatrixOfAnotherModelIsRefused() throws {
    var model = try ImportanceMatrixTests.demo()
    let name: TensorName = "model.layers.0.self_attn.k_proj.weight"
    let matrix = try ImportanceMatrix(ImportanceMatrixTests.golden)
    model.set(try Tensor(name, floats: [Float](repeating: 1, count: 64 * 96), shape: [64, 96]))
    let other = outcome { () throws(Failure) in try matrix.meanSquares(of: model) }
    guard case .failure(let failure) = other else { throw Failure(.internal, "accepted") }
    #expect(failure.kind == .usage && failure.description.contains("another model: 192 columns"), "\(failure)")
    let directory = try TemporaryDirectory()
    var notes: [String] = []
    let bert = try Import.model(try Checkpoint.open(try TinyBert().write(to: directory)), notes: &notes)
    #expect(throws: Failure.self) {
      try ImportanceMatrix([name: [1]], of: bert, tokens: 1, chunks: 1, dataset: "x")
    }
  }

  /// Kind, sums and counts of one weight, and the words that a refusal must hold; nil for what is accepted.
  struct Row: Sendable {
    var kind = "imatrix"
    var sums: (name: String, type: UInt32, dimensions: [Int], values: [Float]) = ("a.in_sum2", 0, [2], [1, 2])
    var counts: (name: String, type: UInt32, dimensions: [Int], values: [Float]) = ("a.counts", 0, [1], [4])
    var words: String?
  }

  static let rows: [Row] = [
    Row(), Row(sums: ("a.in_sum2", 0, [2, 1], [1, 2]), counts: ("a.counts", 0, [1, 1], [4])),
    Row(kind: "model", words: "another kind"), Row(kind: "", words: "another kind"),
    Row(sums: ("a.in_sum", 0, [2], [1, 2]), words: "\"a.counts\": has no sums"),
    Row(counts: ("b.counts", 0, [1], [4]), words: "\"a.in_sum2\": has no counts"),
    Row(sums: ("a.in_sum2", 0, [2], [1, -2]), words: "-2.0 at [1]"),
    Row(sums: ("a.in_sum2", 0, [2], [.nan, 2]), words: "nan at [0]"),
    Row(sums: ("a.in_sum2", 0, [2], [1, .infinity]), words: "inf at [1]"),
    Row(sums: ("a.in_sum2", 1, [2], [1]), words: "F32 expected"),
    Row(counts: ("a.counts", 26, [1], [4]), words: "F32 expected"),
    Row(sums: ("a.in_sum2", 0, [1, 2], [1, 2]), words: "2 matrices"),
    Row(counts: ("a.counts", 0, [2], [4, 4]), words: "2 matrices"),
    Row(sums: ("a.in_sum2", 0, [0], []), words: "is empty"),
    Row(counts: ("a.counts", 0, [1], [-1]), words: "counts -1.0"),
    Row(counts: ("a.counts", 0, [1], [.nan]), words: "counts nan"),
    Row(counts: ("a.counts", 0, [1], [0]), words: "nothing was measured"),
  ]

  @Test("a damaged matrix is refused in one line, beside accepted neighbours", arguments: rows.indices)
  func aDamagedMatrixIsRefused(_ index: Int) throws {
    let row = ImportanceMatrixTests.rows[index]
    var file = GGUFBytes()
    if !row.kind.isEmpty { file.add("general.type", string: Array(row.kind.utf8)) }
    for tensor in [row.sums, row.counts] {
      let bytes = tensor.values.flatMap { GGUFBytes.le($0.bitPattern) }
      file.add(tensor: tensor.name, type: tensor.type, dimensions: tensor.dimensions, bytes)
    }
    let directory = try TemporaryDirectory()
    let path = try directory.write("x.gguf", file.bytes)
    switch (outcome { () throws(Failure) in try ImportanceMatrix(path) }, row.words) {
    case (.success(let matrix), nil): #expect(matrix.entries["a"]?.squares == [0.25, 0.5])
    case (.success, .some): Issue.record("row \(index) is accepted")
    case (.failure(let failure), let words):
      #expect(words.map(failure.description.contains) ?? false, "row \(index): \(failure)")
    }
  }

  @Test("cut anywhere, a matrix is refused")
  func cutAnywhereAMatrixIsRefused() throws {
    let directory = try TemporaryDirectory()
    let bytes = try Repository.read(ImportanceMatrixTests.golden)
    for count in stride(from: 0, to: bytes.count - 32, by: 311) {
      let path = try directory.write("x.gguf", Array(bytes[..<count]))
      guard case .failure = outcome({ () throws(Failure) in try ImportanceMatrix(path) }) else {
        Issue.record("\(count) bytes are accepted")
        return
      }
    }
  }
}
