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

  /// Ids may be text or whole numbers, and are kept as text.
  static func identifier(_ json: JSON) throws(Failure) -> String {
    json.kind == .number ? String(try json.integer("id", in: Int.min...Int.max)) : try json.string("id")
  }
}

/// A query and what it should find: `{"id", "query": {item}, "positive": {item}, "negatives": [items]}`.
public struct Pair: Sendable, Equatable {
  public var id: String?
  public var query: Item
  public var positive: Item
  public var negatives: [Item] = []

  public init(_ json: JSON) throws(Failure) {
    try json.refuseUnknownKeys(["id", "query", "positive", "negatives"])
    id = try json.optional("id").map { (value) throws(Failure) in try Item.identifier(value) }
    query = try Item(try json.required("query"))
    positive = try Item(try json.required("positive"))
    for item in try json.optional("negatives")?.elements("negatives") ?? [] { negatives.append(try Item(item)) }
  }

  /// Reads a JSONL file of pairs; every bad line is reported, up to 20 of them.
  public static func read(_ path: String) throws(Failure) -> [Pair] {
    let file = try InputFile(path)
    var pairs: [Pair] = []
    var failures: [Failure] = []
    var number = 0
    for line in try file.all(limit: 1 << 32, what: "pairs").split(
      separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    {
      number += 1
      guard !line.allSatisfy({ $0 == 0x20 || $0 == 0x0D || $0 == 0x09 }) else { continue }
      do throws(Failure) {
        pairs.append(try Pair(try JSON.parse(Array(line), what: "line \(number)")))
      } catch {
        guard failures.count < 20 else { break }
        failures.append(error.inFile(path))
      }
    }
    if let failure = Failure.all(failures) { throw failure }
    guard !pairs.isEmpty else { throw Failure(.malformed, "no pairs in the file", file: path) }
    return pairs
  }
}
