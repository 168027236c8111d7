import Bytes

/// Text to token ids, exactly as the model's own tokenizer has it.
public struct Tokenizer: Sendable, Equatable {
  /// A token that is found in the raw text before anything else is done to it, like `[SEP]`.
  struct AddedToken: Sendable, Equatable {
    var text: [UInt32]
    var id: Int32
    var isSingleWord = false
    var takesLeftSpace = false
    var takesRightSpace = false
    /// Found after normalization, in normalized text.
    var isNormalized = false
  }

  /// How text between added tokens becomes ids.
  enum Model: Sendable, Equatable {
    case wordPiece(WordPiece, BertNormalizer)
    case bytePair(BytePair)
  }

  let addedTokens: [AddedToken]
  let model: Model
  /// Ids put before and after every text.
  let before, after: [Int32]
  /// One more than the highest id.
  public let vocabulary: Int

  init(model: Model, addedTokens: [AddedToken], before: [Int32], after: [Int32], vocabulary: Int) {
    (self.model, self.addedTokens, self.vocabulary) = (model, addedTokens, vocabulary)
    (self.before, self.after) = (before, after)
  }

  /// Whether both have the same tokens and rules between added tokens, and put the same ids around a text.
  public func hasSameVocabulary(as other: Tokenizer) -> Bool {
    model == other.model && before == other.before && after == other.after
  }

  public struct Encoding: Sendable, Equatable {
    public var ids: [Int32]
    /// Tokens left out at the end because the text was too long.
    public var cut: Int
  }

  /// Token ids of `text`, with the special tokens around them, at most `maximum` in all.
  public func encode(_ text: String, maximum: Int) -> Encoding {
    let ids = ids(text)
    let room = max(0, maximum - before.count - after.count)
    return Encoding(ids: before + ids.prefix(room) + after, cut: max(0, ids.count - room))
  }

  /// Token ids of `text` alone.
  public func ids(_ text: String) -> [Int32] {
    var ids: [Int32] = []
    for part in split(text.unicodeScalars.map(\.value), isNormalized: false) {
      switch part {
      case .token(let id): ids.append(id)
      case .text(let raw):
        for part in split(normalize(Array(raw)), isNormalized: true) {
          switch part {
          case .token(let id): ids.append(id)
          case .text(let text): encode(Array(text), into: &ids)
          }
        }
      }
    }
    return ids
  }

  /// The id of a token that is found as it stands, like `<|endoftext|>`; nil when there is none of this text.
  public func addedToken(_ text: String) -> Int32? {
    let codes = text.unicodeScalars.map(\.value)
    return addedTokens.first { $0.text == codes }?.id
  }

  private func normalize(_ text: [UInt32]) -> [UInt32] {
    switch model {
    case .wordPiece(_, let normalizer): normalizer.normalize(text)
    case .bytePair(let model): model.normalizes ? Composition.canonical(text) : text
    }
  }

  private func encode(_ text: [UInt32], into ids: inout [Int32]) {
    switch model {
    case .wordPiece(let model, _): for word in BertNormalizer.words(text) { model.encode(word, into: &ids) }
    case .bytePair(let model): model.encode(text, into: &ids)
    }
  }

  private enum Part {
    case token(Int32)
    case text(ArraySlice<UInt32>)
  }

  /// Cuts added tokens out of `text`: leftmost first, the longest where several start at one place.
  private func split(_ text: [UInt32], isNormalized: Bool) -> [Part] {
    let tokens = addedTokens.filter { $0.isNormalized == isNormalized }
    let starts = Set(tokens.compactMap(\.text.first))
    guard !tokens.isEmpty else { return [.text(text[...])] }
    var parts: [Part] = []
    var start = 0
    var at = 0
    while at < text.count {
      guard starts.contains(text[at]), let token = longestMatch(tokens, text, at) else {
        at += 1
        continue
      }
      var (from, to) = (at, at + token.text.count)
      if token.takesLeftSpace { while from > start, BertNormalizer.isSeparator(text[from - 1]) { from -= 1 } }
      if token.takesRightSpace { while to < text.count, BertNormalizer.isSeparator(text[to]) { to += 1 } }
      if start < from { parts.append(.text(text[start..<from])) }
      parts.append(.token(token.id))
      start = to
      at = to
    }
    if start < text.count { parts.append(.text(text[start...])) }
    return parts
  }

  private func longestMatch(_ tokens: [AddedToken], _ text: [UInt32], _ at: Int) -> AddedToken? {
    let matches = tokens.filter { token in
      guard text[at...].starts(with: token.text) else { return false }
      let end = at + token.text.count
      return !token.isSingleWord || !(at > 0 && isWord(text[at - 1])) && !(end < text.count && isWord(text[end]))
    }
    return matches.max { $0.text.count < $1.text.count }
  }

  private func isWord(_ code: UInt32) -> Bool {
    code == UInt32(UInt8(ascii: "_"))
      || Unicode.Scalar(code).map { $0.properties.isAlphabetic || $0.properties.numericType != nil } ?? false
  }
}
