/// Patterns over tensor names: `*` stands for any text, `?` for one byte.
enum Glob {
  /// - Cost: linear in the product of both lengths at worst; no recursion.
  static func matches(_ pattern: String, _ text: String) -> Bool {
    let (p, t) = (Array(pattern.utf8), Array(text.utf8))
    var (i, j) = (0, 0)
    var star: (pattern: Int, text: Int)?
    while j < t.count {
      if i < p.count, p[i] == UInt8(ascii: "*") {
        star = (i, j)
        i += 1
      } else if i < p.count, p[i] == UInt8(ascii: "?") || p[i] == t[j] {
        (i, j) = (i + 1, j + 1)
      } else if let last = star {
        star = (last.pattern, last.text + 1)
        (i, j) = (last.pattern + 1, last.text + 1)
      } else {
        return false
      }
    }
    while i < p.count, p[i] == UInt8(ascii: "*") { i += 1 }
    return i == p.count
  }
}
