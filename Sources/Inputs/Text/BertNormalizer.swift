/// BERT's text cleaning: control characters out, spaces made plain, ideographs set apart, accents and case removed.
/// Equal to `BertNormalizer` and `BertPreTokenizer` of the `tokenizers` library for every Unicode text.
struct BertNormalizer: Sendable, Equatable {
  var cleansText = true
  var separatesIdeographs = true
  var stripsAccents = true
  var lowercases = true

  private static let removed = CodePointSet(ranges: UnicodeTables.removed)
  private static let spaces = CodePointSet(ranges: UnicodeTables.spaces)
  private static let ideographs = CodePointSet(ranges: UnicodeTables.ideographs)
  private static let nonspacingMarks = CodePointSet(ranges: UnicodeTables.nonspacingMarks)

  func normalize(_ text: [UInt32]) -> [UInt32] {
    var text = text
    if cleansText { text = text.compactMap { Self.removed.contains($0) ? nil : Self.spaces.contains($0) ? 0x20 : $0 } }
    if separatesIdeographs { text = text.flatMap { Self.ideographs.contains($0) ? [0x20, $0, 0x20] : [$0] } }
    if stripsAccents { text = Decomposition.canonical(text).filter { !Self.nonspacingMarks.contains($0) } }
    if lowercases { text = text.flatMap { CodePointMap.lowercase[$0] ?? [$0] } }
    return text
  }

  /// Words between spaces; each punctuation character is a word of its own.
  static func words(_ text: ArraySlice<UInt32>) -> [ArraySlice<UInt32>] {
    var words: [ArraySlice<UInt32>] = []
    var start = text.startIndex
    for index in text.indices {
      let isSpace = CodePointSet.whiteSpace.contains(text[index])
      guard isSpace || CodePointSet.punctuation.contains(text[index]) else { continue }
      if start < index { words.append(text[start..<index]) }
      if !isSpace { words.append(text[index...index]) }
      start = index + 1
    }
    if start < text.endIndex { words.append(text[start...]) }
    return words
  }
}
