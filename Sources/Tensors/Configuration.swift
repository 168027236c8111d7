/// The facts about a model that its graphs do not hold.
public struct Configuration: Sendable, Equatable {
  /// Architecture by the name its family uses: `bert`, `qwen2`, `llava_onevision`, `siglip`.
  public var architecture: String
  /// Columns of the embedding.
  public var width: Int
  /// Rows of the token table.
  public var vocabulary: Int
  /// Tokens of one input at most, special tokens included; longer inputs are cut.
  public var maximumTokens: Int
  /// Texts that are put before an input, by name.
  public var prompts: [Prompt] = []
  /// Name of the prompt used when none is asked for.
  public var defaultPrompt: String?
  /// What stands around every input of a chat model.
  public var template: Template?
  /// How pictures are prepared; nil for models of text alone.
  public var vision: Vision?

  public struct Prompt: Sendable, Equatable {
    public var name: String
    public var text: String

    public init(name: String, text: String) {
      self.name = name
      self.text = text
    }
  }

  /// Text put before and after what the user says, special tokens included.
  public struct Template: Sendable, Equatable {
    public var before, after: String

    public init(before: String, after: String) {
      self.before = before
      self.after = after
    }
  }

  public init(architecture: String, width: Int, vocabulary: Int, maximumTokens: Int) {
    self.architecture = architecture
    self.width = width
    self.vocabulary = vocabulary
    self.maximumTokens = maximumTokens
  }
}
