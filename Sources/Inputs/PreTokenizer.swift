/// Cuts text into the words that byte-pair encoding works on, as GPT-4's pattern and its descendants do:
///
///     (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
///
/// The alternatives are tried in this order at each place, by hand: there is no general engine to be led astray.
struct PreTokenizer: Sendable, Equatable {
  /// Digits of one word at most: 1 for Qwen2, 3 for Llama 3.
  let digits: Int

  /// The known patterns.
  private static func pattern(_ numbers: String) -> String {
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\(numbers)| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
  }

  static let qwen2 = PreTokenizer(digits: 1)

  init(digits: Int) { self.digits = digits }

  /// nil for a pattern that is not known.
  init?(pattern: String) {
    switch pattern {
    case PreTokenizer.pattern("\\p{N}"): digits = 1
    case PreTokenizer.pattern("\\p{N}{1,3}"): digits = 3
    default: return nil
    }
  }

  private static let letters = CodePointSet(ranges: UnicodeTables.letters)
  private static let numbers = CodePointSet(ranges: UnicodeTables.numbers)
  private static let whiteSpace = CodePointSet(ranges: UnicodeTables.whiteSpace)

  private enum Kind: UInt8 { case letter, number, newline, space, other }

  private static func kind(_ code: UInt32) -> Kind {
    if code == 0x0A || code == 0x0D { return .newline }
    if letters.contains(code) { return .letter }
    if numbers.contains(code) { return .number }
    return whiteSpace.contains(code) ? .space : .other
  }

  func words(_ text: [UInt32]) -> [ArraySlice<UInt32>] {
    let kinds = text.map(PreTokenizer.kind)
    var words: [ArraySlice<UInt32>] = []
    var start = 0
    while start < text.count {
      let end = wordEnd(text, kinds, start)
      words.append(text[start..<end])
      start = end
    }
    return words
  }

  private func wordEnd(_ text: [UInt32], _ kinds: [Kind], _ start: Int) -> Int {
    func run(_ from: Int, _ holds: (Kind) -> Bool) -> Int {
      var at = from
      while at < kinds.count, holds(kinds[at]) { at += 1 }
      return at
    }
    if let end = contraction(text, start) { return end }
    let next = start + 1 < kinds.count ? kinds[start + 1] : nil
    let kind = kinds[start]
    if kind == .letter || (kind == .space || kind == .other) && next == .letter {
      return run(start + 1) { $0 == .letter }
    }
    if kind == .number { return min(run(start) { $0 == .number }, start + digits) }
    if kind == .other || text[start] == 0x20 && next == .other {
      return run(run(start + 1) { $0 == .other }) { $0 == .newline }
    }
    let end = run(start) { $0 == .space || $0 == .newline }
    if let newline = kinds[start..<end].lastIndex(of: .newline) { return newline + 1 }
    // Of white space before a word, the last character goes with the word.
    return end == kinds.count || end == start + 1 ? end : end - 1
  }

  /// The end of `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll` or `'d` in any case.
  private func contraction(_ text: [UInt32], _ start: Int) -> Int? {
    guard text[start] == 0x27 else { return nil }
    func letter(_ offset: Int) -> Character? {
      guard start + offset < text.count else { return nil }
      switch text[start + offset] {
      case 0x17F: return "s"  // the long s
      case let code where code < 128: return Character(Unicode.Scalar(UInt8(code | 0x20)))
      default: return nil
      }
    }
    switch (letter(1), letter(2)) {
    case ("s", _), ("t", _), ("m", _), ("d", _): return start + 2
    case ("r", "e"), ("v", "e"), ("l", "l"): return start + 3
    default: return nil
    }
  }
}
