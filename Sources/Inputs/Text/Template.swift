import Bytes

/// Ids that go around a text: `post_processor` in `tokenizer.json`.
struct Template: Sendable, Equatable {
  var before: [Int32] = []
  var after: [Int32] = []

  private static let ids = 0...Int(Int32.max) - 1

  init(before: [Int32] = [], after: [Int32] = []) { (self.before, self.after) = (before, after) }

  init(_ json: JSON?) throws(Failure) {
    guard let json else { return }
    let type = try json.required("type").string("type")
    switch type {
    // Byte-level processing only moves offsets.
    case "ByteLevel": return
    // Each goes around what the ones before it made.
    case "Sequence":
      for part in try json.required("processors").elements("processors") {
        let outer = try Template(part)
        (before, after) = (outer.before + before, after + outer.after)
      }
    case "BertProcessing", "RobertaProcessing":
      func id(_ key: String) throws(Failure) -> Int32 {
        let pair = try json.required(key).elements(key)
        guard pair.count == 2 else { throw json.failure("\(key) must be a token and its id") }
        return Int32(try pair[1].integer("id", in: Template.ids))
      }
      (before, after) = ([try id("cls")], [try id("sep")])
    case "TemplateProcessing": try read(json)
    default: throw json.failure("post_processor of type \(Failure.quoted(type)) is not supported", .unsupported)
    }
  }

  private mutating func read(_ json: JSON) throws(Failure) {
    let tokens = try json.required("special_tokens")
    var hasText = false
    for part in try json.required("single").elements("single") {
      if part["Sequence"] != nil {
        guard !hasText else { throw part.failure("the template has the text twice", .unsupported) }
        hasText = true
        continue
      }
      let name = try part.required("SpecialToken").required("id")
      guard let token = tokens[try name.string("id")] else {
        throw name.failure("template names the special token \(Failure.quoted(try name.bytes())), which is not listed")
      }
      for id in try token.required("ids").elements("ids") {
        let number = Int32(try id.integer("id", in: Template.ids))
        if hasText { after.append(number) } else { before.append(number) }
      }
    }
    guard hasText else { throw json.failure("the template has no place for the text") }
  }
}
