import Bytes
import CKernels
import Tensors

/// What becomes of one weight.
public enum WeightChoice: Sendable, Equatable {
  case keep
  /// Rounded to BF16, 16 bits.
  case bfloat16
  /// `group` elements share a scale; nil for a whole row (a channel).
  case integers(bits: Int, group: Int?, form: GroupedInteger.Form)

  /// `keep`, `16` for BF16, or bits with optional `:gN`, `:channel`, `:affine`, `:symmetric`, `:two-level`: `8`,
  /// `4:g64`, `8:channel`, `4:g32:symmetric`. Four bits are in two levels where nothing is said and groups allow it;
  /// groups have 32 weights, 16 in two levels.
  public init?(_ text: String) {
    if text == "keep" {
      self = .keep
      return
    }
    if text == "16" {
      self = .bfloat16
      return
    }
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard let bits = Int(parts[0]), bits == 4 || bits == 8 else { return nil }
    // Both nil where nothing is said; the inner one of the group is a whole row.
    var (group, form): (Int??, GroupedInteger.Form?) = (nil, nil)
    for part in parts.dropFirst() {
      switch part {
      case "channel": group = .some(nil)
      case _ where part.hasPrefix("g"):
        guard let size = Int(part.dropFirst()), size > 0, size <= 1 << 20 else { return nil }
        group = size
      default:
        guard let named = GroupedInteger.Form(rawValue: String(part)) else { return nil }
        form = named
      }
    }
    // Four bits need a zero of their own; eight do not. Two levels are for groups of whole eights.
    let hasLevels = if let size = group ?? 16 { bits == 4 && size % 8 == 0 } else { false }
    let chosen = form ?? (bits == 8 ? .symmetric : hasLevels ? .twoLevel : .affine)
    guard chosen != .twoLevel || hasLevels else { return nil }
    self = .integers(bits: bits, group: group ?? (chosen == .twoLevel ? 16 : 32), form: chosen)
  }

  public var text: String {
    switch self {
    case .keep: "keep"
    case .bfloat16: "16"
    case .integers(let bits, let group, let form):
      "\(bits):\(group.map { "g\($0)" } ?? "channel"):\(form.rawValue)"
    }
  }
}

/// What to do with every weight of a model.
public struct QuantizeRecipe: Sendable {
  /// For the weights of linear operations.
  public var linear: WeightChoice
  /// For token tables. They are looked up, not multiplied, and errors in them reach every layer.
  public var table: WeightChoice
  /// How linear operations with the weights that this makes treat their input.
  public var input: Op.LinearInput
  /// Patterns with `*` and `?` over tensor names, and what they override; the last match wins.
  public var overrides: [(pattern: String, choice: WeightChoice)]
  /// Choices for single weights, before the overrides.
  public var choices: [TensorName: WeightChoice]
  /// Weights whose inputs are multiplied as floats, whatever `input` says.
  public var floatInputs: Set<TensorName>
  /// What attention is computed with.
  public var attention: Op.LinearInput

  /// - Parameter attention: nil for 8-bit integers where the inputs of linear operations become such, else floats.
  public init(
    linear: WeightChoice, table: WeightChoice, input: Op.LinearInput,
    overrides: [(pattern: String, choice: WeightChoice)] = [], choices: [TensorName: WeightChoice] = [:],
    floatInputs: Set<TensorName> = [], attention: Op.LinearInput? = nil
  ) {
    self.linear = linear
    self.table = table
    self.input = input
    self.overrides = overrides
    self.choices = choices
    self.floatInputs = floatInputs
    self.attention = attention ?? (input == .int8 ? .int8 : .float)
  }

  public var json: JSONText {
    [
      "linear": .string(linear.text), "table": .string(table.text), "input": .string(input.rawValue),
      "attention": .string(attention.rawValue),
      "overrides": .array(overrides.map { ["pattern": .string($0.pattern), "choice": .string($0.choice.text)] }),
      "choices": .object(
        choices.sorted { $0.key.text < $1.key.text }.map { name, choice in
          (name.text, .string(choice.text + (floatInputs.contains(name) ? ", float inputs" : "")))
        }),
    ]
  }
}

extension Pass {
  /// Tables with fewer rows than this are kept: they are small, and every token reads them.
  private static let leastTableRows = 4_096

