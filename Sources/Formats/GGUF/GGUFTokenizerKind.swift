import Bytes

/// ggml's kinds of tokenizer, and what they do where a file does not say.
enum GGUFTokenizerKind: Equatable {
  case bytePair(GGUFCutter)
  case wordPiece
  case sentencePiece
  case unigram

  /// Whether a text gets a token before it, and one after it.
  var marks: (start: Bool, end: Bool) {
    switch self {
    case .bytePair(let cutter): (cutter.ignoresMerges, false)
    case .wordPiece: (true, true)
    case .sentencePiece: (true, false)
    case .unigram: (false, true)
    }
  }

  /// Whether the mask token takes the spaces before it, as in RoBERTa and its kin.
  var maskTakesSpace: Bool {
    switch self {
    case .bytePair(let cutter): cutter.isEncoder
    case .unigram: true
    case .wordPiece, .sentencePiece: false
    }
  }

  /// What models of this kind are trained with. Unigram is T5's, with an end alone, and XLM-RoBERTa's, with both.
  func usualMarks(of architecture: String?) -> (start: Bool, end: Bool) {
    switch self {
    case .bytePair(let cutter): cutter.isEncoder ? (true, true) : marks
    case .unigram: (!(architecture?.hasPrefix("t5") ?? false), true)
    case .wordPiece, .sentencePiece: marks
    }
  }
}

/// How byte-level BPE cuts text before merging, by ggml's name for it.
struct GGUFCutter: Equatable {
  let name: String
  /// How GPT-4's pattern cuts numbers; nil for GPT-2's pattern.
  var number: String?
  /// Whether text is normalized to NFC.
  var composes = false
  /// Whether words that are tokens are taken as they stand. Such models also begin a text with a token.
  var ignoresMerges = false
  /// Whether it is an encoder's, whose texts stand between two tokens.
  var isEncoder = false

  /// A `tokenizer.json` is given the first name that fits it.
  static let all: [GGUFCutter] = [
    .init(name: "qwen2", number: "\\p{N}", composes: true),
    .init(name: "deepseek-r1-qwen", number: "\\p{N}", composes: true),
    .init(name: "llama-bpe", number: "\\p{N}{1,3}", ignoresMerges: true),
    .init(name: "modern-bert", composes: true, isEncoder: true), .init(name: "roberta-bpe", isEncoder: true),
    .init(name: "jina-v1-en", isEncoder: true), .init(name: "jina-v2-code", isEncoder: true),
    .init(name: "jina-v2-es", isEncoder: true), .init(name: "jina-v2-de", isEncoder: true), .init(name: "gpt-2"),
  ]

  var pattern: String { number.map(GGUFCutter.gpt4) ?? GGUFCutter.gpt2 }

  static let gpt2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

  private static func gpt4(_ number: String) -> String {
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\(number)| "
      + "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
  }
}

/// SentencePiece's BPE has scores where others have a list of merges: of two neighbours that make a piece, those that
/// make the piece of the highest score are merged first.
enum SentencePieceMerges {
  typealias Merge = (left: String, right: String)

  /// All merges that make one of `pieces`, best first; of equal scores the one with the shorter left side.
  ///
  /// - Cost: one look-up for each way to cut each piece in two.
  static func list(_ pieces: [(text: String, score: Double)]) -> [Merge] {
    let texts = pieces.map { Array($0.text.utf8) }
    let known = Set(texts.map { $0[...] })
    var found: [(score: Double, cut: Int, piece: Int)] = []
    for (index, bytes) in texts.enumerated() {
      for cut in bytes.indices.dropFirst() where bytes[cut] & 0xC0 != 0x80 {
        if known.contains(bytes[..<cut]), known.contains(bytes[cut...]) {
          found.append((pieces[index].score, cut, index))
        }
      }
    }
    found.sort { ($1.score, $0.cut, $0.piece) < ($0.score, $1.cut, $1.piece) }
    return found.map { merge in
      let (left, right) = (texts[merge.piece][..<merge.cut], texts[merge.piece][merge.cut...])
      return (String(decoding: left, as: UTF8.self), String(decoding: right, as: UTF8.self))
    }
  }

  /// The scores whose merges these are: the later a piece's first merge, the lower. nil when no scores do the same.
  static func scores(_ texts: [String], _ merges: [Merge]) -> [Double]? {
    var rank: [[UInt8]: Int] = [:]
    var last: [UInt8] = []
    for merge in merges {
      let text = Array((merge.left + merge.right).utf8)
      guard text != last else { continue }
      // The merges of one piece stand together.
      guard rank.updateValue(rank.count, forKey: text) == nil else { return nil }
      last = text
    }
    let scores = texts.map { -Double(rank[Array($0.utf8)] ?? rank.count) }
    let same = list(Array(zip(texts, scores)).map { (text: $0, score: $1) })
    func keys(_ merges: [Merge]) -> Set<[[UInt8]]> { Set(merges.map { [Array($0.left.utf8), Array($0.right.utf8)] }) }
    return keys(same) == keys(merges) ? scores : nil
  }
}
