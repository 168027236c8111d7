import Glibc

/// Which documents hold which words, to find the one that fits a query best: Okapi BM25 with k1 of 1.2 and b of 0.75.
struct WordIndex {
  private var places: [String: [(document: Int, count: Int)]] = [:]
  private var lengths: [Int] = []
  private let meanLength: Double

  init(_ documents: [String]) {
    for (document, text) in documents.enumerated() {
      let words = WordIndex.words(text)
      lengths.append(words.count)
      var counts: [String: Int] = [:]
      for word in words { counts[word, default: 0] += 1 }
      for (word, count) in counts { places[word, default: []].append((document, count)) }
    }
    meanLength = max(1, Double(lengths.reduce(0, +)) / Double(max(1, lengths.count)))
  }

  /// Of equals the first; nil when no document has a word of the query.
  func best(_ query: String) -> Int? {
    var scores: [Int: Double] = [:]
    for word in Set(WordIndex.words(query)).sorted() {
      guard let found = places[word] else { continue }
      let rest = Double(lengths.count - found.count) + 0.5
      let weight = log(1 + rest / (Double(found.count) + 0.5))
      for (document, count) in found {
        let length = 0.25 + 0.75 * Double(lengths[document]) / meanLength
        scores[document, default: 0] += weight * Double(count) * 2.2 / (Double(count) + 1.2 * length)
      }
    }
    return scores.max { ($0.value, $1.key) < ($1.value, $0.key) }?.key
  }

  private static func words(_ text: String) -> [String] {
    text.lowercased().split { !($0.isLetter || $0.isNumber) }.map(String.init)
  }
}
