/// BERT's text cleaning: control characters out, spaces made plain, ideographs set apart, accents and case removed.
/// Equal to `BertNormalizer` and `BertPreTokenizer` of the `tokenizers` library for every Unicode text.
struct BertNormalizer: Sendable {
  var cleansText = true
  var separatesIdeographs = true
  var stripsAccents = true
  var lowercases = true

  private static let removed = CodePointSet(ranges: UnicodeTables.removed)
  private static let spaces = CodePointSet(ranges: UnicodeTables.spaces)
  private static let ideographs = CodePointSet(ranges: UnicodeTables.ideographs)
  private static let nonspacingMarks = CodePointSet(ranges: UnicodeTables.nonspacingMarks)
  private static let punctuation = CodePointSet(ranges: UnicodeTables.punctuation)
  private static let separators = CodePointSet(ranges: UnicodeTables.separators)
  private static let lowercase = CodePointMap(flat: UnicodeTables.lowercase)

  func normalize(_ text: [UInt32]) -> [UInt32] {
    var text = text
    if cleansText { text = text.compactMap { Self.removed.contains($0) ? nil : Self.spaces.contains($0) ? 0x20 : $0 } }
    if separatesIdeographs { text = text.flatMap { Self.ideographs.contains($0) ? [0x20, $0, 0x20] : [$0] } }
    if stripsAccents { text = Decomposition.canonical(text).filter { !Self.nonspacingMarks.contains($0) } }
    if lowercases { text = text.flatMap { Self.lowercase[$0] ?? [$0] } }
    return text
  }

  /// Whether `code` parts words: white space in the sense of the pre-tokenizer.
  static func isSeparator(_ code: UInt32) -> Bool { separators.contains(code) }

  /// Words between spaces; each punctuation character is a word of its own.
  static func words(_ text: [UInt32]) -> [ArraySlice<UInt32>] {
    var words: [ArraySlice<UInt32>] = []
    var start = 0
    for (index, code) in text.enumerated() {
      let isSpace = separators.contains(code)
      guard isSpace || punctuation.contains(code) else { continue }
      if start < index { words.append(text[start..<index]) }
      if !isSpace { words.append(text[index...index]) }
      start = index + 1
    }
    if start < text.count { words.append(text[start...]) }
    return words
  }
}

/// Unicode canonical decomposition (Unicode Standard Annex 15) over the `tokenizers` library's tables.
enum Decomposition {
  private static let parts = CodePointMap(flat: UnicodeTables.decompositions)
  private static let classes: [UInt32: UInt32] = {
    let table = UnicodeTables.combiningClasses
    var classes: [UInt32: UInt32] = [:]
    for at in stride(from: 0, to: table.count, by: 3) {
      for code in table[at]...table[at + 1] { classes[code] = table[at + 2] }
    }
    return classes
  }()

  static func canonical(_ text: [UInt32]) -> [UInt32] {
    if text.allSatisfy({ $0 < 0xC0 }) { return text }
    var result: [UInt32] = []
    result.reserveCapacity(text.count)
    for code in text {
      if code >= 0xAC00, code <= 0xD7A3 {
        let index = code - 0xAC00
        result += [0x1100 + index / 588, 0x1161 + index % 588 / 28]
        if index % 28 > 0 { result.append(0x11A7 + index % 28) }
      } else if let decomposed = parts[code] {
        result += decomposed
      } else {
        result.append(code)
      }
    }
    order(&result)
    return result
  }

  /// Sorts each run of marks by combining class, keeping the order of equals.
  private static func order(_ text: inout [UInt32]) {
    var start = 0
    while start < text.count {
      guard classes[text[start]] != nil else {
        start += 1
        continue
      }
      var end = start
      while end < text.count, classes[text[end]] != nil { end += 1 }
      if end - start > 1 {
        let run = text[start..<end].enumerated().map { (classes[$0.element] ?? 0, $0.offset, $0.element) }
        for (offset, item) in run.sorted(by: { ($0.0, $0.1) < ($1.0, $1.1) }).enumerated() {
          text[start + offset] = item.2
        }
      }
      start = end
    }
  }
}
