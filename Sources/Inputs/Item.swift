import Bytes

/// One thing to embed: `{"id", "text", "images": [...], "video", "instruction"}`, or its text alone. At least a text,
/// an image or a video.
public struct Item: Sendable, Hashable {
  public var id: String?
  public var text: String?
  public var images: [String] = []
  /// Pictures in memory, which stand after those of `images`.
  public var pictures: [PictureSource] = []
  public var video: String?
  /// Put before the text in the place of the model's default prompt.
  public var instruction: String?

  public init(text: String) { self.text = text }

  /// - Parameter images: paths of picture files.
  public init(
    text: String? = nil, images: [String] = [], pictures: [PictureSource] = [], video: String? = nil,
    instruction: String? = nil
  ) {
    (self.text, self.images, self.pictures) = (text, images, pictures)
    (self.video, self.instruction) = (video, instruction)
  }

  /// A line of what is to be embedded.
  ///
  /// - Throws: `malformed` for a line of pairs, and what any item's reading throws.
  public init(
    embedding json: JSON, _ keys: inout KeyRule, pictures: [PictureSource] = []
  ) throws(Failure) {
    guard json["query"] == nil, json["candidate"] == nil else {
      throw json.failure("a line of pairs; embed takes items, as {\"text\": \"...\"}")
    }
    try self.init(json, &keys, pictures: pictures)
  }

  public init(_ json: JSON) throws(Failure) {
    var keys = KeyRule()
    try self.init(json, &keys)
  }

  /// - Throws: `malformed` for a key that the rule refuses, a wrong type, or an item with nothing in it.
  public init(_ json: JSON, _ keys: inout KeyRule, pictures: [PictureSource] = []) throws(Failure) {
    self.pictures = pictures
    guard json.kind != .string else {
      text = try json.string()
      return
    }
    guard json.kind == .object else { throw json.failure("an item must be an object or a string") }
    try keys.check(json, KeyRule.item)
    id = try json.optional("id").map { (value) throws(Failure) in try Item.identifier(value) }
    text = try json.optional("text")?.string("text")
    for image in try json.optional("images")?.elements("images") ?? [] { images.append(try image.string("image")) }
    video = try json.optional("video")?.string("video")
    instruction = try json.optional("instruction")?.string("instruction")
    guard text != nil || !images.isEmpty || !pictures.isEmpty || video != nil else {
      throw json.failure("an item needs text, images or video")
    }
  }

  /// Where a picture or video of an item is: absolute, or below the folder of the item's file, which ends in a slash.
  public static func path(_ name: String, in folder: String) -> String { name.hasPrefix("/") ? name : folder + name }

  /// Ids may be text or whole numbers, and are kept as text.
  public static func identifier(_ json: JSON) throws(Failure) -> String {
    json.kind == .number ? String(try json.integer("id", in: Int.min...Int.max)) : try json.string("id")
  }
}

/// A picture in memory.
public enum PictureSource: Sendable, Hashable {
  /// The bytes of a picture file, which are decoded when its item's turn comes.
  case encoded([UInt8])
  case decoded(Picture)
}

/// A query and what it should find: `{"id", "query": item, "positive": item, "negatives": [items], "label", "task",
/// "slices"}`; or `{"id", "query": item, "candidates": [items]}`, of which the first is the positive.
public struct Pair: Sendable, Equatable {
  public var id: String?
  public var query: Item
  public var positive: Item
  public var negatives: [Item] = []
  /// The class of the positive, to hold clusters to.
  public var label: String?
  /// What scores of benchmarks are averaged over.
  public var task: String?
  /// What it has in common with other pairs, as `"language": "yo"`: reports say what each of these lost.
  public var slices: [String: String] = [:]
  /// Whether the query is compared with its own candidates alone.
  public var isChoice = false
}
