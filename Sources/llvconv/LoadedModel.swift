import Bytes
import Formats
import Inference
import Inputs
import Tensors

/// A container opened for embedding: tokenizer read, weights on the device.
struct LoadedModel {
  let contents: Container.Contents
  let tokenizer: Tokenizer
  let embedder: Embedder
  let threads: Int
  var configuration: Configuration { contents.model.configuration }

  init(_ path: String, threads: Int) throws(Failure) {
    contents = try Container.open(path)
    self.threads = threads
    do throws(Failure) {
      let model = contents.model
      tokenizer = try Tokenizer.load { (name) throws(Failure) in try model.file(name) }
      guard tokenizer.vocabulary <= model.configuration.vocabulary else {
        throw Failure(
          .malformed,
          "token id \(tokenizer.vocabulary - 1) has no row: the token table has \(model.configuration.vocabulary)")
      }
      embedder = try Embedder(model, on: CPUDevice(threads: threads))
    } catch { throw error.inFile(path) }
  }

  /// The token ids of an item, and how many tokens were cut off because it is too long.
  ///
  /// - Parameter prompt: name of the prompt put before texts that bring no instruction; nil for the model's default.
  func encode(_ item: Item, prompt: String?) throws(Failure) -> Tokenizer.Encoding {
    guard item.images.isEmpty, item.video == nil else {
      throw Failure(.unsupported, "the model (\(configuration.architecture)) takes text only")
    }
    let name = prompt ?? configuration.defaultPrompt
    let prefix = item.instruction ?? configuration.prompts.first { $0.name == name }?.text ?? ""
    return tokenizer.encode(prefix + (item.text ?? ""), maximum: configuration.maximumTokens)
  }

  /// Checks the name of a prompt before any work.
  func check(prompt: String?) throws(Failure) {
    guard let prompt, !configuration.prompts.contains(where: { $0.name == prompt }) else { return }
    let known = configuration.prompts.map(\.name).joined(separator: ", ")
    throw Failure(.usage, "the model has no prompt \(Failure.quoted(prompt)); it has \(known.isEmpty ? "none" : known)")
  }
}
