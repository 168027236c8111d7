/// A set of code points as sorted ranges; membership by binary search, ASCII from a table of its own.
struct CodePointSet: Sendable {
  private let bounds: [UInt32]  // first, last, first, last, …
  private let ascii: [Bool]

  init(ranges: [UInt32]) {
    bounds = ranges
    ascii = (UInt32(0)..<128).map { code in
      stride(from: 0, to: ranges.count, by: 2).contains { ranges[$0] <= code && code <= ranges[$0 + 1] }
    }
  }

  func contains(_ code: UInt32) -> Bool {
    if code < 128 { return ascii[Int(code)] }
    var low = 0
    var high = bounds.count / 2
    while low < high {
      let middle = (low + high) / 2
      if bounds[2 * middle + 1] < code { low = middle + 1 } else { high = middle }
    }
    return low < bounds.count / 2 && bounds[2 * low] <= code
  }
}

/// A map from single code points to short sequences.
struct CodePointMap: Sendable {
  private let parts: [UInt32: [UInt32]]

  /// - Parameter flat: code, count, parts; code, count, parts; …
  init(flat: [UInt32]) {
    var parts: [UInt32: [UInt32]] = [:]
    var at = 0
    while at + 1 < flat.count {
      let count = Int(flat[at + 1])
      parts[flat[at]] = Array(flat[(at + 2)..<(at + 2 + count)])
      at += 2 + count
    }
    self.parts = parts
  }

  subscript(code: UInt32) -> [UInt32]? { parts[code] }
}

extension CodePointSet {
  /// White space of Unicode.
  static let whiteSpace = CodePointSet(ranges: UnicodeTables.separators)
  static let punctuation = CodePointSet(ranges: UnicodeTables.punctuation)
  /// Digits and other numbers.
  static let digits = CodePointSet(ranges: UnicodeTables.digits)
  /// Letters, digits, marks and what joins them.
  static let words = CodePointSet(ranges: UnicodeTables.words)
  /// Combining marks.
  static let marks = CodePointSet(ranges: UnicodeTables.marks)
}

extension CodePointMap {
  static let lowercase = CodePointMap(flat: UnicodeTables.lowercase)
}