  /// Replaces weights of linear operations and token tables by grouped integers, each group's step found by search.
  ///
  /// - Parameter better: how some weights are quantized instead; nil for those that are searched.
  /// - Throws: `usage` for a pattern that matches nothing.
  public static func quantize(
    _ recipe: QuantizeRecipe,
    by better: @escaping @Sendable (Tensor, GroupedInteger) throws(Failure) -> Tensor.Computation? = { _, _ in nil }
  ) -> Pass {
    Pass("quantize") { (model, notes) throws(Failure) in
      var weights: [TensorName: WeightChoice] = [:]
      for (_, graph) in model.graphs {
        for node in graph.nodes {
          guard let choice = defaultChoice(node, graph, recipe, model, &notes) else { continue }
          weights[choice.name] = choice.choice
        }
      }
      for (name, choice) in recipe.choices {
        guard weights[name] != nil else {
          throw Failure(.usage, "there is a choice for \(name.quoted), which is no weight of this model")
        }
        weights[name] = choice
      }
      for (pattern, choice) in recipe.overrides {
        let matches = weights.keys.filter { Glob.matches(pattern, $0.text) }
        guard !matches.isEmpty else {
          let ends = weights.keys.map { "*" + $0.text.suffix(pattern.count - 1) }.sorted()
          let advice =
            Suggestion.nearest(pattern, among: ends).map { "did you mean \($0)?" } ?? "inspect lists their names"
          throw Failure(.usage, "pattern \(Failure.quoted(pattern)) matches no weight; \(advice)")
        }
        for name in matches { weights[name] = choice }
      }
      for tensor in model.tensors {
        guard let choice = weights[tensor.name], choice != .keep else { continue }
        guard case .plain(let type) = tensor.encoding, type.isWeight, tensor.count > 0 else {
          notes.append("tensor \(tensor.name.quoted) is \(tensor.encoding.text) and stays so")
          continue
        }
        guard case .integers(let bits, let group, var form) = choice else {
          model.set(tensor.roundedToBFloat16)
          continue
        }
        let size = min(group ?? tensor.columns, tensor.columns)
        if let group, size < group {
          notes.append(
            "tensor \(tensor.name.quoted): rows of \(tensor.columns) are shorter than groups of \(group); one scale a row"
          )
        } else if tensor.columns % size != 0 {
          notes.append("tensor \(tensor.name.quoted): the last group of each row has \(tensor.columns % size) elements")
        }
        if form == .twoLevel, size % 8 != 0 {
          notes.append("tensor \(tensor.name.quoted): groups of \(size) have a scale and a zero each, not two levels")
          form = .affine
        }
        let scaleType: DType = form == .twoLevel ? .BF16 : .F16
        guard let integers = GroupedInteger(bits: bits, groupSize: size, form: form, scaleType: scaleType) else {
          throw Failure(.internal, "no encoding for \(choice.text)")
        }
        model.set(quantized(tensor, integers, by: try better(tensor, integers)))
      }
      try model.rewriteGraphs { (graph, model) throws(Failure) in
        for (index, node) in graph.nodes.enumerated() {
          if case .attention(var attention) = node.op {
            attention.input = recipe.attention
            graph.replace(index, with: .init(.attention(attention), node.inputs))
          }
          guard case .linear = node.op, let weight = model.tensor(node.inputs[1]) else { continue }
          let input = recipe.floatInputs.contains(weight.name) ? .float : recipe.input
          // Integers of the input go with integers, BF16 with BF16; pixels stay as they are.
          switch (weight.encoding, input) {
          case (.grouped, .float), (.grouped, .int8): break
          case (.plain(.BF16), .float), (.plain(.BF16), .bfloat16): if readsPixels(node, graph) { continue }
          default: continue
          }
          graph.replace(index, with: .init(.linear(input), node.inputs))
        }
      }
    }
  }

  /// A tensor as grouped integers, by search where nothing better is given.
  public static func quantized(
    _ tensor: Tensor, _ integers: GroupedInteger, by computation: Tensor.Computation? = nil
  ) -> Tensor {
    let search = Tensor.Computation { (threads) throws(Failure) in
      try GroupQuantizer(tensor, integers).run(threads: threads)
    }
    return Tensor(
      tensor.name, shape: tensor.shape, encoding: .grouped(integers), content: .computed(computation ?? search))
  }

  /// Weights that quantizing makes smaller: those of linear operations and large token tables, in the model's order.
  public static func quantizableWeights(of model: Model) throws(Failure) -> [TensorName] {
    var (copy, notes) = (model, [String]())
    let any = WeightChoice.integers(bits: 8, group: nil, form: .symmetric)
    try run([.quantize(.init(linear: any, table: any, input: .float))], on: &copy, notes: &notes)
    return copy.tensors.map(\.name).filter { model[$0]?.encoding != copy[$0]?.encoding }
  }

  private static func defaultChoice(
    _ node: Graph.Node, _ graph: Graph, _ recipe: QuantizeRecipe, _ model: Model, _ notes: inout [String]
  ) -> (name: TensorName, choice: WeightChoice)? {
    switch node.op {
    case .linear:
      guard let tensor = model.tensor(node.inputs[1]) else { return nil }
      // Pixels come in as bytes; the weights of the patches are few, and errors in them reach every layer.
      if readsPixels(node, graph) { return (tensor.name, .keep) }
      return (tensor.name, recipe.linear)
    case .embedding:
      guard let tensor = model.tensor(node.inputs[0]) else { return nil }
      guard tensor.rows >= leastTableRows else {
        notes.append("tensor \(tensor.name.quoted) is kept: a table of only \(tensor.rows) rows")
        return (tensor.name, .keep)
      }
      return (tensor.name, recipe.table)
    default: return nil
    }
  }

  private static func readsPixels(_ node: Graph.Node, _ graph: Graph) -> Bool {
    if case .node(let below) = node.inputs[0], case .rescale = graph.nodes[below].op { return true }
    return node.inputs[0] == .input(.pixels)
  }
}

extension Tensor {
  /// The same tensor with each element rounded to BF16 (nearest, ties to even) when it is written.
  fileprivate var roundedToBFloat16: Tensor {
    if encoding == .plain(.BF16) { return self }
    let computation = Computation { (threads) throws(Failure) in
      let result = try Buffer(count: count * 2)
      try rowReader(threads: threads).forEachSpan(rows: rows, columns: columns, threads: threads) { _, span, values in
        llv_f32_to_bf16(values, result.start + span.lowerBound * columns * 2, span.count * columns)
      }
      return (result, nil)
    }
    return Tensor(name, shape: shape, encoding: .plain(.BF16), content: .computed(computation))
  }
}
