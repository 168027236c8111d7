import Bytes
import Formats
import Foundation
import Tensors
import TestSupport
import Testing

struct ContainerTests {
  /// A model with every kind of section: plain of several types, compressible, grouped integers, empty, scalar, a file.
  static func model() throws -> Model {
    var model = try ImportTests.model(TinyBert()).get().0
    model.set(try Tensor("zeros", floats: [Float](repeating: 0, count: 5_000), shape: [50, 100]))
    model.set(Tensor("empty", shape: [3, 0], encoding: .plain(.BF16), content: .bytes(ByteView(try Buffer([])))))
    model.set(
      Tensor(
        "scalar", shape: [], encoding: .plain(.I64), content: .bytes(ByteView(try Buffer([1, 2, 3, 4, 5, 6, 7, 8])))))
    let integers = try #require(GroupedInteger(bits: 4, groupSize: 6, isAffine: true))
    let layout = try #require(integers.layout([3, 15]))
    let bytes = (0..<layout.byteCount).map { UInt8($0 % 251) }
    model.set(
      Tensor("grouped", shape: [3, 15], encoding: .grouped(integers), content: .bytes(ByteView(try Buffer(bytes)))))
    model.history = [["step": "import", "sources": []]]
    return model
  }

  static func write(_ model: Model, _ path: String, threads: Int = 2) throws {
    let writer = try ContainerWriter(try OutputFile(path, isReplacing: true), threads: threads)
    try writer.writeData(model)
    try writer.finish(model, program: "test")
    try writer.commit()
  }

  static func assertEqual(_ a: Model, _ b: Model) throws {
    #expect(a.configuration == b.configuration)
    #expect(a.tensors.map(\.name) == b.tensors.map(\.name))
    for (x, y) in zip(a.tensors, b.tensors) {
      #expect(x.shape == y.shape && x.encoding == y.encoding)
      #expect(try x.load().array(of: UInt8.self) == y.load().array(of: UInt8.self), "\(x.name.quoted)")
    }
    #expect(a.graphs.map(\.name) == b.graphs.map(\.name) && a.graphs.map(\.graph) == b.graphs.map(\.graph))
    #expect(a.history == b.history)
    for file in a.files { #expect(try a.file(file.name) == b.file(file.name)) }
  }

  @Test("what is written reads back equal, and compressible tensors are compressed")
  func whatIsWrittenReadsBackEqualAndCompressibleTensorsAreCompressed() throws {
    let directory = try TemporaryDirectory()
    let model = try ContainerTests.model()
    try ContainerTests.write(model, directory.path + "/m.llv")
    let read = try Container.open(directory.path + "/m.llv")
    try ContainerTests.assertEqual(model, read.model)
    guard case .stored(let zeros)? = read.model["zeros"]?.content,
      case .stored(let table)? = read.model["embeddings.word_embeddings.weight"]?.content
    else {
      Issue.record("tensors are not stored bytes")
      return
    }
    #expect(zeros.codec != .raw && zeros.stored.count < 1_000)
    #expect(table.codec == .raw, "random weights do not compress")
  }

  @Test("the bytes do not depend on the number of threads")
  func theBytesDoNotDependOnTheNumberOfThreads() throws {
    let directory = try TemporaryDirectory()
    for threads in [1, 2, 7] {
      try ContainerTests.write(try ContainerTests.model(), directory.path + "/\(threads)", threads: threads)
    }
    #expect(try Repository.read(directory.path + "/1") == Repository.read(directory.path + "/2"))
    #expect(try Repository.read(directory.path + "/1") == Repository.read(directory.path + "/7"))
  }

  @Test(
    arguments: (try? FileManager.default.contentsOfDirectory(atPath: Repository.root + "/Formats/llv/golden").filter {
      $0.hasSuffix(".llv")
    }.sorted()) ?? [])
  func `every container ever written opens, and its tensors are as they were`(_ name: String) throws {
    let path = Repository.root + "/Formats/llv/golden/" + name
    let contents = try Container.open(path)
    let expected = try Repository.json("Formats/llv/golden/" + name + ".json")
    for (key, value) in try expected.required("tensors").members() {
      let tensor = try #require(contents.model[TensorName(key)])
      #expect(
        XXH64.text(XXH64.hash(try tensor.load().array(of: UInt8.self))) == (try value.string()), "\(tensor.name.quoted)"
      )
    }
    #expect(try expected.required("tensors").members().count == contents.model.tensors.count)
    #expect(contents.model.graph("text")?.nodes.count == (try expected.required("nodes").integer(in: 0...1_000)))
  }

