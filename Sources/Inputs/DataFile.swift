import Bytes

/// A line of data: something to embed, a query with what it should find, or a candidate that pairs below it name.
public enum DataLine: Sendable, Equatable {
  case item(Item)
  case pair(Pair)
  case candidate(Item)
}

/// Reads lines of data one after the other; every command reads by it.
public struct DataReader: Sendable {
  public private(set) var keys: KeyRule
  private var candidates: [String: Item] = [:]

  public init(isStrict: Bool = false) { keys = KeyRule(isStrict: isStrict) }

  /// - Throws: `malformed` for a key that the rule refuses, a missing one, a wrong type, or a candidate that is not
  ///   there or twice.
  public mutating func read(_ json: JSON) throws(Failure) -> DataLine {
    defer { keys.endLine() }
    if json["candidate"] != nil { return .candidate(try candidate(json)) }
    let isPair = ["query", "positive", "negatives", "candidates"].contains { json[$0] != nil }
    guard !isPair else { return .pair(try pair(json)) }
    // Nothing to embed: perhaps every key is misspelt, those of a pair too.
    if json.kind == .object, !["text", "images", "video"].contains(where: { json[$0] != nil }) {
      try keys.check(json, KeyRule.item + KeyRule.line)
    }
    return .item(try Item(json, &keys))
  }

  private mutating func candidate(_ json: JSON) throws(Failure) -> Item {
    try keys.check(json, KeyRule.line)
    guard let id = json.optional("id") else { throw json.failure("a candidate needs an id") }
    let name = try Item.identifier(id)
    let item = try Item(try json.required("candidate"), &keys)
    guard candidates.updateValue(item, forKey: name) == nil else {
      throw json.failure("candidate \(Failure.quoted(name)) twice")
    }
    return item
  }

  private mutating func pair(_ json: JSON) throws(Failure) -> Pair {
    try keys.check(json, KeyRule.line)
    let query = try Item(try json.required("query"), &keys)
    var documents: [Item] = []
    let choices = json.optional("candidates")
    if let choices {
      guard json.optional("positive") == nil else {
        throw json.failure("a query has candidates or a positive, not both")
      }
      for value in try choices.elements("candidates") { documents.append(try document(value)) }
      guard !documents.isEmpty else { throw choices.failure("a query needs candidates") }
    } else {
      documents = [try document(try json.required("positive"))]
    }
    for value in try json.optional("negatives")?.elements("negatives") ?? [] { documents.append(try document(value)) }
    var pair = Pair(query: query, positive: documents[0], negatives: Array(documents.dropFirst()))
    pair.isChoice = choices != nil
    pair.id = try json.optional("id").map { (value) throws(Failure) in try Item.identifier(value) }
    pair.label = try json.optional("label").map { (value) throws(Failure) in try Item.identifier(value) }
    pair.task = try json.optional("task")?.string("task")
    if let slices = json.optional("slices") { pair.slices = try self.slices(slices) }
    return pair
  }

  /// Names that reports have for what they see themselves.
  private static let ownSlices = ["kind", "script", "length", "label", "task"]
  private static let mostSlices = 16
  private static let longestSlice = 100

  private func slices(_ json: JSON) throws(Failure) -> [String: String] {
    let members = try json.members()
    guard members.count <= DataReader.mostSlices else {
      throw json.failure("\(members.count) slices; a line may have \(DataReader.mostSlices)")
    }
    var slices: [String: String] = [:]
    for (key, value) in members {
      let (name, word) = (String(decoding: key, as: UTF8.self), try Item.identifier(value))
      guard !DataReader.ownSlices.contains(name) else {
        throw value.failure("a slice may not be called \(Failure.quoted(key)): reports have one of that name")
      }
      for text in [name, word] {
        guard (1...DataReader.longestSlice).contains(text.utf8.count), text.utf8.allSatisfy({ $0 >= 0x20 }) else {
          throw value.failure(
            "names and values of slices are texts of 1 to \(DataReader.longestSlice) bytes without control characters")
        }
      }
      slices[name] = word
    }
    return slices
  }

  /// Where candidates stand above, a string is the id of one of them; else it is a text.
  private mutating func document(_ json: JSON) throws(Failure) -> Item {
    guard json.kind == .string, !candidates.isEmpty else { return try Item(json, &keys) }
    guard let item = candidates[try json.string()] else {
      throw json.failure("no candidate \(Failure.quoted(try json.bytes())) above this line")
    }
    return item
  }
}

/// A file of such lines, JSON each.
public struct DataFile: Sendable {
  public let path: String
  public private(set) var lines: [(number: Int, line: DataLine)] = []
  /// What was not read.
  public let keys: KeyRule

  /// - Throws: `malformed` with the bad lines, those that are bad in the same way as one.
  public init(_ path: String, isStrict: Bool = false) throws(Failure) {
    self.path = path
    var reader = DataReader(isStrict: isStrict)
    var lines: [(number: Int, line: DataLine)] = []
    try JSONLines.forEach(path, what: "data") { (number, json) throws(Failure) in
      lines.append((number, try reader.read(json)))
    }
    guard !lines.isEmpty else { throw Failure(.malformed, "no items in the file", file: path) }
    (self.lines, keys) = (lines, reader.keys)
  }

  /// Everything there is to embed: items, and those of each pair one after the other. What queries choose from is there
  /// once.
  public var items: [Item] {
    var items: [Item] = []
    var choices = Set<Item>()
    for (_, line) in lines {
      switch line {
      case .item(let item): items.append(item)
      case .candidate(let item): if choices.insert(item).inserted { items.append(item) }
      case .pair(let pair) where pair.isChoice:
        items += [pair.query] + ([pair.positive] + pair.negatives).filter { choices.insert($0).inserted }
      case .pair(let pair): items += [pair.query, pair.positive] + pair.negatives
      }
    }
    return items
  }

  /// Whether queries are there, and no items beside them.
  public var hasPairsAlone: Bool {
    var hasPairs = false
    for (_, line) in lines {
      if case .item = line { return false }
      if case .pair = line { hasPairs = true }
    }
    return hasPairs
  }

  /// - Throws: `malformed` when a line is an item, and when there is no pair.
  public func pairs() throws(Failure) -> [Pair] {
    var pairs: [Pair] = []
    var others: [Int] = []
    for (number, line) in lines {
      switch line {
      case .pair(let pair): pairs.append(pair)
      case .item: others.append(number)
      case .candidate: break
      }
    }
    if let first = others.first {
      let more = others.count > 1 ? " (\(others.count) lines like this)" : ""
      throw Failure(
        .malformed, "an item, where a pair is needed: {\"query\": item, \"positive\": item}\(more)", file: path,
        place: "line \(first)")
    }
    guard !pairs.isEmpty else { throw Failure(.malformed, "no pairs in the file", file: path) }
    return pairs
  }
}
