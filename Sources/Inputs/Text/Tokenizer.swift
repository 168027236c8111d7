import Bytes

/// Text to token ids, exactly as the model's own tokenizer has it: added tokens are cut out, the text between them is
/// normalized, cut into pieces, and each piece becomes ids.
public struct Tokenizer: Sendable, Equatable {
  /// How a piece of text becomes ids.
  enum Model: Sendable, Equatable {
    case wordPiece(WordPiece)
    case bytePair(BytePair)
    case unigram(Unigram)
  }

  let addedTokens: AddedTokens
  var normalizers: [Normalizer]
  let preTokenizers: [PreTokenizer]
  let model: Model
  /// Ids put before and after every text.
  var before, after: [Int32]
  /// One more than the highest id.
  public let vocabulary: Int

  /// Whether both have the same tokens and rules between added tokens, and put the same ids around a text.
  public func hasSameVocabulary(as other: Tokenizer) -> Bool {
    model == other.model && normalizers == other.normalizers && preTokenizers == other.preTokenizers
      && before == other.before && after == other.after
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
    for part in addedTokens.split(text.unicodeScalars.map(\.value), isNormalized: false) {
      switch part {
      case .token(let id): ids.append(id)
      case .text(let raw):
        let text = normalizers.normalize(Array(raw))
        let lead = raw.startIndex == 0 ? self.lead(raw) : 0
        for part in addedTokens.split(text, isNormalized: true) {
          switch part {
          case .token(let id): ids.append(id)
          case .text(let text): encode(Piece(text: text, lead: lead), into: &ids)
          }
        }
      }
    }
    return ids
  }

  /// The id of a token that is found as it stands, like `<|endoftext|>`; nil when there is none of this text.
  public func addedToken(_ text: String) -> Int32? {
    let codes = text.unicodeScalars.map(\.value)
    return addedTokens.tokens.first { $0.text == codes }?.id
  }

  /// How much of the normalized text comes from the first character of `text`: pieces that start there start where the
  /// user's text does. 1 when no step asks.
  private func lead(_ text: ArraySlice<UInt32>) -> Int {
    guard preTokenizers.contains(where: \.asksForTheBeginning) else { return 1 }
    var head = Array(text.prefix(1))
    for (index, step) in normalizers.enumerated() where !head.isEmpty {
      // The first character is not the last, whose spaces are stripped from the right.
      if case .strip(let left, _) = step {
        head = Normalizer.strip(left: left, right: false).normalize(head)
      } else {
        head = step.normalize(head)
      }
      // What follows characters that the map removes takes their place, as in the `tokenizers` library.
      if head.isEmpty, case .characterMap = step {
        head = Array(Array(normalizers[...index]).normalize(Array(text)).prefix(1))
      }
    }
    return head.count
  }

  private func encode(_ text: Piece, into ids: inout [Int32]) {
    var pieces = [text]
    for preTokenizer in preTokenizers where !preTokenizer.isIdle {
      var cut: [Piece] = []
      for piece in pieces { preTokenizer.cut(piece, into: &cut) }
      pieces = cut
    }
    switch model {
    case .wordPiece(let model): for piece in pieces { model.encode(piece.text, into: &ids) }
    case .bytePair(let model): for piece in pieces { model.encode(piece.text, into: &ids) }
    case .unigram(let model): for piece in pieces { model.encode(piece.text, into: &ids) }
    }
  }
}
