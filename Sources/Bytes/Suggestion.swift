/// What somebody probably meant.
public enum Suggestion {
  /// The known word nearest to `word`, by the letters that must be put in, left out or changed; nil where that is more
  /// than a third of them. Of equally near ones the earlier.
  public static func nearest(_ word: String, among known: [String]) -> String? {
    let limit = max(1, word.count / 3)
    let near = known.map { ($0, editDistance(word, $0)) }.filter { $0.1 <= limit }
    return near.min { $0.1 < $1.1 }?.0
  }
}
