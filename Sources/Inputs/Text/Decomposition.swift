/// Unicode decomposition (Unicode Standard Annex 15), canonical and for compatibility, over the `tokenizers`
/// library's tables.
enum Decomposition {
  private static let parts = CodePointMap(flat: UnicodeTables.decompositions)
  /// Where compatibility goes further than that.
  private static let compatibleParts = CodePointMap(flat: UnicodeTables.compatibleDecompositions)
  private static let classes: [UInt32: UInt32] = {
    let table = UnicodeTables.combiningClasses
    var classes: [UInt32: UInt32] = [:]
    for at in stride(from: 0, to: table.count, by: 3) {
      for code in table[at]...table[at + 1] { classes[code] = table[at + 2] }
    }
    return classes
  }()

  static func combiningClass(_ code: UInt32) -> UInt32 { classes[code] ?? 0 }

  /// Form D.
  static func canonical(_ text: [UInt32]) -> [UInt32] {
    if text.allSatisfy({ $0 < 0xC0 }) { return text }
    return decomposed(text) { parts[$0] }
  }

  /// Form KD.
  static func compatible(_ text: [UInt32]) -> [UInt32] {
    if text.allSatisfy({ $0 < 0xA0 }) { return text }
    return decomposed(text) { compatibleParts[$0] ?? parts[$0] }
  }

  private static func decomposed(_ text: [UInt32], _ parts: (UInt32) -> [UInt32]?) -> [UInt32] {
    var result: [UInt32] = []
    result.reserveCapacity(text.count)
    for code in text {
      if code >= 0xAC00, code <= 0xD7A3 {
        let index = code - 0xAC00
        result += [0x1100 + index / 588, 0x1161 + index % 588 / 28]
        if index % 28 > 0 { result.append(0x11A7 + index % 28) }
      } else if let decomposed = parts(code) {
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
