import Bytes

/// One thing to embed: `{"id", "text", "images": [...], "video", "instruction"}`. At least a text, an image or a video.
public struct Item: Sendable, Hashable {
  public var id: String?
  public var text: String?
  public var images: [String] = []
  public var video: String?
  /// Put before the text in the place of the model's default prompt.
  public var instruction: String?

  public init(text: String) { self.text = text }

  /// - Throws: `malformed` for an unknown key, a wrong type, or an item with nothing in it.
  public init(_ json: JSON) throws(Failure) {
    try json.refuseUnknownKeys(["id", "text", "images", "video", "instruction"])
    id = try json.optional("id").map { (value) throws(Failure) in try Item.identifier(value) }
    text = try json.optional("text")?.string("text")
    for image in try json.optional("images")?.elements("images") ?? [] { images.append(try image.string("image")) }
    video = try json.optional("video")?.string("video")
    instruction = try json.optional("instruction")?.string("instruction")
    guard text != nil || !images.isEmpty || video != nil else {
      throw json.failure("an item needs text, images or video")
    }
  }

  /// Reads a JSONL file of items or pairs, those of a pair one after the other; every bad line is reported, up to 20 of them.
  public static func read(_ path: String) throws(Failure) -> [Item] {
    var items: [Item] = []
    try JSONLines.forEach(path, what: "items") { (line) throws(Failure) in
      if line.optional("query") != nil {
        let pair = try Pair(line)
        items += [pair.query, pair.positive] + pair.negatives
      } else {
        items.append(try Item(line))
      }
    }
    guard !items.isEmpty else { throw Failure(.malformed, "no items in the file", file: path) }
    return items
  }

  /// Where a picture or video of an item is: absolute, or below the folder of the item's file, which ends in a slash.
  public static func path(_ name: String, in folder: String) -> String { name.hasPrefix("/") ? name : folder + name }

  /// Ids may be text or whole numbers, and are kept as text.
  static func identifier(_ json: JSON) throws(Failure) -> String {
    json.kind == .number ? String(try json.integer("id", in: Int.min...Int.max)) : try json.string("id")
  }
}

/// A query and what it should find: `{"id", "query": {item}, "positive": {item}, "negatives": [items], "label"}`.
public struct Pair: Sendable, Equatable {
  public var id: String?
  public var query: Item
  public var positive: Item
  public var negatives: [Item] = []
  /// The class of the positive, to hold clusters to.
  public var label: String?

  public init(_ json: JSON) throws(Failure) {
    try json.refuseUnknownKeys(["id", "query", "positive", "negatives", "label"])
    label = try json.optional("label").map { (value) throws(Failure) in try Item.identifier(value) }
    id = try json.optional("id").map { (value) throws(Failure) in try Item.identifier(value) }
    query = try Item(try json.required("query"))
    positive = try Item(try json.required("positive"))
    for item in try json.optional("negatives")?.elements("negatives") ?? [] { negatives.append(try Item(item)) }
  }

  /// Reads a JSONL file of pairs; every bad line is reported, up to 20 of them.
  public static func read(_ path: String) throws(Failure) -> [Pair] {
    var pairs: [Pair] = []
    try JSONLines.forEach(path, what: "pairs") { (line) throws(Failure) in pairs.append(try Pair(line)) }
    guard !pairs.isEmpty else { throw Failure(.malformed, "no pairs in the file", file: path) }
    return pairs
  }
}
