/// Cuts text into the words that byte-pair encoding works on. GPT-2's pattern,
///
///     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
///
/// and GPT-4's and its descendants', which differ in the digits of one word at most:
///
///     (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
///
/// The alternatives are tried in this order at each place, by hand: there is no general engine to be led astray.
enum WordPattern: Sendable, Equatable {
  case gpt2
  case gpt4(digits: Int)

  static let qwen2 = WordPattern.gpt4(digits: 1)
  static let llama3 = WordPattern.gpt4(digits: 3)

  /// nil for a pattern that is not known.
  init?(pattern: String) {
    func gpt4(_ numbers: String) -> String {
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\(numbers)| "
        + "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
    }
    switch pattern {
    case "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+": self = .gpt2
    case gpt4("\\p{N}"): self = .qwen2
    case gpt4("\\p{N}{1,3}"): self = .llama3
    default: return nil
    }
  }

  private static let letters = CodePointSet(ranges: UnicodeTables.letters)
  private static let numbers = CodePointSet(ranges: UnicodeTables.numbers)
  static let whiteSpace = CodePointSet(ranges: UnicodeTables.whiteSpace)

  private enum Kind: UInt8 { case letter, number, newline, space, other }

  private static func kind(_ code: UInt32) -> Kind {
    if code == 0x0A || code == 0x0D { return .newline }
    if letters.contains(code) { return .letter }
    if numbers.contains(code) { return .number }
    return whiteSpace.contains(code) ? .space : .other
  }

  /// Calls `add` with the range of each word; words cover the text.
  func cut(_ text: ArraySlice<UInt32>, _ add: (Range<Int>) -> Void) {
    let kinds = text.map(WordPattern.kind)
    var start = 0
    while start < kinds.count {
      let end: Int
      switch self {
      case .gpt2: end = gpt2End(text, kinds, start)
      case .gpt4(let digits): end = gpt4End(text, kinds, start, digits)
      }
      add((text.startIndex + start)..<(text.startIndex + end))
      start = end
    }
  }

  private func run(_ kinds: [Kind], _ from: Int, _ holds: (Kind) -> Bool) -> Int {
    var at = from
    while at < kinds.count, holds(kinds[at]) { at += 1 }
    return at
  }

  private func gpt2End(_ text: ArraySlice<UInt32>, _ kinds: [Kind], _ start: Int) -> Int {
    if let end = contraction(text, start, ignoresCase: false) { return end }
    // A plain space goes with the run after it.
    let first = text[text.startIndex + start] == 0x20 && start + 1 < kinds.count ? start + 1 : start
    let kind = kinds[first]
    if kind == .letter || kind == .number || kind == .other { return run(kinds, first) { $0 == kind } }
    return spaceEnd(kinds, start, run(kinds, start) { $0 == .space || $0 == .newline })
  }

  private func gpt4End(_ text: ArraySlice<UInt32>, _ kinds: [Kind], _ start: Int, _ digits: Int) -> Int {
    if let end = contraction(text, start, ignoresCase: true) { return end }
    let next = start + 1 < kinds.count ? kinds[start + 1] : nil
    let kind = kinds[start]
    if kind == .letter || (kind == .space || kind == .other) && next == .letter {
      return run(kinds, start + 1) { $0 == .letter }
    }
    if kind == .number { return min(run(kinds, start) { $0 == .number }, start + digits) }
    if kind == .other || text[text.startIndex + start] == 0x20 && next == .other {
      return run(kinds, run(kinds, start + 1) { $0 == .other }) { $0 == .newline }
    }
    let end = run(kinds, start) { $0 == .space || $0 == .newline }
    if let newline = kinds[start..<end].lastIndex(of: .newline) { return newline + 1 }
    return spaceEnd(kinds, start, end)
  }

  /// Of white space before a word, the last character goes with the word.
  private func spaceEnd(_ kinds: [Kind], _ start: Int, _ end: Int) -> Int {
    end == kinds.count || end == start + 1 ? end : end - 1
  }

  /// The end of `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll` or `'d`.
  private func contraction(_ text: ArraySlice<UInt32>, _ start: Int, ignoresCase: Bool) -> Int? {
    guard text[text.startIndex + start] == 0x27 else { return nil }
    func letter(_ offset: Int) -> Character? {
      let at = text.startIndex + start + offset
      guard at < text.endIndex else { return nil }
      switch text[at] {
      case 0x17F: return ignoresCase ? "s" : nil  // the long s
      case let code where code < 128: return Character(Unicode.Scalar(UInt8(ignoresCase ? code | 0x20 : code)))
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
