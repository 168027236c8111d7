/// A stretch of normalized text on its way to the model.
struct Piece: Equatable {
  var text: ArraySlice<UInt32>
  /// Pieces that start before this place in their text start where the user's text does.
  var lead = 0

  var isFirst: Bool { text.startIndex < lead }
}

/// One step that cuts normalized text into the pieces that the model works on.
enum PreTokenizer: Sendable, Equatable {
  /// Words between white space; each punctuation character is a word of its own.
  case bert
  case metaspace(Metaspace)
  /// Text between white space.
  case whiteSpaceSplit
  /// Runs of letters, digits and marks, and runs of other characters that are no white space.
  case whiteSpace
  case split(TextPattern, SplitBehaviour, isInverted: Bool)
  case punctuation(SplitBehaviour)
  /// Runs of digits, or each digit alone.
  case digits(isIndividual: Bool)
  /// What byte-level BPE does before it takes text for bytes.
  case byteLevel(addsSpace: Bool, pattern: WordPattern?)

  /// Whether it treats the beginning of the user's text apart.
  var asksForTheBeginning: Bool {
    if case .metaspace(let metaspace) = self { metaspace.prepends == .first } else { false }
  }

  /// Whether every piece stays as it is.
  var isIdle: Bool { self == .byteLevel(addsSpace: false, pattern: nil) }

  /// Appends what `piece` is cut into. Empty pieces are left out.
  func cut(_ piece: Piece, into pieces: inout [Piece]) {
    let text = piece.text
    func add(_ range: Range<Int>) { pieces.append(Piece(text: text[range], lead: piece.lead)) }
    switch self {
    case .bert: for word in BertNormalizer.words(text) { add(word.indices) }
    case .metaspace(let metaspace): metaspace.cut(piece, into: &pieces)
    case .whiteSpaceSplit: SplitBehaviour.removed.cut(text, singles(text, CodePointSet.whiteSpace), add)
    case .whiteSpace: runs(text, add)
    case .split(let pattern, let behaviour, let isInverted):
      // A pattern of words covers the text whole.
      if case .words(let words) = pattern, behaviour == .isolated, !isInverted {
        words.cut(text, add)
      } else {
        behaviour.cut(text, pattern.matches(text), isInverted: isInverted, add)
      }
    case .punctuation(let behaviour): behaviour.cut(text, singles(text, CodePointSet.punctuation), add)
    case .digits(let isIndividual):
      let behaviour: SplitBehaviour = isIndividual ? .isolated : .contiguous
      behaviour.cut(text, singles(text, CodePointSet.digits), add)
    case .byteLevel(let addsSpace, let pattern):
      guard addsSpace, text.first != 0x20 else {
        if let pattern { pattern.cut(text, add) } else { add(text.indices) }
        return
      }
      let spaced = Piece(text: [0x20] + text, lead: piece.isFirst ? piece.lead - text.startIndex + 1 : 0)
      PreTokenizer.byteLevel(addsSpace: false, pattern: pattern).cut(spaced, into: &pieces)
    }
  }

  private func singles(_ text: ArraySlice<UInt32>, _ set: CodePointSet) -> [Range<Int>] {
    text.indices.filter { set.contains(text[$0]) }.map { $0..<($0 + 1) }
  }

  private func runs(_ text: ArraySlice<UInt32>, _ add: (Range<Int>) -> Void) {
    func kind(_ code: UInt32) -> Int {
      CodePointSet.words.contains(code) ? 1 : CodePointSet.whiteSpace.contains(code) ? 0 : 2
    }
    var start = text.startIndex
    while start < text.endIndex {
      let first = kind(text[start])
      var end = start + 1
      while end < text.endIndex, kind(text[end]) == first { end += 1 }
      if first > 0 { add(start..<end) }
      start = end
    }
  }
}

/// What becomes of a text's delimiters where it is split.
enum SplitBehaviour: String, Sendable, CaseIterable {
  case removed = "Removed"
  case isolated = "Isolated"
  case mergedWithPrevious = "MergedWithPrevious"
  case mergedWithNext = "MergedWithNext"
  case contiguous = "Contiguous"

  /// Calls `add` with the range of each part.
  ///
  /// - Parameters:
  ///   - matches: the delimiters, in order; with `isInverted` what lies between them is.
  func cut(
    _ text: ArraySlice<UInt32>, _ matches: [Range<Int>], isInverted: Bool = false, _ add: (Range<Int>) -> Void
  ) {
    var parts: [(range: Range<Int>, isMatch: Bool)] = []
    var done = text.startIndex
    for match in matches {
      if done < match.lowerBound { parts.append((done..<match.lowerBound, isInverted)) }
      parts.append((match, !isInverted))
      done = match.upperBound
    }
    if done < text.endIndex { parts.append((done..<text.endIndex, isInverted)) }
    for range in joined(parts) { add(range) }
  }

  private func joined(_ parts: [(range: Range<Int>, isMatch: Bool)]) -> [Range<Int>] {
    var result: [Range<Int>] = []
    var wasMatch = false
    switch self {
    case .removed: return parts.filter { !$0.isMatch }.map(\.range)
    case .isolated: return parts.map(\.range)
    case .contiguous:
      for part in parts {
        if part.isMatch == wasMatch, let last = result.popLast() {
          result.append(last.lowerBound..<part.range.upperBound)
        } else {
          result.append(part.range)
        }
        wasMatch = part.isMatch
      }
    case .mergedWithPrevious:
      for part in parts {
        if part.isMatch, !wasMatch, let last = result.popLast() {
          result.append(last.lowerBound..<part.range.upperBound)
        } else {
          result.append(part.range)
        }
        wasMatch = part.isMatch
      }
    case .mergedWithNext:
      for part in parts.reversed() {
        if part.isMatch, !wasMatch, let last = result.popLast() {
          result.append(part.range.lowerBound..<last.upperBound)
        } else {
          result.append(part.range)
        }
        wasMatch = part.isMatch
      }
      result.reverse()
    }
    return result
  }
}

/// SentencePiece's spelling of spaces: each becomes a mark that goes with the word after it, and the text may get one
/// in front.
struct Metaspace: Sendable, Equatable {
  enum Prepends: String, Sendable, CaseIterable {
    case always, never
    /// At the beginning of the user's text alone, not after an added token.
    case first
  }

  var mark: UInt32 = 0x2581
  var prepends = Prepends.always
  var isSplit = true

  func cut(_ piece: Piece, into pieces: inout [Piece]) {
    var text: [UInt32] = []
    text.reserveCapacity(piece.text.count + 1)
    var lead = piece.isFirst ? piece.lead - piece.text.startIndex : 0
    let isMarked = piece.text.first.map { $0 == mark || $0 == 0x20 } ?? false
    if !isMarked, prepends == .always || prepends == .first && piece.isFirst {
      text.append(mark)
      lead += piece.isFirst ? 1 : 0
    }
    for code in piece.text { text.append(code == 0x20 ? mark : code) }
    guard isSplit else { return pieces.append(Piece(text: text[...], lead: lead)) }
    var start = 0
    for end in text.indices.dropFirst() where text[end] == mark {
      pieces.append(Piece(text: text[start..<end], lead: lead))
      start = end
    }
    pieces.append(Piece(text: text[start...], lead: lead))
  }
}
