import Bytes

/// SentencePiece's Unigram model (Kudo 2018): of all ways to cut a text into pieces, the one whose scores sum to most.
struct Unigram: Sendable, Equatable {
  private let trie: ScalarTrie
  private let scores: [Double]
  private let unknown: Int32
  /// A character without a piece costs this: 10 less than the worst piece.
  private let unknownScore: Double
  /// The piece of each byte, for characters without a piece; empty when the file does not ask for it.
  private let bytes: [Int32?]

  /// - Throws: `malformed` for a piece given twice, or scores that are no numbers.
  init(pieces: [(text: [UInt8], score: Double)], unknown: Int32, fallsBackToBytes: Bool) throws(Failure) {
    var trie = ScalarTrie()
    var bytes = [Int32?](repeating: nil, count: fallsBackToBytes ? 256 : 0)
    for (id, piece) in pieces.enumerated() {
      guard piece.score.isFinite else {
        throw Failure(.malformed, "the score of piece \(Failure.quoted(piece.text)) is no finite number")
      }
      // An empty piece covers nothing and is never found.
      guard !piece.text.isEmpty else { continue }
      guard trie.insert(scalars(piece.text), Int32(id)) else {
        throw Failure(.malformed, "piece \(Failure.quoted(piece.text)) twice")
      }
      if fallsBackToBytes, let byte = BytePiece.byte(piece.text) { bytes[Int(byte)] = Int32(id) }
    }
    self.trie = trie
    self.bytes = bytes
    self.unknown = unknown
    scores = pieces.map(\.score)
    unknownScore = (scores.min() ?? 0) - 10
  }

  /// The best way to cover the text up to one place: its score, and its last piece.
  private struct Path {
    var score = 0.0
    var start: Int32 = -1
    var id: Int32 = 0
  }

  /// Appends the ids of `text`. Of ways with equal scores the one found first stays: the one whose last piece begins
  /// first.
  ///
  /// - Cost: proportional to the text's length times the longest piece.
  func encode(_ text: ArraySlice<UInt32>, into ids: inout [Int32]) {
    var best = [Path](repeating: Path(), count: text.count + 1)
    for start in 0..<text.count {
      let score = best[start].score
      func offer(_ end: Int, _ added: Double, _ id: Int32) {
        let candidate = score + added
        guard best[end].start < 0 || candidate > best[end].score else { return }
        best[end] = Path(score: candidate, start: Int32(start), id: id)
      }
      var node = ScalarTrie.root
      var end = start
      var coversOne = false
      while end < text.count, let next = trie.child(node, text[text.startIndex + end]) {
        node = next
        end += 1
        let id = trie.values[Int(node)]
        guard id >= 0 else { continue }
        offer(end, scores[Int(id)], id)
        if end == start + 1 { coversOne = true }
      }
      if !coversOne { offer(start + 1, unknownScore, unknown) }
    }
    collect(text, best, into: &ids)
  }

  /// Follows the best path back from the end. Unknown characters side by side are one unknown token.
  private func collect(_ text: ArraySlice<UInt32>, _ best: [Path], into ids: inout [Int32]) {
    var reversed: [Int32] = []
    var end = text.count
    while end > 0 {
      let path = best[end]
      var start = Int(path.start)
      if path.id == unknown {
        while start > 0, best[start].id == unknown { start = Int(best[start].start) }
        reversed += unknownIDs(text[(text.startIndex + start)..<(text.startIndex + end)]).reversed()
      } else {
        reversed.append(path.id)
      }
      end = start
    }
    ids += reversed.reversed()
  }

  /// Characters that no piece covers, as their bytes where all of these have a piece. (Side by side they may be a piece
  /// that lost to its characters.)
  private func unknownIDs(_ text: ArraySlice<UInt32>) -> [Int32] {
    if let id = trie[text] { return [id] }
    guard !bytes.isEmpty else { return [unknown] }
    var raw: [UInt8] = []
    for code in text { appendUTF8(code, to: &raw) }
    let ids = raw.compactMap { bytes[Int($0)] }
    return ids.count == raw.count ? ids : [unknown]
  }
}

/// The pieces that stand for one byte in SentencePiece's vocabularies: `<0x0A>`.
enum BytePiece {
  static func byte(_ text: [UInt8]) -> UInt8? {
    guard text.count == 6, text.starts(with: "<0x".utf8), text[5] == UInt8(ascii: ">"),
      let byte = UInt8(String(decoding: text[3..<5], as: UTF8.self), radix: 16), BytePiece.text(byte) == text
    else { return nil }
    return byte
  }

  static func text(_ byte: UInt8) -> [UInt8] {
    let digits = String(byte, radix: 16, uppercase: true)
    return Array("<0x\(byte < 16 ? "0" : "")\(digits)>".utf8)
  }
}
