import Bytes

/// What happens to keys that the lines of items and pairs do not have: a key that looks like a misspelt one is an
/// error, any other is metadata of somebody else, not read and counted. Where the rule is strict, every unknown key is
/// an error.
public struct KeyRule: Sendable {
  static let item = ["id", "text", "images", "video", "instruction"]
  static let line = ["id", "query", "positive", "negatives", "candidates", "label", "task", "slices", "candidate"]
  /// Words that are near to a key and yet what they are.
  private static let words: Set = [
    "ask", "best", "ext", "level", "mask", "next", "pages", "places", "prices", "rank", "rest", "slides", "tag", "tags",
    "temp", "term", "test",
  ]
  /// Names kept at most: a hostile file has no end of them.
  private static let mostNames = 1_000

  public let isStrict: Bool
  /// Keys that were not read, and on how many lines.
  public private(set) var ignored: [String: Int] = [:]
  /// Lines that have such keys.
  public private(set) var lines = 0
  private var ofLine: Set<String> = []

  public init(isStrict: Bool = false) { self.isStrict = isStrict }

  /// - Throws: `malformed` for a key that is misspelt, or when strict for any that is not in `known`.
  mutating func check(_ json: JSON, _ known: [String]) throws(Failure) {
    for (key, value) in try json.members() where !known.contains(where: { key.elementsEqual($0.utf8) }) {
      let name = String(decoding: key, as: UTF8.self)
      if let meant = KeyRule.meant(by: name, known) {
        throw value.failure("unknown key \(Failure.quoted(key)); did you mean \(Failure.quoted(meant))?")
      }
      guard !isStrict else {
        throw value.failure("unknown key \(Failure.quoted(key)); known: \(known.joined(separator: ", "))")
      }
      if ofLine.count < KeyRule.mostNames { ofLine.insert(name) }
    }
  }

  /// To be called after each line.
  public mutating func endLine() {
    guard !ofLine.isEmpty else { return }
    lines += 1
    for name in ofLine.sorted() where ignored[name] != nil || ignored.count < KeyRule.mostNames {
      ignored[name, default: 0] += 1
    }
    ofLine.removeAll(keepingCapacity: true)
  }

  /// The key that was misspelt: one of at least four letters, two edits away at most.
  private static func meant(by name: String, _ known: [String]) -> String? {
    guard !words.contains(name) else { return nil }
    return known.filter { $0.utf8.count >= 4 }.map { (editDistance(name, $0), $0) }.filter { $0.0 <= 2 }
      .min { $0.0 < $1.0 }?.1
  }

  /// What was not read, in a line; nil when everything was.
  public var note: String? {
    guard lines > 0 else { return nil }
    let names = ignored.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
    let shown = names.prefix(8).map { "\(Failure.escaped(Array($0.key.utf8), limit: 40)) (\($0.value))" }
    let more = names.count > 8 ? ", and \(names.count - 8) more" : ""
    let what = lines == 1 ? "1 line has" : "\(lines) lines have"
    return "\(what) keys that are not read: \(shown.joined(separator: ", "))\(more); --strict refuses them"
  }
}
