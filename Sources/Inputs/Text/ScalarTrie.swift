/// Texts with a number each, found by their beginnings: a tree over scalar values whose edges are one hash table.
struct ScalarTrie: Sendable, Equatable {
  static let root: Int32 = 0

  /// Parent and scalar of each edge in the table, and the node it leads to.
  private var edges: [UInt64]
  private var targets: [Int32]
  private var count = 0
  private var shift: UInt64
  /// The number of each node's text, -1 where none ends.
  private(set) var values: [Int32] = [-1]

  private static let none = UInt64.max

  init() {
    edges = Array(repeating: ScalarTrie.none, count: 64)
    targets = Array(repeating: -1, count: 64)
    shift = 58
  }

  private static func edge(_ node: Int32, _ code: UInt32) -> UInt64 {
    UInt64(UInt32(bitPattern: node)) << 32 | UInt64(code)
  }

  /// Where `edge` is in the table, or the free place where it would be. At least half of the table is free.
  private func place(_ edge: UInt64) -> Int {
    var place = Int(truncatingIfNeeded: (edge &* 0x9E37_79B9_7F4A_7C15) >> shift)
    while edges[place] != edge, edges[place] != ScalarTrie.none { place = (place + 1) & (edges.count - 1) }
    return place
  }

  /// The node one scalar further, nil where no text goes on so.
  func child(_ node: Int32, _ code: UInt32) -> Int32? {
    let target = targets[place(ScalarTrie.edge(node, code))]
    return target < 0 ? nil : target
  }

  /// - Returns: whether the text is new; one that is there already gets the new number.
  @discardableResult
  mutating func insert(_ text: [UInt32], _ value: Int32) -> Bool {
    var node = ScalarTrie.root
    for code in text {
      let edge = ScalarTrie.edge(node, code)
      let place = place(edge)
      if edges[place] == edge {
        node = targets[place]
        continue
      }
      node = Int32(values.count)
      values.append(-1)
      edges[place] = edge
      targets[place] = node
      count += 1
      if 2 * count > edges.count { grow() }
    }
    let isNew = values[Int(node)] < 0
    values[Int(node)] = value
    return isNew
  }

  private mutating func grow() {
    let (old, oldTargets) = (edges, targets)
    edges = Array(repeating: ScalarTrie.none, count: 2 * old.count)
    targets = Array(repeating: -1, count: 2 * old.count)
    shift -= 1
    for (edge, target) in zip(old, oldTargets) where edge != ScalarTrie.none {
      let place = place(edge)
      edges[place] = edge
      targets[place] = target
    }
  }

  /// The number of a whole text, nil when it is none of these.
  subscript(text: ArraySlice<UInt32>) -> Int32? {
    var node = ScalarTrie.root
    for code in text {
      guard let next = child(node, code) else { return nil }
      node = next
    }
    return values[Int(node)] < 0 ? nil : values[Int(node)]
  }

  /// The longest of the texts that `text` begins with.
  func longestMatch(_ text: ArraySlice<UInt32>) -> (value: Int32, length: Int)? {
    var node = ScalarTrie.root
    var found: (Int32, Int)?
    for (offset, code) in text.enumerated() {
      guard let next = child(node, code) else { break }
      node = next
      if values[Int(node)] >= 0 { found = (values[Int(node)], offset + 1) }
    }
    return found
  }
}
