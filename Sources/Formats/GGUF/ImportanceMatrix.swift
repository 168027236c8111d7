import Bytes
import Tensors

/// What llama.cpp calls an importance matrix, in its GGUF form: mean squares of the inputs of each weight, by ggml's
/// names. Formats/gguf/spec.md has its keys and tensors.
public struct ImportanceMatrix: Sendable {
  public struct Entry: Sendable, Equatable {
    /// Mean squares of the input's columns.
    public let squares: [Float]
    /// Tokens that they are means over.
    public let count: Int
  }

  public private(set) var entries: [TensorName: Entry] = [:]
  /// What it was measured on, and in how many chunks of how many tokens.
  public let datasets: [String]
  public let chunks, chunkSize: Int
  /// Hash of the file it was read from; 0 for one that is made.
  public let checksum: UInt64

  private static let sums = Array(".in_sum2".utf8)
  private static let counts = Array(".counts".utf8)
  private static let numbers = 0...Int(Int32.max)

  /// Reads the file at `path`.
  ///
  /// - Rounding: sums are divided in double and rounded once.
  /// - Edge cases: an entry that no token was counted for says nothing, and is left out. Tensors of other names are not
  ///   read.
  /// - Throws: `unsupported` for a GGUF file of another kind and for sums of several experts; `malformed` for sums
  ///   without counts, other types, and numbers that no sum of squares is.
  /// - Cost: linear in the file.
  public init(_ path: String) throws(Failure) {
    let file = try GGUF.read(path)
    do throws(Failure) {
      guard try file.keys.text("general.type") == "imatrix" else {
        throw Failure(
          .unsupported, "is a GGUF file of another kind; an importance matrix has \"imatrix\"",
          thing: "key \"general.type\"")
      }
      datasets = file.keys["imatrix.datasets"] == nil ? [] : try file.keys.texts("imatrix.datasets")
      chunks = try file.keys.integer("imatrix.chunk_count", in: ImportanceMatrix.numbers) ?? 0
      chunkSize = try file.keys.integer("imatrix.chunk_size", in: ImportanceMatrix.numbers) ?? 0
      var hash = XXH64()
      try ByteView(file.file, 0, file.file.count).forEachChunk { (chunk) throws(Failure) in hash.update(chunk) }
      checksum = hash.value()
      let tensors = Dictionary(file.tensors.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
      for tensor in file.tensors {
        let name = tensor.name.bytes
        if name.hasSuffix(ImportanceMatrix.counts) {
          let stem = Array(name.dropLast(ImportanceMatrix.counts.count))
          try ImportanceMatrix.require(tensors[TensorName(stem + ImportanceMatrix.sums)] != nil, tensor, "has no sums")
        }
        guard name.hasSuffix(ImportanceMatrix.sums) else { continue }
        let stem = Array(name.dropLast(ImportanceMatrix.sums.count))
        guard let counts = tensors[TensorName(stem + ImportanceMatrix.counts)] else {
          throw Failure(.malformed, "has no counts", thing: "tensor \(tensor.name.quoted)")
        }
        if let entry = try ImportanceMatrix.entry(tensor, counts) { entries[TensorName(stem)] = entry }
      }
      try file.file.checkUnchanged()
      guard !entries.isEmpty else { throw Failure(.malformed, "holds no sums of squares: nothing was measured") }
    } catch { throw error.inFile(path) }
  }

  private static func require(_ holds: Bool, _ tensor: Tensor, _ problem: String) throws(Failure) {
    guard holds else { throw Failure(.malformed, problem, thing: "tensor \(tensor.name.quoted)") }
  }

  private static func entry(_ sums: Tensor, _ counts: Tensor) throws(Failure) -> Entry? {
    for tensor in [sums, counts] {
      try require(tensor.encoding == .plain(.F32), tensor, "is \(tensor.encoding.text), F32 expected")
    }
    guard counts.count == 1, sums.rows == 1 else {
      throw Failure(
        .unsupported, "\(max(counts.count, sums.rows)) matrices under one name (experts); one is read",
        thing: "tensor \(sums.name.quoted)")
    }
    try require(sums.count > 0, sums, "is empty")
    let count = try counts.floats().array(of: Float.self)[0]
    try require(count >= 0 && count <= 0x1p53, counts, "counts \(count) tokens")
    guard count > 0 else { return nil }
    let values = try sums.floats().array(of: Float.self)
    if let place = values.firstIndex(where: { !($0 >= 0 && $0.isFinite) }) {
      throw Failure(
        .malformed, "holds \(values[place]) at [\(place)], which is no sum of squares",
        thing: "tensor \(sums.name.quoted)")
    }
    return Entry(squares: values.map { Float(Double($0) / Double(count)) }, count: max(1, Int(count.rounded())))
  }

  // MARK: Of a model

  /// ggml's names of a model's weights, and that model's own. Of the LLaVE family those of the text model: llama.cpp's
  /// importance matrices know no towers.
  ///
  /// - Throws: `unsupported` for a model that ggml has no architecture for, or whose operations are fused.
  private static func names(_ model: Model) throws(Failure) -> [(tensor: Tensor, ggml: TensorName)] {
    let family = try Family(model)
    let table: GGUFNames
    switch family.kind {
    case .text(let text): table = try GGUFExport.family(text).ggufNames
    case .llave: table = .qwen2
    case .siglip: throw Failure(.unsupported, "ggml has no architecture for a SigLIP tower alone")
    }
    return zip(model.tensors, family.tensors).compactMap { own, named in
      table.ggml(named.name.text).map { (own, TensorName($0)) }
    }
  }

  /// Mean squares of the inputs of a model's weights, `[columns]`, by the names that the model as imported has.
  ///
  /// - Throws: `usage` for a matrix that is of another model: none of its names, or another width.
  public func meanSquares(of model: Model) throws(Failure) -> [TensorName: [Float]] {
    var result: [TensorName: [Float]] = [:]
    for (tensor, ggml) in try ImportanceMatrix.names(model) {
      guard let entry = entries[ggml] else { continue }
      guard entry.squares.count == tensor.columns else {
        throw Failure(
          .usage, "is of another model: \(entry.squares.count) columns, the model's weight has \(tensor.columns)",
          thing: "tensor \(ggml.quoted)")
      }
      result[tensor.name] = entry.squares
    }
    guard !result.isEmpty else { throw Failure(.usage, "is of another model: it has none of this one's weights") }
    return result
  }

  /// - Parameters:
  ///   - squares: mean squares of the inputs of weights, by the names that `model`, as imported, has.
  ///   - tokens: how many they are means over.
  ///   - chunks: items that were measured.
  ///   - dataset: what it was measured on.
  /// - Throws: as `names` does; and `usage` when nothing was measured that ggml has a name for.
  public init(
    _ squares: [TensorName: [Float]], of model: Model, tokens: Int, chunks: Int, dataset: String
  ) throws(Failure) {
    for (tensor, ggml) in try ImportanceMatrix.names(model) {
      if let own = squares[tensor.name] { entries[ggml] = Entry(squares: own, count: max(1, tokens)) }
    }
    guard !entries.isEmpty else { throw Failure(.usage, "no weight was measured that ggml has a name for") }
    (datasets, self.chunks, checksum) = ([dataset], max(1, chunks), 0)
    chunkSize = Checked.ceilDivide(max(1, tokens), max(1, chunks))
  }

  /// Writes the file, with entries in order of their names. Nothing is visible until the output is committed.
  ///
  /// - Rounding: sums are means times count in double, rounded once.
  public func write(_ output: OutputFile, threads: Int) throws(Failure) {
    guard let type = BlockType.named("F32") else { throw Failure(.internal, "no type F32") }
    var tensors: [GGUFPlan.Entry] = []
    for (name, entry) in entries.sorted(by: { $0.key < $1.key }) {
      let sums = entry.squares.map { Float(Double($0) * Double(entry.count)) }
      for (suffix, values) in [(".in_sum2", sums), (".counts", [Float(entry.count)])] {
        let tensor = try Tensor(name, floats: values, shape: [values.count])
        tensors.append(.init(name: name.text + suffix, tensor: tensor, type: type))
      }
    }
    let keys: [GGUFKey] = [
      .init("general.type", .string("imatrix")), .init("imatrix.datasets", .strings(datasets)),
      .init("imatrix.chunk_count", .uint32(min(chunks, ImportanceMatrix.numbers.upperBound))),
      .init("imatrix.chunk_size", .uint32(min(chunkSize, ImportanceMatrix.numbers.upperBound))),
    ]
    var losses: [(name: String, loss: TensorLoss)] = []
    try GGUFPlan(path: output.path, keys: keys, entries: tensors).write(
      output, threads: threads, losses: &losses, progress: { _ in })
  }
}

extension [UInt8] {
  fileprivate func hasSuffix(_ end: [UInt8]) -> Bool { count > end.count && suffix(end.count) == end[...] }
}
