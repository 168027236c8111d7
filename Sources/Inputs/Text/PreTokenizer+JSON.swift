import Bytes

extension PreTokenizer {
  /// The steps of `pre_tokenizer` in `tokenizer.json`; sequences of sequences become one.
  static func steps(_ json: JSON?) throws(Failure) -> [PreTokenizer] {
    guard let json else { return [] }
    let type = try json.required("type").string("type")
    switch type {
    case "Sequence":
      var steps: [PreTokenizer] = []
      for part in try json.required("pretokenizers").elements("pretokenizers") { steps += try PreTokenizer.steps(part) }
      return steps
    case "BertPreTokenizer": return [.bert]
    case "Metaspace": return [.metaspace(try Metaspace(json))]
    case "WhitespaceSplit": return [.whiteSpaceSplit]
    case "Whitespace": return [.whiteSpace]
    case "Split":
      return [
        .split(
          try TextPattern(json.required("pattern")), try SplitBehaviour(json.required("behavior")),
          isInverted: try json.optional("invert")?.bool("invert") ?? false)
      ]
    case "Punctuation": return [.punctuation(try json.optional("behavior").map(SplitBehaviour.init) ?? .isolated)]
    case "Digits":
      return [.digits(isIndividual: try json.optional("individual_digits")?.bool("individual_digits") ?? false)]
    case "ByteLevel":
      return [
        .byteLevel(
          addsSpace: try json.required("add_prefix_space").bool("add_prefix_space"),
          pattern: try json.optional("use_regex")?.bool("use_regex") ?? true ? .gpt2 : nil)
      ]
    default: throw json.failure("pre_tokenizer of type \(Failure.quoted(type)) is not supported", .unsupported)
    }
  }

  var isByteLevel: Bool { if case .byteLevel = self { true } else { false } }
}

extension SplitBehaviour {
  init(_ json: JSON) throws(Failure) {
    let name = try json.string("behavior")
    guard let behaviour = SplitBehaviour(rawValue: name) else {
      let known = SplitBehaviour.allCases.map(\.rawValue).joined(separator: ", ")
      throw json.failure("behavior \(Failure.quoted(name)) is none of \(known)")
    }
    self = behaviour
  }
}

extension Metaspace {
  /// Older files say `add_prefix_space`, newer ones `prepend_scheme`.
  init(_ json: JSON) throws(Failure) {
    let value = try json.required("replacement")
    let codes = scalars(try value.bytes("replacement"))
    guard codes.count == 1 else { throw value.failure("replacement must be one character") }
    mark = codes[0]
    if let scheme = json.optional("prepend_scheme") {
      let name = try scheme.string("prepend_scheme")
      guard let known = Prepends(rawValue: name) else {
        throw scheme.failure("prepend_scheme \(Failure.quoted(name)) is none of always, first, never")
      }
      prepends = known
    }
    if let flag = json.optional("add_prefix_space"), try !flag.bool("add_prefix_space") {
      guard json.optional("prepend_scheme") == nil || prepends == .never else {
        throw flag.failure("add_prefix_space is false, but prepend_scheme \(prepends.rawValue)")
      }
      prepends = .never
    }
    isSplit = try json.optional("split")?.bool("split") ?? true
  }
}
