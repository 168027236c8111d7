/// What somebody probably meant.
public enum Suggestion {
  /// The known word nearest to `word`, by the letters that must be put in, left out, changed or swapped (Damerau 1964); nil
  /// where that is more than a third of them. Of equally near ones the earlier.
  public static func nearest(_ word: String, among known: [String]) -> String? {
    let limit = max(1, word.count / 3)
    let near = known.map { ($0, distance(Array(word), Array($0))) }.filter { $0.1 <= limit }
    return near.min { $0.1 < $1.1 }?.0
  }

  private static func distance(_ a: [Character], _ b: [Character]) -> Int {
    var before: [Int] = []
    var last = Array(0...b.count)
    for i in a.indices {
      var row = [i + 1]
      for j in b.indices {
        var cost = min(last[j] + (a[i] == b[j] ? 0 : 1), last[j + 1] + 1, row[j] + 1)
        if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { cost = min(cost, before[j - 1] + 1) }
        row.append(cost)
      }
      (before, last) = (last, row)
    }
    return last[b.count]
  }
}
