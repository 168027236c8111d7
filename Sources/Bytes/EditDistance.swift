/// Levenshtein distance of the bytes, of their first 200.
public func editDistance(_ a: String, _ b: String) -> Int {
  let (x, y) = (Array(a.utf8.prefix(200)), Array(b.utf8.prefix(200)))
  var row = Array(0...y.count)
  for (i, p) in x.enumerated() {
    var diagonal = row[0]
    row[0] = i + 1
    for (j, q) in y.enumerated() {
      let replaced = diagonal + (p == q ? 0 : 1)
      diagonal = row[j + 1]
      row[j + 1] = min(replaced, row[j] + 1, diagonal + 1)
    }
  }
  return row[y.count]
}