  // MARK: Damage

  /// Opens and loads everything.
  static func readAll(_ path: String) -> Result<Model, Failure> {
    outcome { () throws(Failure) in
      let model = try Container.open(path).model
      for tensor in model.tensors { _ = try tensor.load() }
      for file in model.files { _ = try model.file(file.name) }
      return model
    }
  }

  static func small() throws -> [UInt8] {
    let directory = try TemporaryDirectory()
    var model = Model(configuration: Configuration(architecture: "test", width: 2, vocabulary: 2, maximumTokens: 3))
    model.set(try Tensor("a", floats: [1, 2, 3], shape: [3]))
    model.set(try Tensor("z", floats: [Float](repeating: 0, count: 200), shape: [2, 100]))
    model.files = [("f.txt", .bytes(ByteView(try Buffer(Array("hello".utf8)))), 5)]
    try ContainerTests.write(model, directory.path + "/m")
    return try Repository.read(directory.path + "/m")
  }

  @Test("truncated at any length, a container is refused")
  func truncatedAtAnyLengthAContainerIsRefused() throws {
    let bytes = try ContainerTests.small()
    let directory = try TemporaryDirectory()
    for count in 0..<bytes.count {
      let path = try directory.write("m", Array(bytes.prefix(count)))
      if case .success = ContainerTests.readAll(path) { Issue.record("accepted \(count) of \(bytes.count) bytes") }
    }
    let path = try directory.write("m", bytes + [0])
    if case .success = ContainerTests.readAll(path) { Issue.record("accepted a byte more") }
  }

  @Test("with any bit flipped, a container is refused or holds the same")
  func withAnyBitFlippedAContainerIsRefusedOrHoldsTheSame() throws {
    let bytes = try ContainerTests.small()
    let directory = try TemporaryDirectory()
    let original = try ContainerTests.readAll(try directory.write("m", bytes)).get()
    var free = 0
    for bit in 0..<bytes.count * 8 {
      var changed = bytes
      changed[bit / 8] ^= UInt8(1 << (bit % 8))
      if case .success(let model) = ContainerTests.readAll(try directory.write("m", changed)) {
        free += 1
        try ContainerTests.assertEqual(original, model)
      }
    }
    // Only the padding between sections is free.
    #expect(free < 8 * 4 * 63)
  }

