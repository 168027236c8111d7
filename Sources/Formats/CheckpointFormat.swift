import Bytes
import Tensors

/// The file formats, told apart by their first bytes. The only switch over formats.
public enum CheckpointFormat: Sendable {
  case container, safetensors, gguf

  /// Judged by content; a name that says otherwise is worth a note, not an error.
  public static func detect(_ file: InputFile) throws(Failure) -> CheckpointFormat {
    let head = try ByteView(file, 0, min(9, file.count)).bytes()
    if head.starts(with: Container.magic.prefix(4)) { return .container }
    // A name decides only where the bytes do not: no safetensors file goes on without a brace.
    let isNamed = file.path.hasSuffix(".gguf") && head.last != UInt8(ascii: "{")
    if head.starts(with: "GGUF".utf8) || isNamed { return .gguf }
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
  /// Files that the checkpoint stands for and that lie nowhere, by name.
  var made: [String: [UInt8]] = [:]
  /// Whether what lies beside the weights is not the checkpoint's own.
  var isMade = false

  init(tensors: [Tensor], weights: [InputFile], directory: String, notes: [String]) {
    self.tensors = tensors
    self.weights = weights
    self.directory = directory
    self.notes = notes
  }

  /// Opens a directory as model hubs lay it out, a `.safetensors` file, an `*.index.json`, or a GGUF file.
  ///
  /// - Parameters:
  ///   - projector: a GGUF file with the vision tower that goes with the text model at `path`.
  ///   - config: a JSON file whose members take the place of those of the checkpoint's `config.json`.
  public static func open(
    _ path: String, projector: String? = nil, config: String? = nil
  ) throws(Failure) -> Checkpoint {
    if let failure = FileKind.insteadOfCheckpoint(path) { throw failure }
    var checkpoint: Checkpoint
    if !isDirectory(path), case let file = try InputFile(path), try CheckpointFormat.detect(file) == .gguf {
      let other = try projector.map { (path) throws(Failure) in try GGUF.Parts(path) }
      checkpoint = try GGUF.checkpoint(try GGUF.Parts(path), projector: other)
    } else {
      guard projector == nil else {
        throw Failure(.usage, "--mmproj goes with a GGUF text model, which this is not", file: path)
      }
      checkpoint = try openFiles(path)
    }
    if let config { try checkpoint.override(config) }
    return checkpoint
  }

  /// The tensors of a checkpoint under the names its files have, whatever they mean.
  public static func rawTensors(_ path: String) throws(Failure) -> [Tensor] {
    if !isDirectory(path), case let file = try InputFile(path), try CheckpointFormat.detect(file) == .gguf {
      return try GGUF.Parts(path).tensors
    }
    return try openFiles(path).tensors
  }

  private mutating func override(_ path: String) throws(Failure) {
    do throws(Failure) {
      let bytes = try InputFile(path).all(limit: Limits.config, what: "file")
      let json = try JSON.parse(bytes, what: "config")
      let own = try self.json("config.json")
      var members: [(String, JSONText)] = []
      for (key, value) in try own?.members() ?? [] {
        members.append((String(decoding: key, as: UTF8.self), try JSONText(value)))
      }
      for (key, value) in try json.members("config") {
        let name = String(decoding: key, as: UTF8.self)
        members.removeAll { $0.0 == name }
        members.append((name, try JSONText(value)))
      }
      made["config.json"] = JSONText.object(members).bytes(pretty: true)
    } catch { throw error.inFile(path) }
  }

  private static func openFiles(_ path: String) throws(Failure) -> Checkpoint {
    let trimmed = path.utf8.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    var checkpoint =
      if isDirectory(trimmed) { try openDirectory(trimmed + "/") } else if trimmed.hasSuffix(".index.json") {
        try openIndex(trimmed)
      } else { try openFile(trimmed) }
    try checkpoint.addModules()
    return checkpoint
  }

  /// Adds the tensors of sentence-transformers' modules, which have folders and files of their own, as `FOLDER.NAME`.
  private mutating func addModules() throws(Failure) {
    let folders: [String]
    do throws(Failure) { folders = try Checkpoint.moduleFolders(try json("modules.json")) } catch {
      throw error.file == nil ? error.inFile(directory + "modules.json") : error
    }
    for folder in folders {
      let file = directory + folder + "/model.safetensors"
      guard exists(file) else { continue }
      let contents = try Safetensors.read(try InputFile(file))
      tensors += contents.tensors.map { $0.renamed(TensorName("\(folder).\($0.name.text)")) }
      weights.append(try InputFile(file))
      notes += contents.notes
    }
    guard Set(tensors.map(\.name)).count == tensors.count else {
      throw Failure(.malformed, "two tensors of the model and its modules have one name", file: directory)
    }
  }

  /// Folders that `modules.json` names, but for that of the model itself.
  static func moduleFolders(_ modules: JSON?) throws(Failure) -> [String] {
    guard let modules, modules.kind == .array else { return [] }
    var folders: [String] = []
    for module in try modules.elements("modules.json") {
      guard let path = try module.optional("path")?.bytes("path"), !path.isEmpty else { continue }
      let folder = try RelativeName.checked(path)
      guard !folders.contains(folder) else { throw module.failure("two modules share a folder") }
      folders.append(folder)
    }
    return folders
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
    guard !exists(directory + "adapter_config.json") else {
      throw Failure(
        .unsupported, "holds an adapter alone; import the model that it was trained on, with --adapter", file: directory
      )
    }
    throw Failure(
      .missing,
      "holds neither model.safetensors nor model.safetensors.index.json; name the file itself if it is called "
        + "otherwise",
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
    case .gguf: throw Failure(.unsupported, "a GGUF file where safetensors is expected", file: path)
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
    if let bytes = made[name] { return bytes }
    guard !isMade, exists(path) else { return nil }
    return try InputFile(path).all(limit: limit, what: "file")
  }

  /// The same, parsed; failures name the file.
  func json(_ name: String) throws(Failure) -> JSON? {
    guard let bytes = try file(name, limit: Limits.config) else { return nil }
    do throws(Failure) { return try JSON.parse(bytes, what: name) } catch { throw error.inFile(directory + name) }
  }
}

extension TensorName {
  /// Whether it is of a module of sentence-transformers that has a folder of this name.
  func isIn(_ folder: String) -> Bool { bytes.starts(with: (folder + ".").utf8) }
}
