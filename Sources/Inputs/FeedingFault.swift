import Bytes

/// What other programs are known to do wrong on the way from a text to its tokens.
public enum FeedingFault: Sendable, Equatable {
  /// The model's prompt, or the item's instruction, is left out.
  case noPrompt
  /// It is put before a text that has it already.
  case doubledPrompt
  /// Another of the model's prompts is put before every text.
  case otherPrompt(String)
  /// The chat template is left out.
  case noTemplate
  /// The special tokens around a text are left out: both, those before it, those after it.
  case noSpecialTokens, noStart, noEnd
  /// They are put around a text twice.
  case doubledSpecialTokens
  /// A text is put into lower case that is not meant to be, or is not that is.
  case lowerCased, caseKept
  /// Texts are cut after this many tokens, sooner or later than the model has it.
  case cut(Int)

  /// In a few words, for people.
  public var words: String {
    switch self {
    case .noPrompt: "the prompt is missing"
    case .doubledPrompt: "the prompt is put before a text twice"
    case .otherPrompt(let name): "the prompt is \(Failure.quoted(name)), in the place of the item's own"
    case .noTemplate: "the chat template is missing"
    case .noSpecialTokens: "the special tokens around a text are missing"
    case .noStart: "the token that starts a text (BOS) is missing"
    case .noEnd: "the token that ends a text (EOS) is missing"
    case .doubledSpecialTokens: "the special tokens around a text are there twice"
    case .lowerCased: "texts are put into lower case"
    case .caseKept: "upper case is kept, which the model does not know"
    case .cut(let tokens): "texts are cut after \(tokens) tokens"
    }
  }

  /// A name for files.
  public var name: String {
    switch self {
    case .noPrompt: "no-prompt"
    case .doubledPrompt: "doubled-prompt"
    case .otherPrompt(let name): "prompt-" + name
    case .noTemplate: "no-template"
    case .noSpecialTokens: "no-special-tokens"
    case .noStart: "no-start-token"
    case .noEnd: "no-end-token"
    case .doubledSpecialTokens: "doubled-special-tokens"
    case .lowerCased: "lower-cased"
    case .caseKept: "case-kept"
    case .cut(let tokens): "cut-\(tokens)"
    }
  }
}

extension SampleBuilder {
  /// Limits that servers are known to have.
  private static let commonLimits = [32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192]

  /// Faults that change anything for this model.
  public var possibleFaults: [FeedingFault] {
    guard tokenizer != nil else { return [] }
    let prompts = configuration.prompts.filter { $0.name != configuration.defaultPrompt }.prefix(4)
    let all: [FeedingFault] =
      [
        .noPrompt, .doubledPrompt, .noTemplate, .noSpecialTokens, .noStart, .noEnd, .doubledSpecialTokens, .lowerCased,
        .caseKept,
      ] + prompts.map { .otherPrompt($0.name) }
      + SampleBuilder.commonLimits.filter { $0 != maximumTokens }.map { .cut($0) }
    return all.filter { with($0) != nil }
  }

  /// A builder with this fault; nil where the model has nothing that it could go wrong with.
  public func with(_ fault: FeedingFault) -> SampleBuilder? {
    guard let tokenizer else { return nil }
    var result = self
    switch fault {
    // An item may bring an instruction of its own.
    case .noPrompt:
      result.configuration.prompts = []
      result.ignoresInstructions = true
    case .doubledPrompt: result.doublesInstructions = true
    case .otherPrompt(let name):
      result.configuration.defaultPrompt = name
      result.ignoresInstructions = true
    case .noTemplate:
      guard configuration.template != nil else { return nil }
      result.configuration.template = nil
      result.prefix = []
    case .noSpecialTokens, .noStart, .noEnd, .doubledSpecialTokens, .lowerCased, .caseKept:
      guard let damaged = tokenizer.with(fault) else { return nil }
      result.tokenizer = damaged
    case .cut(let tokens): result.maximumTokens = tokens
    }
    return result
  }
}

extension Tokenizer {
  /// nil where the fault makes no difference.
  func with(_ fault: FeedingFault) -> Tokenizer? {
    let lowercases = normalizers.contains(where: \.lowercases)
    var result = self
    switch fault {
    case .noSpecialTokens: (result.before, result.after) = ([], [])
    // With tokens on one side alone this is the fault above.
    case .noStart: if !after.isEmpty { result.before = [] }
    case .noEnd: if !before.isEmpty { result.after = [] }
    case .doubledSpecialTokens: (result.before, result.after) = (before + before, after + after)
    case .lowerCased: if !lowercases { result.normalizers.insert(.lowercase, at: 0) }
    case .caseKept: result.normalizers = normalizers.compactMap(\.keepingCase)
    case .noPrompt, .doubledPrompt, .otherPrompt, .noTemplate, .cut: break
    }
    return result == self ? nil : result
  }
}

extension Normalizer {
  fileprivate var lowercases: Bool {
    switch self {
    case .lowercase: true
    case .bert(let normalizer): normalizer.lowercases
    default: false
    }
  }

  /// The step without its change of case; nil where nothing is left.
  fileprivate var keepingCase: Normalizer? {
    switch self {
    case .lowercase: return nil
    case .bert(var normalizer):
      normalizer.lowercases = false
      return .bert(normalizer)
    default: return self
    }
  }
}
