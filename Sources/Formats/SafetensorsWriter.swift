import Bytes
import Tensors

/// Tensors as safetensors files in a directory: `model.safetensors`, or shards with an index.
struct SafetensorsWriter {
  /// Metadata of each file: `format` says which framework's readers may take it.
  let format: String
  /// Bytes of tensor data in a file at most; one tensor may be more.
  let shard: Int

  /// What most hubs' files are cut at.
  static let defaultShard = 5_000_000_000

  /// Writes plain tensors in the order given. Nothing but the tensor being written is in memory.
  ///
  /// - Parameters:
  ///   - folder: of the directory, with a final slash.
  ///   - progress: called after each tensor with its bytes.
  func write(
    _ tensors: [Tensor], to directory: OutputDirectory, folder: String = "", threads: Int, progress: (Int) -> Void
  ) throws(Failure) {
    var groups: [[Tensor]] = [[]]
    var filled = 0
    for tensor in tensors {
      if filled > 0, filled + tensor.byteCount > shard {
        groups.append([])
        filled = 0
      }
      groups[groups.count - 1].append(tensor)
      filled += tensor.byteCount
    }
    guard groups.count <= Limits.shards else {
      throw Failure(.usage, "--split would make \(groups.count) files, at most \(Limits.shards)")
    }
    guard groups.count > 1 else {
      return try write(groups[0], directory.file(folder + "model.safetensors"), threads, progress)
    }
    var map: [(String, JSONText)] = []
    for (number, group) in groups.enumerated() {
      let name = "model-\(GGUF.Parts.padded(number + 1))-of-\(GGUF.Parts.padded(groups.count)).safetensors"
      try write(group, directory.file(folder + name), threads, progress)
      map += group.map { ($0.name.text, .string(name)) }
    }
    let total = tensors.reduce(0) { $0 + $1.byteCount }
    let index: JSONText = ["metadata": ["total_size": .int(total)], "weight_map": .object(map)]
    try directory.write(folder + "model.safetensors.index.json", index.bytes(pretty: true))
  }

  private func write(
    _ tensors: [Tensor], _ output: OutputFile, _ threads: Int, _ progress: (Int) -> Void
  ) throws(Failure) {
    try SafetensorsWriter.write(
      tensors, output, metadata: [("format", .string(format))], threads: threads, progress: progress)
    try output.commit()
  }

  /// Writes one file; whoever asked for it commits it.
  static func write(
    _ tensors: [Tensor], _ output: OutputFile, metadata: [(String, JSONText)], threads: Int,
    progress: (Int) -> Void = { _ in }
  ) throws(Failure) {
    var members: [(String, JSONText)] = [("__metadata__", .object(metadata))]
    var offset = 0
    for tensor in tensors {
      guard case .plain(let type) = tensor.encoding else {
        throw Failure(.internal, "a tensor of \(tensor.encoding.text) where a plain one is needed")
      }
      let end = offset + tensor.byteCount
      members.append(
        (
          tensor.name.text,
          [
            "dtype": .string(type.rawValue), "shape": .array(tensor.shape.map(JSONText.int)),
            "data_offsets": .array([.int(offset), .int(end)]),
          ]
        ))
      offset = end
    }
    var header = JSONText.object(members).bytes()
    // Data starts at a multiple of 8, so that readers may map it.
    header += [UInt8](repeating: UInt8(ascii: " "), count: (8 - header.count % 8) % 8)
    guard header.count <= Limits.safetensorsHeader else {
      throw Failure(.limit, "a header of \(header.count) bytes", file: output.path)
    }
    try output.write(withUnsafeBytes(of: UInt64(header.count).littleEndian) { Array($0) } + header)
    for tensor in tensors {
      if case .bytes(let view) = tensor.content {
        try view.forEachChunk { (chunk) throws(Failure) in try output.write(chunk) }
        try view.file?.checkUnchanged()
      } else {
        let bytes = try tensor.load(threads: threads)
        try bytes.withBytes { (raw) throws(Failure) in try output.write(raw) }
      }
      progress(tensor.byteCount)
    }
  }
}
