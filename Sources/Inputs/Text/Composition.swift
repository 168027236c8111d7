/// Unicode normalization form C (Unicode Standard Annex 15): decomposed, then composed again.
enum Composition {
  private static let wholes: [UInt64: UInt32] = {
    let table = UnicodeTables.compositions
    var wholes: [UInt64: UInt32] = [:]
    for at in stride(from: 0, to: table.count, by: 3) { wholes[key(table[at], table[at + 1])] = table[at + 2] }
    return wholes
  }()

  private static func key(_ first: UInt32, _ second: UInt32) -> UInt64 { UInt64(first) << 32 | UInt64(second) }

  /// Form C.
  static func canonical(_ text: [UInt32]) -> [UInt32] {
    // Nothing below the first combining mark changes.
    if text.allSatisfy({ $0 < 0x300 }) { return text }
    return composed(Decomposition.canonical(text))
  }

  /// What was decomposed, composed again.
  static func composed(_ text: [UInt32]) -> [UInt32] {
    var result: [UInt32] = []
    var starter: Int?  // where the last character of class 0 is in `result`
    var highest: UInt32 = 0  // class of the last mark kept after it
    for code in text {
      let order = Decomposition.combiningClass(code)
      if let at = starter, at == result.count - 1 || highest < order, let whole = composed(result[at], code) {
        result[at] = whole
        continue
      }
      if order == 0 {
        starter = result.count
        highest = 0
      } else {
        highest = order
      }
      result.append(code)
    }
    return result
  }

  private static func composed(_ first: UInt32, _ second: UInt32) -> UInt32? {
    // Hangul: a leading consonant and a vowel, then a trailing consonant.
    if (0x1100..<0x1113).contains(first), (0x1161..<0x1176).contains(second) {
      return 0xAC00 + ((first - 0x1100) * 21 + second - 0x1161) * 28
    }
    if (0xAC00..<0xD7A4).contains(first), (first - 0xAC00) % 28 == 0, (0x11A8..<0x11C3).contains(second) {
      return first + second - 0x11A7
    }
    return wholes[key(first, second)]
  }
}
