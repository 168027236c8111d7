import Bytes

extension Tokenizer {
  /// Reads a tokenizer from the files a model came with: `tokenizer.json`, or else `vocab.json` with `merges.txt`, or
  /// `vocab.txt`.
  ///
  /// - Parameter file: the content of a file by name, nil when there is none.
  /// - Throws: `malformed` or `unsupported`, naming the file and the place in it.
  public static func load(_ file: (String) throws(Failure) -> [UInt8]?) throws(Failure) -> Tokenizer {
    if let bytes = try file("tokenizer.json") {
      do throws(Failure) {
        return try Tokenizer(
          tokenizerJSON: try JSON.parse(bytes, what: "tokenizer.json"), config: try file("tokenizer_config.json"))
      } catch { throw error.inFile("tokenizer.json") }
    }
    if let bytes = try file("vocab.json") {
      do throws(Failure) {
        return try Tokenizer(vocabularyJSON: try JSON.parse(bytes, what: "vocab.json"), file)
      } catch { throw error.inFile("vocab.json") }
    }
    if let bytes = try file("vocab.txt") {
      do throws(Failure) {
        return try Tokenizer(vocabulary: bytes, config: try file("tokenizer_config.json"))
      } catch { throw error.inFile("vocab.txt") }
    }
    throw Failure(.missing, "the model has neither tokenizer.json, vocab.json nor vocab.txt")
  }
}
