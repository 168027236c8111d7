import Bytes

/// Byte-pair encoding (Sennrich et al. 2016): a word starts as its smallest tokens, and the pair with the lowest rank
/// is merged until no pair has one.
struct BytePair: Sendable, Equatable {
  /// What a word starts as.
  enum Alphabet: Sendable, Equatable {
    /// Its bytes, each with a token (Radford et al. 2019).
    case bytes([Int32])
    /// Its characters (SentencePiece).
    case characters(Characters)
  }

  struct Characters: Sendable, Equatable {
    var tokens: [UInt32: Int32]
    /// The token of each byte, for characters without a token of their own; empty when the file does not ask for it.
    var bytes: [Int32?]
    /// For the others; without one they are left out.
    var unknown: Int32?
    /// Whether unknown characters side by side are one token.
    var fusesUnknown: Bool
  }

  private struct Merge: Equatable {
    let rank: Int32
    let id: Int32
  }

  private let alphabet: Alphabet
  private let merges: [UInt64: Merge]
  /// Words that are tokens as they stand, where the file says that merges are ignored for them.
  private let whole: [[UInt8]: Int32]

  /// - Parameters:
  ///   - pieces: tokens as bytes.
  ///   - merges: pairs of tokens, best first.
  /// - Throws: `malformed` when a merge names tokens that are not there.
  init(
    alphabet: Alphabet, pieces: [[UInt8]: Int32], merges pairs: [(left: [UInt8], right: [UInt8])], ignoresMerges: Bool
  ) throws(Failure) {
    var merges: [UInt64: Merge] = [:]
    merges.reserveCapacity(pairs.count)
    for (rank, pair) in pairs.enumerated() {
      guard let left = pieces[pair.left], let right = pieces[pair.right], let id = pieces[pair.left + pair.right] else {
        throw Failure(
          .malformed,
          "merge \(rank) of \(Failure.quoted(pair.left)) and \(Failure.quoted(pair.right)) is not in the vocabulary")
      }
      // Of a pair given twice the last counts.
      merges[BytePair.key(left, right)] = Merge(rank: Int32(rank), id: id)
    }
    self.alphabet = alphabet
    self.merges = merges
    whole = ignoresMerges ? pieces : [:]
  }

  /// - Throws: `malformed` when a byte has no token.
  static func bytes(_ pieces: [[UInt8]: Int32]) throws(Failure) -> Alphabet {
    var bytes: [Int32] = []
    for byte in UInt8.min...UInt8.max {
      guard let id = pieces[[byte]] else { throw Failure(.malformed, "byte \(byte) has no token in the vocabulary") }
      bytes.append(id)
    }
    return .bytes(bytes)
  }

  private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
  }

  /// Appends the ids of one word.
  func encode(_ word: ArraySlice<UInt32>, into ids: inout [Int32]) {
    switch alphabet {
    case .bytes(let bytes):
      var raw: [UInt8] = []
      for code in word { appendUTF8(code, to: &raw) }
      if let id = whole[raw] { ids.append(id) } else { merge(raw.map { bytes[Int($0)] }, into: &ids) }
    case .characters(let characters):
      if !whole.isEmpty {
        var raw: [UInt8] = []
        for code in word { appendUTF8(code, to: &raw) }
        if let id = whole[raw] { return ids.append(id) }
      }
      merge(characters.tokens(of: word), into: &ids)
    }
  }

  /// A pair that can be merged, and the tokens it was made of when it was found.
  private struct Candidate: Comparable {
    let rank: Int32
    let at: Int
    let left, right, id: Int32

    static func < (a: Candidate, b: Candidate) -> Bool { (a.rank, a.at) < (b.rank, b.at) }
  }

  /// - Cost: n log n for a word of n bytes, so that no word is a trap.
  private func merge(_ start: [Int32], into ids: inout [Int32]) {
    var tokens = start  // -1 where a token has gone into its left neighbour
    var next = Array(1..<max(tokens.count, 1) + 1)
    var previous = Array(-1..<max(tokens.count, 1) - 1)
    var queue = Heap<Candidate>()
    func consider(_ at: Int) {
      guard at >= 0, next[at] < tokens.count else { return }
      let (left, right) = (tokens[at], tokens[next[at]])
      guard let merge = merges[BytePair.key(left, right)] else { return }
      queue.insert(Candidate(rank: merge.rank, at: at, left: left, right: right, id: merge.id))
    }
    for at in tokens.indices.dropLast() { consider(at) }
    while let best = queue.removeFirst() {
      let right = next[best.at]
      guard tokens[best.at] == best.left, right < tokens.count, tokens[right] == best.right else { continue }
      tokens[best.at] = best.id
      tokens[right] = -1
      next[best.at] = next[right]
      if next[right] < tokens.count { previous[next[right]] = best.at }
      consider(previous[best.at])
      consider(best.at)
    }
    for token in tokens where token >= 0 { ids.append(token) }
  }
}

extension BytePair.Characters {
  /// The tokens that a word starts as. An unknown character waits for a known one, as in the `tokenizers` library: the
  /// bytes of characters between go before it.
  fileprivate func tokens(of word: ArraySlice<UInt32>) -> [Int32] {
    var result: [Int32] = []
    result.reserveCapacity(word.count)
    var waiting = false
    for code in word {
      if let id = tokens[code] {
        if waiting, let unknown { result.append(unknown) }
        waiting = false
        result.append(id)
        continue
      }
      if !bytes.isEmpty {
        var raw: [UInt8] = []
        appendUTF8(code, to: &raw)
        let ids = raw.compactMap { bytes[Int($0)] }
        if ids.count == raw.count {
          result += ids
          continue
        }
      }
      if waiting, !fusesUnknown, let unknown { result.append(unknown) }
      waiting = true
    }
    if waiting, let unknown { result.append(unknown) }
    return result
  }
}

/// A binary heap: the smallest comes out first.
private struct Heap<Element: Comparable> {
  private var elements: [Element] = []

  mutating func insert(_ element: Element) {
    elements.append(element)
    var at = elements.count - 1
    while at > 0, elements[at] < elements[(at - 1) / 2] {
      elements.swapAt(at, (at - 1) / 2)
      at = (at - 1) / 2
    }
  }

  mutating func removeFirst() -> Element? {
    guard let first = elements.first, let last = elements.popLast() else { return nil }
    guard !elements.isEmpty else { return first }
    elements[0] = last
    var at = 0
    while true {
      let children = (2 * at + 1)..<min(2 * at + 3, max(elements.count, 2 * at + 1))
      guard let least = children.min(by: { elements[$0] < elements[$1] }), elements[least] < elements[at] else {
        return first
      }
      elements.swapAt(at, least)
      at = least
    }
  }
}

/// The characters that stand for bytes in a vocabulary of byte-level BPE: printable Latin-1 for itself, others from
/// U+0100 on.
enum ByteCharacters {
  private static let codes: [UInt32: UInt8] = {
    var codes: [UInt32: UInt8] = [:]
    var next: UInt32 = 256
    for byte in UInt8.min...UInt8.max {
      switch byte {
      case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: codes[UInt32(byte)] = byte
      default:
        codes[next] = byte
        next += 1
      }
    }
    return codes
  }()

  /// The bytes that a token's text stands for; nil when it has other characters.
  static func bytes(_ text: [UInt8]) -> [UInt8]? {
    var result: [UInt8] = []
    for scalar in String(decoding: text, as: UTF8.self).unicodeScalars {
      guard let byte = codes[scalar.value] else { return nil }
      result.append(byte)
    }
    return result
  }
}
