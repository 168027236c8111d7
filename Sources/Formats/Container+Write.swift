import Bytes
import Tensors

/// Writes a container in one pass: data sections as the tensors come, then the manifest, then the header over the place
/// kept for it. Nothing but the tensor being written is in memory.
public final class ContainerWriter {
  private let output: OutputFile
  private let threads: Int
  private var tensorEntries: [JSONText] = []
  private var fileEntries: [JSONText] = []
  private let usesPanels: Bool
  /// Bytes of tensor data before and after coding, and what was lost, for a summary.
  public private(set) var rawBytes = 0
  public private(set) var losses: [(name: TensorName, encoding: Encoding, loss: TensorLoss)] = []

  /// - Parameter usesPanels: whether weights of linear operations are written in the order in which the processor uses
  ///   them.
  public init(_ output: OutputFile, usesPanels: Bool = false, threads: Int) throws(Failure) {
    self.output = output
    self.threads = threads
    self.usesPanels = usesPanels
    try output.write([UInt8](repeating: 0, count: Container.headerCount))
  }

  /// Writes all files and tensors of `model`, evaluating what passes left to be computed.
  ///
  /// - Parameter progress: called after each tensor with the bytes done so far.
  /// - Note: the bytes written do not depend on the number of threads.
  public func writeData(_ model: Model, progress: (_ rawBytes: Int) -> Void = { _ in }) throws(Failure) {
    for file in model.files {
      let tensor = Tensor(TensorName(file.name), shape: [file.count], encoding: .plain(.U8), content: file.content)
      let buffer = try tensor.load(threads: threads)
      let section = try write(buffer, codecs: [.lz4])
      fileEntries.append(.object([("name", .string(file.name))] + section))
    }
    let panels = usesPanels ? ContainerWriter.panels(of: model) : [:]
    for tensor in model.tensors {
      let order = panels[tensor.name]
      tensorEntries.append(ContainerWriter.entry(tensor, order, try write(tensor, order)))
      rawBytes += tensor.byteCount
      progress(rawBytes)
    }
  }

  /// Writes manifest and header; the output is complete and can be committed.
  public func finish(_ model: Model, program: String) throws(Failure) {
    let bytes = ContainerWriter.manifest(model, program, fileEntries, tensorEntries).bytes()
    guard bytes.count <= Limits.manifest else {
      throw Failure(.limit, "manifest of \(bytes.count) bytes", file: output.path)
    }
    try output.pad(to: Container.alignment)
    let header = Container.Header(
      manifestAt: output.count, manifestCount: bytes.count, manifestChecksum: XXH64.hash(bytes))
    try output.write(bytes)
    try output.overwrite(header.bytes, at: 0)
  }

  private static func manifest(
    _ model: Model, _ program: String, _ files: [JSONText], _ tensors: [JSONText]
  ) -> JSONText {
    [
      "format": "llv", "program": .string(program), "configuration": Container.json(model.configuration),
      "graphs": .array(model.graphs.map { ["name": .string($0.name), "graph": Container.json($0.graph)] }),
      "files": .array(files), "tensors": .array(tensors), "history": .array(model.history),
    ]
  }

  /// Bytes of a model's container, from names and shapes alone; a little more than it takes, where tensors compress.
  public static func expectedBytes(_ model: Model, usesPanels: Bool, program: String) -> Int {
    var at = Container.headerCount
    func section(_ stored: Int, _ count: Int, _ codec: Codec) -> [(String, JSONText)] {
      at = (at + Container.alignment - 1) / Container.alignment * Container.alignment
      defer { at += stored }
      return Section(at: at, stored: stored, count: count, codec: codec, checksum: .max).inOrder
    }
    let files = model.files.map { file -> JSONText in
      let stored = if case .stored(let bytes) = file.content { bytes.stored.count } else { file.count }
      return .object([("name", .string(file.name))] + section(stored, file.count, .lz4))
    }
    let panels = usesPanels ? panels(of: model) : [:]
    let tensors = model.tensors.map { tensor in
      let count = panels[tensor.name]?.byteCount ?? tensor.byteCount
      return entry(tensor, panels[tensor.name], section(count, count, .raw))
    }
    _ = section(0, 0, .raw)
    return at + manifest(model, program, files, tensors).bytes().count
  }

  private static func entry(_ tensor: Tensor, _ order: PanelOrder?, _ section: [(String, JSONText)]) -> JSONText {
    .object(
      [
        ("name", .string(tensor.name.text)), ("shape", .array(tensor.shape.map(JSONText.int))),
        ("encoding", Container.json(tensor.encoding)),
      ] + (order == nil ? [] : [("order", "panels")]) + section)
  }

