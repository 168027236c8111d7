/// WordPiece (Schuster and Nakajima 2012; as BERT uses it): a word becomes the longest pieces the vocabulary has, from
/// the left; a word that cannot be covered becomes the unknown token.
struct WordPiece: Sendable, Equatable {
  let pieces: [[UInt8]: Int32]
  let unknown: Int32
  let continuingPrefix: [UInt8]
  /// Words of more characters than this become the unknown token.
  let longestWord: Int
  private let longestPiece: Int

  init(pieces: [[UInt8]: Int32], unknown: Int32, continuingPrefix: [UInt8], longestWord: Int) {
    self.pieces = pieces
    self.unknown = unknown
    self.continuingPrefix = continuingPrefix
    self.longestWord = longestWord
    longestPiece = pieces.keys.map(\.count).max() ?? 0
  }

  /// Appends the ids of one word's pieces.
  func encode(_ word: ArraySlice<UInt32>, into ids: inout [Int32]) {
    guard word.count <= longestWord else { return ids.append(unknown) }
    let first = ids.count
    var text = continuingPrefix
    var ends: [Int] = [text.count]  // where each character of the word starts in `text`, and the end
    for code in word {
      appendUTF8(code, to: &text)
      ends.append(text.count)
    }
    var start = 0
    while start < word.count {
      var end = word.count
      var match: Int32?
      // The piece is text[from..<ends[end]]; a continuing piece gets the prefix in the place of what was used up.
      if start > 0 {
        let from = ends[start] - continuingPrefix.count
        text.replaceSubrange(from..<ends[start], with: continuingPrefix)
        while end > start, match == nil {
          if ends[end] - from <= longestPiece { match = pieces[Array(text[from..<ends[end]])] }
          if match == nil { end -= 1 }
        }
      } else {
        while end > start, match == nil {
          if ends[end] - ends[0] <= longestPiece { match = pieces[Array(text[ends[0]..<ends[end]])] }
          if match == nil { end -= 1 }
        }
      }
      guard let match else {
        ids.removeSubrange(first...)
        return ids.append(unknown)
      }
      ids.append(match)
      start = end
    }
  }
}