  /// Changes to the manifest, with both checksums made right again: only the manifest's own rules can refuse them.
  static let manifests: [(String, String, String, Failure.Kind, String)] = [
    ("C07 inside the header", #""at":64"#, #""at":0"#, .malformed, "hole, overlap"),
    ("C07 not aligned", #""at":128"#, #""at":129"#, .malformed, "hole, overlap"),
    ("C07 beyond the end", #""at":192"#, #""at":1000192"#, .malformed, "hole, overlap"),
    ("C08 overlap", #""at":192"#, #""at":128"#, .malformed, "hole, overlap"),
    (
      "C10 wraps", #""stored":12,"count":12"#, #""stored":9223372036854775807,"count":9223372036854775807"#, .malformed,
      "leaves the data part"
    ),
    ("C11 size", #""stored":12,"count":12"#, #""stored":12,"count":16"#, .malformed, "cannot stand for"),
    ("C11 shape", #""shape":[3]"#, #""shape":[4]"#, .malformed, "needs 16"),
    ("C11 shape wraps", #""shape":[3]"#, #""shape":[4611686018427387904,4]"#, .malformed, "does not fit"),
    ("C11 negative", #""shape":[3]"#, #""shape":[-3]"#, .malformed, "out of range"),
    (
      "C11 panels that wrap", #""shape":[2,100],"encoding":{"type":"F32"}"#,
      #""shape":[0,2305843009213693951],"encoding":{"type":"F32"},"order":"panels""#, .unsupported, "of a matrix"
    ),
    (
      "C11 groups that wrap", #""shape":[2,100],"encoding":{"type":"F32"}"#,
      #""shape":[0,1152921504606846976],"encoding":{"type":"grouped","bits":4,"group":1,"affine":true,"scale":"F32"}"#,
      .malformed, "needs 0"
    ),
    ("C12 too large", #""count":800"#, #""count":8000000"#, .malformed, "cannot stand for"),
    ("C14 codec", #""codec":"raw","checksum":"#, #""codec":"zip","checksum":"#, .unsupported, "unknown codec"),
    ("C14 encoding", #""type":"F32""#, #""type":"F99""#, .unsupported, "unknown encoding"),
    ("C17 checksum", #""checksum":""#, #""checksum":"X"#, .malformed, "16 hexadecimal digits"),
    ("C21 repeated", #""name":"z""#, #""name":"a""#, .malformed, "duplicate tensor name"),
    ("C21 empty", #""name":"z""#, #""name":"""#, .malformed, "empty name"),
    ("C21 control", #""name":"z""#, #""name":"\u0000""#, .malformed, "control character"),
    ("C21 escaping file", #""name":"f.txt""#, #""name":"../f""#, .malformed, "relative name"),
    (
      "C22 group", #"{"type":"F32"}"#, #"{"type":"grouped","bits":4,"group":0,"affine":false,"scale":"F16"}"#,
      .malformed, "out of range"
    ),
    (
      "C22 bits", #"{"type":"F32"}"#, #"{"type":"grouped","bits":5,"group":32,"affine":false,"scale":"F16"}"#,
      .unsupported, "unknown encoding"
    ),
    (
      "C22 levels", #"{"type":"F32"}"#,
      #"{"type":"grouped","bits":4,"group":8,"affine":true,"scale":"BF16","levels":3}"#, .unsupported,
      "levels must be 2"
    ),
    (
      "C22 levels of groups", #"{"type":"F32"}"#,
      #"{"type":"grouped","bits":4,"group":12,"affine":true,"scale":"BF16","levels":2}"#, .unsupported,
      "in groups of 12"
    ),
    (
      "C23 order", #""shape":[2,100],"encoding":{"type":"F32"}"#,
      #""shape":[2,100],"encoding":{"type":"F32"},"order":"columns""#, .unsupported, "order must be"
    ),
    (
      "C23 order of no matrix", #""shape":[3],"encoding":{"type":"F32"}"#,
      #""shape":[3],"encoding":{"type":"F32"},"order":"panels""#, .unsupported, "of a matrix"
    ),
    (
      "C23 order's size", #""shape":[2,100],"encoding":{"type":"F32"}"#,
      #""shape":[2,100],"encoding":{"type":"F32"},"order":"panels""#, .malformed, "needs 6400"
    ),
    ("missing key", #""history""#, #""histery""#, .malformed, "history"),
    (
      "node order", #""graphs":[]"#,
      #""graphs":[{"name":"text","graph":{"output":0,"nodes":[{"op":"normalize","inputs":[{"node":0}]}]}}]"#,
      .malformed, "not before it"
    ),
    (
      "unknown tensor", #""graphs":[]"#,
      #""graphs":[{"name":"text","graph":{"output":0,"nodes":[{"op":"normalize","inputs":[{"tensor":"q"}]}]}}]"#,
      .malformed, "lacks"
    ),
    (
      "unknown op", #""graphs":[]"#,
      #""graphs":[{"name":"text","graph":{"output":0,"nodes":[{"op":"explode","inputs":[]}]}}]"#, .unsupported,
      "explode"
    ),
    (
      "no inputs", #""graphs":[]"#,
      #""graphs":[{"name":"text","graph":{"output":0,"nodes":[{"op":"normalize","inputs":[]}]}}]"#, .malformed, "needs"
    ),
    (
      "empty graph", #""graphs":[]"#, #""graphs":[{"name":"text","graph":{"output":0,"nodes":[]}}]"#, .malformed,
      "no output"
    ),
  ]

  @Test("a manifest that lies is refused", arguments: manifests.indices)
  func aManifestThatLiesIsRefused(_ row: Int) throws {
    let (id, from, to, kind, words) = ContainerTests.manifests[row]
    let result = try ContainerTests.changed(try ContainerTests.small(), from, to)
    let directory = try TemporaryDirectory()
    guard case .failure(let failure) = ContainerTests.readAll(try directory.write("m", result)) else {
      Issue.record("\(id) was accepted")
      return
    }
    #expect(failure.kind == kind && failure.description.contains(words), "\(id): \(failure)")
  }

  /// A container with a part of its manifest replaced, and the checksums made right again.
  static func changed(_ bytes: [UInt8], _ from: String, _ to: String) throws -> [UInt8] {
    let at = Int(bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 16, as: UInt64.self) })
    let manifest = String(decoding: bytes[at...], as: UTF8.self)
    let place = try #require(manifest.range(of: from), "no \(from) in \(manifest)")
    let changed = Array(manifest.replacingCharacters(in: place, with: to).utf8)
    var result = Array(bytes[..<at]) + changed
    func set(_ offset: Int, _ value: UInt64) {
      withUnsafeBytes(of: value.littleEndian) { result.replaceSubrange(offset..<offset + 8, with: $0) }
    }
    set(24, UInt64(changed.count))
    set(32, XXH64.hash(changed))
    set(40, UInt64(result.count))
    set(56, XXH64.hash(Array(result[..<56])))
    return result
  }

  @Test("how pictures are laid out is kept; what was not changed is written as before, and nonsense is refused")
  func howPicturesAreLaidOutIsKept() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/m.llv"
    var model = try TinyLlave.model()
    try ContainerTests.write(model, path)
    let plain = try Repository.read(path)
    #expect(!String(decoding: plain, as: UTF8.self).contains("pool_pictures"))
    #expect(try model.facts().contains { $0.name.hasSuffix("pool_pictures") && $0.value == "1" })
    for views in [1, 3] {
      model.configuration.vision?.pooling = 2
      model.configuration.vision?.grid.removeAll { $0.width * $0.height / 18 / 18 >= views }
      try ContainerTests.write(model, path)
      let read = try Container.open(path).model
      try ContainerTests.assertEqual(model, read)
      #expect(try read.facts().contains { $0.name.hasSuffix("pool_pictures") && $0.value == "2" })
    }
    let pooled = try Repository.read(path)
    for (value, words) in [("0", "out of range"), ("3", "out of range"), ("\"2\"", "must be"), ("1.5", "must be")] {
      let bad = try ContainerTests.changed(pooled, #""pool_pictures":2"#, #""pool_pictures":"# + value)
      guard case .failure(let failure) = ContainerTests.readAll(try directory.write("bad", bad)) else {
        Issue.record("\(value) was accepted")
        continue
      }
      #expect(failure.kind == .malformed && failure.description.contains(words), "\(failure)")
    }
  }

  @Test("other versions and other files are told apart")
  func otherVersionsAndOtherFilesAreToldApart() throws {
    let directory = try TemporaryDirectory()
    var bytes = try ContainerTests.small()
    bytes[8] = 2
    guard case .failure(let newer) = ContainerTests.readAll(try directory.write("m", bytes)) else { return }
    #expect(newer.kind == .unsupported && newer.description.contains("newer llvconv"))
    bytes[8] = 0
    guard case .failure(let zero) = ContainerTests.readAll(try directory.write("m", bytes)) else { return }
    #expect(zero.kind == .malformed)
    let text = try ContainerTests.small().filter { $0 != 0x0D }
    guard case .failure(let mangled) = ContainerTests.readAll(try directory.write("m", text)) else { return }
    #expect(mangled.description.contains("text-mode"))
  }
}
