import Bytes
import Formats
import Tensors

/// A model from any path: a container as it is, and any other file or folder that `import` takes, imported in memory
/// on the way. Nothing is written.
package struct ModelFile: Sendable {
  package let path: String
  package var model: Model
  /// Of the content: equal for equal weights, settings and tokenizers in files of one kind.
  package let checksum: UInt64
  /// Whether embeddings may be kept beside it. A checkpoint lies in somebody else's folder, where we write nothing.
  package let isContainer: Bool
  /// Of the weights: of all tensors in a container, of the files that hold them otherwise.
  package let bytes: Int

  /// - Parameter projector: the GGUF file with the vision tower that goes with a GGUF text model; nil for the one that
  ///   lies beside it, where there is one.
  /// - Throws: what `import` throws, or opening a container.
  /// - Cost: of a checkpoint all files are read once for the checksum, as fast as the disk gives them.
  package init(_ path: String, projector: String? = nil) throws(Failure) {
    let kind = FileKind(path)
    switch kind {
    case .safetensors, .checkpoint, .shardIndex, .gguf:
      let beside = kind == .gguf && projector == nil ? try GGUF.projector(beside: path) : nil
      let checkpoint = try Checkpoint.open(path, projector: projector ?? beside)
      var notes = beside.map { ["\(fileName($0)), which lies beside it, is read as its vision tower"] } ?? []
      let model = try Import.model(checkpoint, notes: &notes)
      try checkTokenizer(model, of: checkpoint)
      Output.notes(notes.map { "\(fileName(path)): \($0)" })
      self.init(
        path: path, model: model, checksum: try Import.checksum(checkpoint, model), isContainer: false,
        bytes: checkpoint.weights.reduce(0) { $0 + $1.count })
    default: try self.init(container: path, projector: projector)
    }
  }

  /// - Throws: what comes first, for a file of another kind.
  package init(container path: String, projector: String? = nil) throws(Failure) {
    let contents = try Container.open(path)
    guard projector == nil else {
      throw Failure(.usage, "--mmproj goes with a GGUF text model, which this is not", file: path)
    }
    self.init(
      path: path, model: contents.model, checksum: contents.checksum, isContainer: true,
      bytes: contents.model.tensors.reduce(0) { $0 + $1.byteCount })
  }

  private init(path: String, model: Model, checksum: UInt64, isContainer: Bool, bytes: Int) {
    (self.path, self.model, self.checksum) = (path, model, checksum)
    (self.isContainer, self.bytes) = (isContainer, bytes)
  }

  /// Where its embeddings are kept; nil for a file that is no container.
  package func cache(width: Int) -> VectorCache? { isContainer ? VectorCache(beside: path, width: width) : nil }
}
