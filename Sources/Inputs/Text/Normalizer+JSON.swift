import Bytes

extension Normalizer {
  /// The steps of `normalizer` in `tokenizer.json`; sequences of sequences become one.
  static func steps(_ json: JSON?) throws(Failure) -> [Normalizer] {
    guard let json else { return [] }
    let type = try json.required("type").string("type")
    if let form = UnicodeForm(rawValue: type) { return [.unicode(form)] }
    switch type {
    case "Sequence":
      var steps: [Normalizer] = []
      for part in try json.required("normalizers").elements("normalizers") { steps += try Normalizer.steps(part) }
      return steps
    case "BertNormalizer": return [.bert(try BertNormalizer(json))]
    case "Precompiled": return [.characterMap(try CharacterMap(json))]
    case "Lowercase": return [.lowercase]
    case "Strip":
      return [
        .strip(
          left: try json.required("strip_left").bool("strip_left"),
          right: try json.required("strip_right").bool("strip_right"))
      ]
    case "StripAccents": return [.stripAccents]
    case "Replace":
      return [
        .replace(try TextPattern(json.required("pattern")), scalars(try json.required("content").bytes("content")))
      ]
    case "Prepend": return [.prepend(scalars(try json.required("prepend").bytes("prepend")))]
    case "Nmt": return [.nmt]
    default: throw json.failure("normalizer of type \(Failure.quoted(type)) is not supported", .unsupported)
    }
  }
}

extension Normalizer {
  /// How many times as long steps may make a text: each may multiply what those before it made.
  static let mostGrowth = 4_096.0

  /// How many times as long replacements make a text at most; what Unicode says multiplies it by a few.
  var growth: Double {
    guard case .replace(let pattern, let content) = self else { return 1 }
    let shortest =
      switch pattern {
      case .literal(let text): text.count
      case .run(_, let least): least
      case .single, .words: 1
      }
    return max(1, Double(content.count) / Double(shortest))
  }
}

extension BertNormalizer {
  init(_ json: JSON) throws(Failure) {
    cleansText = try json.required("clean_text").bool("clean_text")
    separatesIdeographs = try json.required("handle_chinese_chars").bool("handle_chinese_chars")
    lowercases = try json.required("lowercase").bool("lowercase")
    // Accents go with the case unless the file says otherwise.
    stripsAccents = try json.optional("strip_accents")?.bool("strip_accents") ?? lowercases
  }
}

extension CharacterMap {
  init(_ json: JSON) throws(Failure) {
    let value = try json.required("precompiled_charsmap")
    guard let bytes = Base64.decoded(try value.bytes("precompiled_charsmap")) else {
      throw value.failure("precompiled_charsmap is no base64")
    }
    do throws(Failure) { try self.init(bytes) } catch { throw value.failure(error.problem) }
  }
}

extension TextPattern {
  /// `{"String": " "}`, or `{"Regex": " {2,}"}`.
  init(_ json: JSON) throws(Failure) {
    if let value = json.optional("String") {
      let literal = scalars(try value.bytes("String"))
      guard !literal.isEmpty else { throw value.failure("an empty pattern") }
      self = .literal(literal)
      return
    }
    let value = try json.required("Regex")
    guard let pattern = TextPattern(regex: try value.string("Regex")) else {
      throw value.failure(
        "pattern \(Failure.quoted(try value.bytes())) is not one of the known ones (GPT-2's, Qwen2's, Llama 3's, or "
          + "one "
          + "character with + or {N,})",
        .unsupported)
    }
    self = pattern
  }
}
