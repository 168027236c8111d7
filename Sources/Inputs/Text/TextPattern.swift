/// What a normalizer replaces and a pre-tokenizer splits at: of regular expressions, those that models use.
enum TextPattern: Sendable, Equatable {
  case literal([UInt32])
  /// Runs of one character, or of white space, of at least so many; longest first.
  case run(Member, atLeast: Int)
  /// One character at a time.
  case single(Member)
  case words(WordPattern)

  enum Member: Sendable, Equatable {
    case code(UInt32)
    case whiteSpace

    func contains(_ code: UInt32) -> Bool {
      switch self {
      case .code(let own): own == code
      case .whiteSpace: WordPattern.whiteSpace.contains(code)
      }
    }
  }

  /// nil for an expression that is none of these: a character, an escaped one or `\s`, alone, with `+` or `{N,}`; or a
  /// known pattern of words.
  init?(regex: String) {
    if let words = WordPattern(pattern: regex) {
      self = .words(words)
      return
    }
    var rest = regex.unicodeScalars.map(\.value)[...]
    guard let first = rest.popFirst() else { return nil }
    let member: Member
    let special = Set(".^$*+?()[]{}|".unicodeScalars.map(\.value))
    if first == 0x5C {
      switch rest.popFirst() {
      case 0x73: member = .whiteSpace
      case 0x6E: member = .code(0x0A)
      case 0x72: member = .code(0x0D)
      case 0x74: member = .code(0x09)
      case let code? where special.contains(code) || code == 0x5C: member = .code(code)
      default: return nil
      }
    } else {
      guard !special.contains(first) else { return nil }
      member = .code(first)
    }
    let quantifier = String(String.UnicodeScalarView(rest.compactMap(Unicode.Scalar.init)))
    if quantifier.isEmpty {
      self = .single(member)
    } else if quantifier == "+" {
      self = .run(member, atLeast: 1)
    } else {
      guard quantifier.hasPrefix("{"), quantifier.hasSuffix(",}"), let count = Int(quantifier.dropFirst().dropLast(2)),
        (1...1_000).contains(count)
      else { return nil }
      self = .run(member, atLeast: count)
    }
  }

  /// Where it is found, leftmost first, without overlaps.
  func matches(_ text: ArraySlice<UInt32>) -> [Range<Int>] {
    var found: [Range<Int>] = []
    var at = text.startIndex
    switch self {
    case .words(let words): words.cut(text) { found.append($0) }
    case .single(let member):
      for index in text.indices where member.contains(text[index]) { found.append(index..<(index + 1)) }
    case .literal(let literal):
      while at + literal.count <= text.endIndex {
        if text[at] == literal[0], text[at..<(at + literal.count)].elementsEqual(literal) {
          found.append(at..<(at + literal.count))
          at += literal.count
        } else {
          at += 1
        }
      }
    case .run(let member, let least):
      while at < text.endIndex {
        var end = at
        while end < text.endIndex, member.contains(text[end]) { end += 1 }
        if end - at >= least { found.append(at..<end) }
        at = max(end, at + 1)
      }
    }
    return found
  }
}
