import Bytes

/// SentencePiece's map of characters (`precompiled_charsmap`): a double array (Yata et al. 2007; Darts) from byte
/// strings to places in a list of replacements, applied as the `tokenizers` library does.
struct CharacterMap: Sendable, Equatable {
  private let units: [UInt32]
  /// By place in the list.
  private let replacements: [UInt32: [UInt32]]
  /// What ASCII characters alone become; nil for as they are.
  private let ascii: [[UInt32]?]
  /// Bytes of all replacements at most; SentencePiece's own maps have a hundredth of it.
  private static let most = 1 << 24

  /// - Parameter bytes: the size of the array in bytes, the array, the list of texts that end in a zero byte each; all
  ///   little-endian.
  /// - Throws: `malformed` unless every path through the array stays inside it and comes to an end, and every value is
  ///   the place of a text.
  init(_ bytes: [UInt8]) throws(Failure) {
    func malformed(_ problem: String) -> Failure { Failure(.malformed, "the character map \(problem)") }
    func word(_ at: Int) -> UInt32 { (0..<4).reduce(0) { $0 | UInt32(bytes[at + $1]) << UInt32(8 * $1) } }
    guard bytes.count >= 4 else { throw malformed("is cut short") }
    let size = Int(word(0))
    guard size % 4 == 0, size >= 1_024, size <= bytes.count - 4 else {
      throw malformed("has an array of \(size) bytes in \(bytes.count)")
    }
    let units = (0..<(size / 4)).map { word(4 + 4 * $0) }
    let texts = bytes[(4 + size)...]
    var replacements: [UInt32: [UInt32]] = [:]
    // Texts may overlap: a few long ones could stand for more than memory holds.
    var room = CharacterMap.most
    for value in try CharacterMap.values(of: units, malformed) {
      let start = texts.startIndex + Int(value)
      guard start < texts.endIndex else {
        throw malformed("has a value \(value) beyond its \(texts.count) bytes of text")
      }
      let text = Array(texts[start...].prefix(room + 1).prefix { $0 != 0 })
      room -= text.count
      guard room >= 0 else { throw malformed("stands for more than \(CharacterMap.most) bytes of text") }
      guard String(validating: text, as: UTF8.self) != nil else { throw malformed("has a text that is no UTF-8") }
      replacements[value] = scalars(text)
    }
    self.units = units
    self.replacements = replacements
    ascii = (UInt32(0)..<128).map { CharacterMap.replacement([$0], units, replacements) }
  }

  // MARK: The double array

  private static func offset(_ unit: UInt32) -> Int { Int(unit >> 10) << Int((unit & 1 << 9) >> 6) }
  private static func hasLeaf(_ unit: UInt32) -> Bool { unit & 1 << 8 != 0 }
  private static func label(_ unit: UInt32) -> UInt32 { unit & (1 << 31 | 0xFF) }
  private static func value(_ unit: UInt32) -> UInt32 { unit & (1 << 31 - 1) }

  /// The values of all paths from the root. Paths may join, as equal endings are stored once, but none comes back to
  /// where it was.
  private static func values(
    of units: [UInt32], _ malformed: (String) -> Failure
  ) throws(Failure) -> Set<UInt32> {
    enum State: UInt8 { case new, open, done }
    var states = [State](repeating: .new, count: units.count)
    var values: Set<UInt32> = []
    // Each node on the path, the place its children are counted from, and the label to look at next.
    var path: [(node: Int, base: Int, label: Int)] = []
    func enter(_ node: Int) throws(Failure) {
      let base = node ^ offset(units[node])
      guard base | 0xFF < units.count else { throw malformed("has a node whose children are outside the array") }
      if node > 0, hasLeaf(units[node]) { values.insert(value(units[base])) }
      states[node] = .open
      path.append((node, base, 1))
    }
    try enter(0)
    while let (node, base, label) = path.last {
      guard label <= 0xFF else {
        states[node] = .done
        path.removeLast()
        continue
      }
      path[path.count - 1].label += 1
      let child = base ^ label
      guard CharacterMap.label(units[child]) == UInt32(label), states[child] != .done else { continue }
      guard states[child] == .new else { throw malformed("has a path that never ends") }
      try enter(child)
    }
    return values
  }

  /// What the shortest beginning of `text` that is in the map becomes; nil when none is.
  private static func replacement(
    _ text: some Sequence<UInt32>, _ units: [UInt32], _ replacements: [UInt32: [UInt32]]
  ) -> [UInt32]? {
    var node = offset(units[0])
    for code in text {
      guard let scalar = Unicode.Scalar(code), let bytes = UTF8.encode(scalar) else { return nil }
      for byte in bytes {
        guard byte != 0 else { return nil }
        node ^= Int(byte)
        let unit = units[node]
        guard label(unit) == UInt32(byte) else { return nil }
        node ^= offset(unit)
        if hasLeaf(unit) { return replacements[value(units[node])] }
      }
    }
    return nil
  }

  // MARK: Text

  /// Characters as readers see them (grapheme clusters) of less than 6 bytes are looked up whole first, and go whole
  /// when any beginning of theirs is in the map; else each scalar value is looked up alone.
  func normalize(_ text: [UInt32]) -> [UInt32] {
    var result: [UInt32] = []
    result.reserveCapacity(text.count)
    var start = 0
    while start < text.count {
      let end = GraphemeCluster.end(text, start)
      let cluster = text[start..<end]
      start = end
      if cluster.count == 1 || cluster.reduce(0, { $0 + utf8Length($1) }) < 6, let whole = replacement(cluster) {
        result += whole
      } else if cluster.count == 1 {
        result += cluster
      } else {
        for code in cluster { result += replacement([code]) ?? [code] }
      }
    }
    return result
  }

  private func replacement(_ text: ArraySlice<UInt32>) -> [UInt32]? {
    if text.count == 1, let code = text.first, code < 128 { return ascii[Int(code)] }
    return CharacterMap.replacement(text, units, replacements)
  }
}
