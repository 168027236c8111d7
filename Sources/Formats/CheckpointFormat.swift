import Bytes
import Tensors

/// The file formats, told apart by their first bytes. The only switch over formats.
public enum CheckpointFormat: Sendable {
  case container, safetensors, gguf

  /// Judged by content; a name that says otherwise is worth a note, not an error.
  public static func detect(_ file: InputFile) throws(Failure) -> CheckpointFormat {
    let head = try ByteView(file, 0, min(8, file.count)).bytes()
    if head.starts(with: Container.magic.prefix(4)) { return .container }
    if head.starts(with: "GGUF".utf8) { return .gguf }
    return .safetensors
  }
}

/// A checkpoint as it lies on disk: its tensors, before anything is known about what they mean.
public struct Checkpoint: Sendable {
  public var tensors: [Tensor]
  /// The files that hold tensors, in the order read.
  public var weights: [InputFile]
  /// Directory of the files that describe the model, with a final slash.
  public var directory: String
  public var notes: [String]

  /// Opens a directory as model hubs lay it out, a `.safetensors` file, or an `*.index.json`.
  public static func open(_ path: String) throws(Failure) -> Checkpoint {
    let trimmed = path.utf8.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    if isDirectory(trimmed) { return try openDirectory(trimmed + "/") }
    if trimmed.hasSuffix(".index.json") { return try openIndex(trimmed) }
    return try openFile(trimmed)
  }

  private static func openDirectory(_ directory: String) throws(Failure) -> Checkpoint {
    let index = directory + "model.safetensors.index.json"
    let single = directory + "model.safetensors"
    if exists(index) {
      var checkpoint = try openIndex(index)
      if exists(single) { checkpoint.notes.append("the directory also has model.safetensors; the index wins") }
      return checkpoint
    }
    if exists(single) { return try openFile(single) }
    throw Failure(
      .missing,
      "holds neither model.safetensors nor model.safetensors.index.json; name the file itself if it is called otherwise",
      file: directory)
  }

  private static func openIndex(_ path: String) throws(Failure) -> Checkpoint {
    let contents = try ShardIndex.read(path)
    return Checkpoint(
      tensors: contents.tensors, weights: contents.shards, directory: Bytes.directory(of: path), notes: contents.notes
    )
  }

  private static func openFile(_ path: String) throws(Failure) -> Checkpoint {
    let file = try InputFile(path)
    var notes: [String] = []
    switch try CheckpointFormat.detect(file) {
    case .container:
      throw Failure(.usage, "is an .llv container already; quantize, inspect and embed read it as it is", file: path)
    case .gguf: throw Failure(.unsupported, "GGUF checkpoints are not read yet", file: path)
    case .safetensors:
      let contents = try Safetensors.read(file)
      if !path.hasSuffix(".safetensors") { notes.append("\(path): holds safetensors, whatever its name says") }
      return Checkpoint(
        tensors: contents.tensors, weights: [file], directory: Bytes.directory(of: path),
        notes: notes + contents.notes)
    }
  }

  /// A file beside the checkpoint, nil when there is none.
  public func file(_ name: String, limit: Int) throws(Failure) -> [UInt8]? {
    let path = directory + (try RelativeName.checked(Array(name.utf8)))
    guard exists(path) else { return nil }
    return try InputFile(path).all(limit: limit, what: "file")
  }

  /// The same, parsed; failures name the file.
  func json(_ name: String) throws(Failure) -> JSON? {
    guard let bytes = try file(name, limit: Limits.config) else { return nil }
    do throws(Failure) { return try JSON.parse(bytes, what: name) } catch { throw error.inFile(directory + name) }
  }
}
