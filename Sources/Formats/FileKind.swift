import Bytes

/// What a path holds, by content: the one place that looks, for errors that say what a thing is and what comes first.
public enum FileKind: Sendable, Equatable {
  case container, safetensors, gguf
  /// Folders: with a checkpoint's weights, with weights as Python objects alone, with neither.
  case checkpoint, pickledCheckpoint, folder
  case shardIndex, tokenizer, modelConfig, otherJSON
  /// Python objects, as `torch.save` writes them; they are never opened.
  case pickle
  case vectors, sentencePiece
  /// What `llvconv anchors` writes, told by its name: a safetensors file like others.
  case anchors
  /// Nothing is there: perhaps the name of a model on a hub.
  case hubName, absent
  case unknown

  public init(_ path: String) {
    if isDirectory(path) {
      self = FileKind.folder(path.hasSuffix("/") ? path : path + "/")
    } else if !exists(path) {
      let parts = path.split(separator: "/", omittingEmptySubsequences: false)
      let isName = parts.count == 2 && parts.allSatisfy { !$0.isEmpty && !$0.hasPrefix(".") } && !path.contains(".llv")
      self = isName && !exists(String(parts[0])) ? .hubName : .absent
    } else {
      self = (try? FileKind(file: try InputFile(path))) ?? .unknown
    }
  }

  private static func folder(_ path: String) -> FileKind {
    if exists(path + "model.safetensors") || exists(path + "model.safetensors.index.json") { return .checkpoint }
    let pickles = ["pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "consolidated.00.pth"]
    return pickles.contains { exists(path + $0) } ? .pickledCheckpoint : .folder
  }

  private init(file: InputFile) throws(Failure) {
    let head = try ByteView(file, 0, min(16, file.count)).bytes()
    let length = head.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    if head.starts(with: Container.magic.prefix(4)) {
      self = .container
    } else if head.starts(with: "GGUF".utf8) {
      self = .gguf
    } else if head.count > 8, head[8] == UInt8(ascii: "{"), length <= UInt64(file.count) {
      self = file.path.hasSuffix(".anchors") ? .anchors : .safetensors
    } else if head.starts(with: "PK\u{3}\u{4}".utf8) || head.starts(with: [0x80, 2]) {
      self = .pickle
    } else if head.dropFirst().starts(with: "NUMPY".utf8) {
      self = .vectors
    } else if head.starts(with: [0x0A]), [".model", ".spm"].contains(where: file.path.hasSuffix) {
      self = .sentencePiece
    } else if head.drop(while: " \n\r\t".utf8.contains).first == UInt8(ascii: "{") {
      self = FileKind.json(file)
    } else {
      self = .unknown
    }
  }

  private static func json(_ file: InputFile) -> FileKind {
    guard let bytes = try? file.all(limit: Limits.tokenizer, what: "file"),
      let json = try? JSON.parse(bytes, what: "file"), json.kind == .object
    else { return .unknown }
    if json["weight_map"] != nil { return .shardIndex }
    if json["model"]?["vocab"] != nil { return .tokenizer }
    return json["model_type"] != nil || json["architectures"] != nil ? .modelConfig : .otherJSON
  }

  /// In words, after "is"; nil where the content says nothing.
  private var words: String? {
    switch self {
    case .container: "an .llv container"
    case .safetensors, .checkpoint, .shardIndex: "a checkpoint"
    case .gguf: "a GGUF file"
    case .pickledCheckpoint: "a checkpoint of Python objects (pickle), which are never opened"
    case .folder: "a folder without a checkpoint"
    case .tokenizer: "a tokenizer, not a model"
    case .modelConfig: "a model's configuration, without its weights"
    case .otherJSON: "JSON, not a model"
    case .pickle: "a file of Python objects (pickle), which are never opened"
    case .vectors: "a NumPy array, not a model"
    case .anchors: "anchors of an index, not a model"
    case .sentencePiece: "a SentencePiece tokenizer, not a model"
    case .hubName, .absent, .unknown: nil
    }
  }

  /// What to do first, so that a command which takes containers can take the thing at `path`.
  private func first(_ path: String) -> String? {
    switch self {
    case .safetensors: "llvconv import FOLDER -o m.llv comes first (FOLDER: the one it lies in, with config.json)"
    case .checkpoint, .shardIndex, .gguf: "llvconv import \(FileKind.shown(path)) -o m.llv comes first"
    case .pickledCheckpoint, .pickle: "save the model with safetensors first, then llvconv import FOLDER -o m.llv"
    case .tokenizer, .modelConfig, .sentencePiece:
      "llvconv import FOLDER -o m.llv takes the folder it lies in, with config.json and model.safetensors"
    case .vectors: "llvconv compare reads such files"
    case .anchors: "llvconv verify --anchors \(FileKind.shown(path)) CANDIDATE holds a model to them"
    case .hubName: "download the model from its hub first, then llvconv import FOLDER -o m.llv"
    case .container, .folder, .otherJSON, .absent, .unknown: nil
    }
  }

  private static func shown(_ path: String) -> String { Failure.escaped(Array(path.utf8), limit: 80) }

  /// That a container was expected at `path`; nil where there is one, and where nobody knows what is there.
  static func insteadOfContainer(_ path: String) -> Failure? {
    let kind = FileKind(path)
    guard kind != .container, kind != .absent, kind != .unknown else { return nil }
    let what = kind.words.map { "is \($0)" } ?? "no such file"
    let advice = kind.first(path).map { ": \($0)" } ?? "; an .llv container is expected"
    return Failure(kind == .hubName ? .missing : .usage, what + advice, file: path)
  }

  /// That a checkpoint was expected at `path`; nil where there may be one.
  static func insteadOfCheckpoint(_ path: String) -> Failure? {
    let kind = FileKind(path)
    switch kind {
    case .tokenizer, .modelConfig, .sentencePiece, .vectors, .anchors, .pickle, .pickledCheckpoint, .hubName:
      let what = kind.words.map { "is \($0)" } ?? "no such file"
      let advice = kind == .vectors ? "" : kind.first(path).map { ": \($0)" } ?? ""
      return Failure(kind == .hubName ? .missing : .unsupported, what + advice, file: path)
    case .container, .safetensors, .gguf, .checkpoint, .folder, .shardIndex, .otherJSON, .absent, .unknown: return nil
    }
  }
}