  /// Integers and BF16 that linear operations alone read: the weights that quantizing makes.
  private static func panels(of model: Model) -> [TensorName: PanelOrder] {
    var (linear, others) = (Set<TensorName>(), Set<TensorName>())
    for node in model.graphs.flatMap(\.graph.nodes) {
      for (place, source) in node.inputs.enumerated() {
        guard case .tensor(let name) = source else { continue }
        if case .linear = node.op, place == 1 { linear.insert(name) } else { others.insert(name) }
      }
    }
    var result: [TensorName: PanelOrder] = [:]
    for name in linear.subtracting(others) {
      guard let tensor = model[name], !tensor.encoding.isPlain || tensor.encoding == .plain(.BF16) else { continue }
      result[name] = PanelOrder(tensor.encoding, tensor.shape)
    }
    return result
  }

  /// Bytes written so far; after `finish`, of the whole container.
  public var byteCount: Int { output.count }

  /// Makes the container visible, durable and complete.
  public func commit() throws(Failure) { try output.commit() }

  // MARK: Sections

  private func write(_ tensor: Tensor, _ order: PanelOrder?) throws(Failure) -> [(String, JSONText)] {
    let codecs = Container.codecs(for: tensor.encoding)
    if let order {
      let (buffer, loss) = try tensor.evaluate(threads: threads)
      if let loss { losses.append((tensor.name, tensor.encoding, loss)) }
      // Whatever the bytes, they are there to be used where they lie.
      return try write(try order.pack(buffer, threads: threads), codecs: [])
    }
    // Bytes that lie in a file and do not compress are copied through a small buffer.
    if case .bytes(let view) = tensor.content, try !Container.isWorthTrying(codecs, sampleOf: view) {
      return try copy(view).inOrder
    }
    let (buffer, loss) = try tensor.evaluate(threads: threads)
    if let loss { losses.append((tensor.name, tensor.encoding, loss)) }
    let isWorthIt = try Container.isWorthTrying(codecs, sampleOf: ByteView(buffer))
    return try write(buffer, codecs: isWorthIt ? codecs : [])
  }

  private struct Section {
    var at, stored, count: Int
    var codec: Codec
    var checksum: UInt64

    var inOrder: [(String, JSONText)] {
      [
        ("at", .int(at)), ("stored", .int(stored)), ("count", .int(count)), ("codec", .string(codec.text)),
        ("checksum", .string(XXH64.text(checksum))),
      ]
    }
  }

  private func copy(_ view: ByteView) throws(Failure) -> Section {
    try output.pad(to: Container.alignment)
    let at = output.count
    var hash = XXH64()
    try view.forEachChunk { (chunk) throws(Failure) in
      hash.update(chunk)
      try output.write(chunk)
    }
    try view.file?.checkUnchanged()
    return Section(at: at, stored: view.count, count: view.count, codec: .raw, checksum: hash.value())
  }

  /// Stores `buffer` with the codec that makes it smallest, raw unless one pays.
  private func write(_ buffer: Buffer, codecs: [Codec]) throws(Failure) -> [(String, JSONText)] {
    try output.pad(to: Container.alignment)
    let at = output.count
    let section = try buffer.withBytes { (raw) throws(Failure) -> Section in
      var best: (codec: Codec, bytes: [UInt8])?
      for codec in codecs {
        guard let bytes = try codec.encode(raw), Container.pays(bytes.count, for: raw.count),
          bytes.count < best?.bytes.count ?? .max
        else { continue }
        best = (codec, bytes)
      }
      if let best { try output.write(best.bytes) } else { try output.write(raw) }
      return Section(
        at: at, stored: output.count - at, count: raw.count, codec: best?.codec ?? .raw, checksum: XXH64.hash(raw))
    }
    return section.inOrder
  }
}

extension Container {
  /// A codec is used only where it saves a quarter. (BF16 weights would save a sixth, at a tenth of the speed of
  /// copying them, and every start would have to decode them.)
  static func pays(_ stored: Int, for count: Int) -> Bool { stored < count - count / 4 }

  /// Codecs that may help with this encoding.
  static func codecs(for encoding: Encoding) -> [Codec] {
    switch encoding {
    case .plain(let type):
      switch type.bits {
      case 16, 32, 64: [.lz4, .lz4Planes(width: type.bits / 8)]
      default: [.lz4]
      }
    case .grouped: [.lz4]
    }
  }

  /// Tries the codecs on up to 16 pieces of 4 KiB, spread evenly: one hundredth of the cost for the tensors of a large
  /// model.
  static func isWorthTrying(_ codecs: [Codec], sampleOf view: ByteView) throws(Failure) -> Bool {
    let piece = 4_096
    guard view.count >= 64 else { return false }
    let pieces = min(16, max(1, view.count / piece / 16))
    let length = min(piece, view.count / 8 * 8)
    let sample = try Buffer(count: pieces * length)
    return try sample.withMutableBytes { (target) throws(Failure) in
      for index in 0..<pieces {
        let offset = pieces == 1 ? 0 : (view.count - length) / (pieces - 1) * index / 8 * 8
        try view.read(
          at: offset, into: UnsafeMutableRawBufferPointer(rebasing: target[(index * length)..<((index + 1) * length)]))
      }
      for codec in codecs {
        if let bytes = try codec.encode(UnsafeRawBufferPointer(target)), pays(bytes.count, for: target.count) {
          return true
        }
      }
      return false
    }
  }
}
