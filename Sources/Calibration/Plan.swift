import Bytes
import Passes
import Tensors

/// What becomes of each weight of a model: a file that people may read and change.
public struct Plan: Sendable {
  public struct Entry: Sendable {
    public let name: TensorName
    public var choice: WeightChoice
    /// Whether its input is multiplied as floats where others' are rounded.
    public var hasFloatInput: Bool
    /// What this choice adds to the predicted cost, and the weight's relative error, where a planner found them.
    /// Not read back.
    public var cost, relativeError: Double?

    public init(
      name: TensorName, choice: WeightChoice, hasFloatInput: Bool = false, cost: Double? = nil,
      relativeError: Double? = nil
    ) {
      (self.name, self.choice, self.hasFloatInput) = (name, choice, hasFloatInput)
      (self.cost, self.relativeError) = (cost, relativeError)
    }

    fileprivate var json: JSONText {
      var members: [(String, JSONText)] = [
        ("name", .string(name.text)), ("choice", .string(choice.text)), ("float_input", .bool(hasFloatInput)),
      ]
      if let cost { members.append(("cost", .number(cost))) }
      if let relativeError { members.append(("relative_error", .number(relativeError))) }
      return .object(members)
    }
  }

  /// Checksum of the container that the plan is for.
  public let model: String
  public let input: Op.LinearInput
  /// The program whose files the plan is for.
  public let target: Target
  /// How pictures are laid out; empty for as they were.
  public var layout = PictureLayout()
  /// For people: what was minimised, and what it comes to.
  public var notes: [(String, JSONText)] = []
  public var entries: [Entry]
  /// Bytes of all weights, where a planner has counted them.
  public var weightBytes = 0

  public init(model: String, input: Op.LinearInput, target: Target = .llv, entries: [Entry]) {
    (self.model, self.input, self.target, self.entries) = (model, input, target, entries)
  }

  /// Whether any weight becomes something else. Where none does, a model's graph stays as it is too.
  public var changesWeights: Bool { entries.contains { $0.choice != .keep } }

  public var recipe: QuantizeRecipe {
    QuantizeRecipe(
      linear: .keep, table: .keep, input: input,
      choices: Dictionary(entries.map { ($0.name, $0.choice) }, uniquingKeysWith: { first, _ in first }),
      floatInputs: Set(entries.filter(\.hasFloatInput).map(\.name)), target: target)
  }

  public var json: JSONText {
    var members: [(String, JSONText)] = [
      ("format", "llvconv plan"), ("model", .string(model)), ("input", .string(input.rawValue)),
    ]
    if target != .llv { members.append(("for", .string(target.rawValue))) }
    members += layout.json
    members.append(("notes", .object(notes)))
    members.append(("weights", .array(entries.map(\.json))))
    return .object(members)
  }

  /// - Throws: `malformed` for an unknown key, a wrong type, an unknown choice, or a weight that is there twice.
  public init(_ json: JSON) throws(Failure) {
    try json.refuseUnknownKeys(["format", "model", "input", "for", "views", "pool_pictures", "notes", "weights"])
    guard try json.required("format").string("format") == "llvconv plan" else {
      throw json.failure("format must be \"llvconv plan\"")
    }
    model = try json.required("model").string("model")
    let inputValue = try json.required("input")
    guard let input = Op.LinearInput(rawValue: try inputValue.string("input")) else {
      throw inputValue.failure("input must be float, bfloat16 or int8")
    }
    self.input = input
    target =
      try json.optional("for").map { (value) throws(Failure) in
        guard let target = Target(rawValue: try value.string("for")) else {
          throw value.failure("for must be one of \(Target.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        return target
      } ?? .llv
    layout = PictureLayout(
      views: try json.optional("views")?.integer("views", in: 1...PictureLayout.mostViews),
      pooling: try json.optional("pool_pictures")?.integer("pool_pictures", in: Vision.poolings))
    entries = []
    var names = Set<TensorName>()
    for entry in try json.required("weights").elements("weights") {
      try entry.refuseUnknownKeys(["name", "choice", "float_input", "cost", "relative_error"])
      let choiceValue = try entry.required("choice")
      let text = try choiceValue.string("choice")
      guard let choice = WeightChoice(text) else {
        throw choiceValue.failure(
          "choice must be \(WeightChoice.grammar); found \(Failure.quoted(text))")
      }
      let name = TensorName(try entry.required("name").string("name"))
      guard names.insert(name).inserted else { throw entry.failure("weight \(name.quoted) is there twice") }
      entries.append(
        Entry(
          name: name, choice: choice,
          hasFloatInput: try entry.optional("float_input").map { (value) throws(Failure) in
            try value.bool("float_input")
          }
            ?? false))
    }
  }
}
