/// One step that rewrites text before it is cut into pieces.
enum Normalizer: Sendable, Equatable {
  case bert(BertNormalizer)
  case characterMap(CharacterMap)
  case unicode(UnicodeForm)
  case lowercase
  /// White space away at the ends.
  case strip(left: Bool, right: Bool)
  /// Combining marks away.
  case stripAccents
  case replace(TextPattern, [UInt32])
  case prepend([UInt32])
  /// Control characters away, other spaces made plain, as machine translation needs it.
  case nmt

  /// - Parameter text: not empty.
  func normalize(_ text: [UInt32]) -> [UInt32] {
    switch self {
    case .bert(let normalizer): return normalizer.normalize(text)
    case .characterMap(let map): return map.normalize(text)
    case .unicode(let form): return form.normalize(text)
    case .lowercase: return text.flatMap { CodePointMap.lowercase[$0] ?? [$0] }
    case .strip(let left, let right):
      var rest = text[...]
      if left { rest = rest.drop(while: CodePointSet.whiteSpace.contains) }
      if right { while let last = rest.last, CodePointSet.whiteSpace.contains(last) { rest.removeLast() } }
      return Array(rest)
    case .stripAccents: return text.filter { !CodePointSet.marks.contains($0) }
    case .replace(let pattern, let content): return replace(text, pattern, content)
    case .prepend(let content): return text.isEmpty ? text : content + text
    case .nmt: return text.compactMap(Normalizer.nmt)
    }
  }

  private func replace(_ text: [UInt32], _ pattern: TextPattern, _ content: [UInt32]) -> [UInt32] {
    // The usual case, a space for a mark, needs no list of places.
    if case .literal(let literal) = pattern, literal.count == 1, content.count == 1 {
      return text.map { $0 == literal[0] ? content[0] : $0 }
    }
    let places = pattern.matches(text[...])
    if places.isEmpty { return text }
    var result: [UInt32] = []
    var done = 0
    for place in places {
      result += text[done..<place.lowerBound]
      result += content
      done = place.upperBound
    }
    return result + text[done...]
  }

  private static func nmt(_ code: UInt32) -> UInt32? {
    switch code {
    case 1...8, 0xB, 0xE...0x1F, 0x7F, 0x8F, 0x9F: nil
    case 9, 0xA, 0xC, 0xD, 0x1680, 0x200B...0x200F, 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD: 0x20
    default: code
    }
  }
}

extension [Normalizer] {
  /// The text after all steps, in their order.
  func normalize(_ text: [UInt32]) -> [UInt32] {
    var text = text
    for step in self where !text.isEmpty { text = step.normalize(text) }
    return text
  }
}

/// Unicode's normalization forms (Unicode Standard Annex 15).
enum UnicodeForm: String, Sendable, CaseIterable {
  case composed = "NFC"
  case decomposed = "NFD"
  case compatibleComposed = "NFKC"
  case compatibleDecomposed = "NFKD"

  func normalize(_ text: [UInt32]) -> [UInt32] {
    switch self {
    case .composed: Composition.canonical(text)
    case .decomposed: Decomposition.canonical(text)
    case .compatibleComposed: Composition.composed(Decomposition.compatible(text))
    case .compatibleDecomposed: Decomposition.compatible(text)
    }
  }
}
