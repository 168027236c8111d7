/// Characters as readers see them (extended grapheme clusters, Unicode Standard Annex 29), as the `tokenizers` library
/// has them.
enum GraphemeCluster {
  private static let extending = CodePointSet(ranges: UnicodeTables.extending)
  private static let joinable = CodePointSet(ranges: UnicodeTables.joinable)
  private static let prepended = CodePointSet(ranges: UnicodeTables.prepended)
  private static let controls = CodePointSet(ranges: UnicodeTables.controls)
  private static let pictographs = CodePointSet(ranges: UnicodeTables.pictographs)
  private static let consonants = CodePointSet(ranges: UnicodeTables.conjunctConsonants)
  private static let linkers = CodePointSet(ranges: UnicodeTables.conjunctLinkers)
  private static let conjunctExtending = CodePointSet(ranges: UnicodeTables.conjunctExtending)
  private static let joiner: UInt32 = 0x200D

  /// Where the cluster that begins at `start` ends.
  static func end(_ text: [UInt32], _ start: Int) -> Int {
    var end = start + 1
    // Below U+0300 only a line's end is of two.
    if end == text.count || text[start] < 0x300 && text[end] < 0x300 {
      return end < text.count && text[start] == 0x0D && text[end] == 0x0A ? end + 1 : end
    }
    var flags = 0
    var emoji = Emoji.none
    var conjunct = Conjunct.none
    while true {
      let last = text[end - 1]
      if isFlag(last) { flags += 1 }
      emoji.take(last)
      conjunct.take(last)
      guard end < text.count, isJoined(last, text[end], flags: flags, emoji, conjunct) else { return end }
      end += 1
    }
  }

  private static func isJoined(
    _ left: UInt32, _ right: UInt32, flags: Int, _ emoji: Emoji, _ conjunct: Conjunct
  ) -> Bool {
    if left == 0x0D && right == 0x0A { return true }
    if controls.contains(left) || controls.contains(right) { return false }
    if extending.contains(right) || prepended.contains(left) || isSyllable(left, right) { return true }
    if emoji == .joined, pictographs.contains(right) { return true }
    if conjunct == .linked, consonants.contains(right) { return true }
    return isFlag(left) && isFlag(right) && flags % 2 == 1
  }

  private static func isFlag(_ code: UInt32) -> Bool { (0x1F1E6...0x1F1FF).contains(code) }

  /// A pictograph, marks, and a joiner, seen so far.
  private enum Emoji {
    case none, open, joined

    mutating func take(_ code: UInt32) {
      if pictographs.contains(code) {
        self = .open
      } else if self == .open, code == joiner {
        self = .joined
      } else if self != .open || !joinable.contains(code) {
        self = .none
      }
    }
  }

  /// An Indic consonant and the sign that links it to the next, seen so far.
  private enum Conjunct {
    case none, open, linked

    mutating func take(_ code: UInt32) {
      if consonants.contains(code) {
        self = .open
      } else if self != .none, linkers.contains(code) {
        self = .linked
      } else if self != .none, !conjunctExtending.contains(code) {
        self = .none
      }
    }
  }

  // MARK: Hangul

  private enum Jamo { case leading, vowel, trailing, open, closed, none }

  private static func jamo(_ code: UInt32) -> Jamo {
    switch code {
    case 0x1100...0x115F, 0xA960...0xA97C: .leading
    case 0x1160...0x11A7, 0xD7B0...0xD7C6: .vowel
    case 0x11A8...0x11FF, 0xD7CB...0xD7FB: .trailing
    case 0xAC00...0xD7A3: (code - 0xAC00) % 28 == 0 ? .open : .closed
    default: .none
    }
  }

  private static func isSyllable(_ left: UInt32, _ right: UInt32) -> Bool {
    guard left >= 0x1100, right >= 0x1100 else { return false }
    return switch (jamo(left), jamo(right)) {
    case (.leading, .leading), (.leading, .vowel), (.leading, .open), (.leading, .closed): true
    case (.open, .vowel), (.vowel, .vowel), (.open, .trailing), (.vowel, .trailing): true
    case (.closed, .trailing), (.trailing, .trailing): true
    default: false
    }
  }
}
