/// Tokens that are found in text before the model sees it, like `[SEP]`.
struct AddedTokens: Sendable, Equatable {
  struct Token: Sendable, Equatable {
    /// As it is looked for: normalized already where it is found in normalized text.
    var text: [UInt32]
    var id: Int32
    var isSingleWord = false
    var takesLeftSpace = false
    var takesRightSpace = false
    /// Found after normalization, in normalized text.
    var isNormalized = false
  }

  let tokens: [Token]
  /// Places in `tokens` by text, of those found in raw and in normalized text; nil where there are none.
  private let raw, normalized: ScalarTrie?

  init(_ tokens: [Token]) {
    self.tokens = tokens
    func trie(_ isNormalized: Bool) -> ScalarTrie? {
      var trie = ScalarTrie()
      var isEmpty = true
      for (index, token) in tokens.enumerated() where token.isNormalized == isNormalized && !token.text.isEmpty {
        trie.insert(token.text, Int32(index))
        isEmpty = false
      }
      return isEmpty ? nil : trie
    }
    (raw, normalized) = (trie(false), trie(true))
  }

  static func == (a: AddedTokens, b: AddedTokens) -> Bool { a.tokens == b.tokens }

  enum Part: Equatable {
    case token(Int32)
    case text(ArraySlice<UInt32>)
  }

  /// Cuts tokens out of `text`: leftmost first, the longest where several start at one place. What a token that must
  /// be a single word covers is not searched again.
  func split(_ text: [UInt32], isNormalized: Bool) -> [Part] {
    if text.isEmpty { return [] }
    guard let trie = isNormalized ? normalized : raw else { return [.text(text[...])] }
    var parts: [Part] = []
    var done = 0
    var at = 0
    while at < text.count {
      guard let (index, length) = trie.longestMatch(text[at...]) else {
        at += 1
        continue
      }
      let token = tokens[Int(index)]
      var (from, to) = (at, at + length)
      at = to
      if token.isSingleWord, from > 0 && isWord(text[from - 1]) || to < text.count && isWord(text[to]) { continue }
      if token.takesLeftSpace {
        while from > 0, CodePointSet.whiteSpace.contains(text[from - 1]) { from -= 1 }
        from = max(from, done)
      }
      if token.takesRightSpace { while to < text.count, CodePointSet.whiteSpace.contains(text[to]) { to += 1 } }
      if done < from { parts.append(.text(text[done..<from])) }
      parts.append(.token(token.id))
      done = to
    }
    if done < text.count { parts.append(.text(text[done...])) }
    return parts
  }

  private func isWord(_ code: UInt32) -> Bool { CodePointSet.words.contains(code) }
}
