import Bytes
import Inputs
import Tensors

@_exported import struct Bytes.Failure
@_exported import struct Inputs.Item
@_exported import struct Inputs.Picture

/// A model that is open: it turns texts, pictures, both in one text, and videos into vectors.
///
/// Opening reads the tokenizer and checks the weights, which stay in their file and are shared by all processes that
/// have it open. A model may be used from several threads at once. Vectors depend on the item alone: not on the batch,
/// on the other items, or on the number of threads.
public struct EmbeddingModel: Sendable {
  private let model: LoadedModel

  /// Options that ``init(_:options:listener:)`` takes, as `llvconv embed --help` explains them.
  public static let optionNames = ["device", "max-tokens", "memory", "mmproj", "profile", "spelling", "threads"]

  /// - Parameter path: an `.llv` container, or what import takes: a model folder, a `.safetensors` or a GGUF file,
  ///   which is then imported in memory.
  /// - Throws: what is wrong with the file or with an option.
  public init(_ path: String, options: Options = [:], listener: Listener = .init()) throws(Failure) {
    model = try listener.hearing { () throws(Failure) in
      let arguments = try options.arguments([path], EmbeddingModel.optionNames)
      return try LoadedModel(ModelFile(path, projector: arguments["--mmproj"]), .init(arguments))
    }
  }

  // MARK: What it is

  public var path: String { model.file.path }
  /// Numbers in a vector.
  public var dimensions: Int { model.embedder.width }
  /// By the name its family uses: `bert`, `qwen2`, `llava_onevision`, `siglip`.
  public var architecture: String { model.configuration.architecture }
  /// Tokens of one item at most; longer ones are cut.
  public var maximumTokens: Int { model.builder.maximumTokens }
  public var takesText: Bool { model.prepared.graph("text") != nil }
  public var takesPictures: Bool { model.configuration.vision != nil }
  /// Of the content: equal for equal weights, settings and tokenizers in files of one kind.
  public var checksum: String { String(model.file.checksum, radix: 16) }
  /// Texts that can be put before an item, by name.
  public var prompts: [String: String] {
    Dictionary(model.configuration.prompts.map { ($0.name, $0.text) }) { first, _ in first }
  }
  /// Name of the prompt that is used when none is asked for.
  public var defaultPrompt: String? { model.configuration.defaultPrompt }

  // MARK: Embedding

  /// The vector of a text.
  ///
  /// - Parameter prompt: the name of one of ``prompts``; nil for the default one.
  public func embed(_ text: String, prompt: String? = nil) throws(Failure) -> [Float] {
    try embed([text], prompt: prompt)[0]
  }

  /// The vectors of texts, in order.
  public func embed(_ texts: [String], prompt: String? = nil) throws(Failure) -> [[Float]] {
    var vectors: [[Float]] = []
    vectors.reserveCapacity(texts.count)
    for result in try embed(texts.map(Item.init(text:)), prompt: prompt) { vectors.append(try result.get()) }
    return vectors
  }

  /// One vector for each item, in order, or what is wrong with it.
  ///
  /// - Parameters:
  ///   - prompt: put before the text of items without an instruction.
  ///   - folder: where relative paths of pictures and videos start, with a final slash; empty for the working folder.
  /// - Throws: what is wrong with all of them, as an unknown prompt.
  public func embed(
    _ items: [Item], prompt: String? = nil, folder: String = "", listener: Listener = .init()
  ) throws(Failure) -> [Result<[Float], Failure>] {
    var results: [Result<[Float], Failure>] = []
    results.reserveCapacity(items.count)
    try embed(items, prompt: prompt, folder: folder, listener: listener) { results.append($1.finite) }
    return results
  }

  /// Calls `body` with each item's place and embedding, in order, some batches at a time.
  package func embed(
    _ items: [Item], prompt: String?, folder: String, listener: Listener = .init(),
    _ body: (Int, LoadedModel.Embedded) -> Void
  ) throws(Failure) {
    try model.check(prompt: prompt)
    for start in stride(from: 0, to: items.count, by: model.itemsPerChunk) {
      let chunk = Array(items[start..<min(start + model.itemsPerChunk, items.count)])
      for (row, embedded) in try model.embed(chunk, prompt: prompt, folder: folder).enumerated() {
        body(start + row, embedded)
      }
      listener.progress("embedding", Double(start + chunk.count) / Double(items.count))
    }
    listener.finished()
  }

  /// The text of a prompt, for items that go their own way.
  func instruction(of prompt: String?) throws(Failure) -> String? {
    try model.check(prompt: prompt)
    return prompt.flatMap { prompts[$0] }
  }
}
