import Bytes
import CKernels
import Tensors

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
  /// The program that the weights are for.
  public var target: Target

  /// - Parameter attention: nil for 8-bit integers where the inputs of linear operations become such in a container;
  ///   else floats, which other programs compute it with.
  public init(
    linear: WeightChoice, table: WeightChoice, input: Op.LinearInput,
    overrides: [(pattern: String, choice: WeightChoice)] = [], choices: [TensorName: WeightChoice] = [:],
    floatInputs: Set<TensorName> = [], attention: Op.LinearInput? = nil, target: Target = .llv
  ) {
    self.linear = linear
    self.table = table
    self.input = input
    self.overrides = overrides
    self.choices = choices
    self.floatInputs = floatInputs
    self.attention = attention ?? (input == .int8 && target == .llv ? .int8 : .float)
    self.target = target
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
  /// Replaces weights of linear operations and token tables by grouped integers, each group's step found by search.
  ///
  /// - Parameter better: how some weights are quantized instead; nil for those that are searched.
  /// - Throws: `usage` for a pattern that matches nothing.
  public static func quantize(
    _ recipe: QuantizeRecipe,
    by better: @escaping @Sendable (Tensor, Grid) throws(Failure) -> Tensor.Computation? = { _, _ in nil }
  ) -> Pass {
    Pass("quantize") { (model, notes) throws(Failure) in
      let choices = try recipe.resolved(model, &notes)
      for tensor in model.tensors {
        guard let choice = choices[tensor.name], choice != .keep else { continue }
        guard case .plain(let type) = tensor.encoding, type.isWeight, tensor.count > 0 else {
          notes.append("tensor \(tensor.name.quoted) is \(tensor.encoding.text) and stays so")
          continue
        }
        let fitted = choice.fitted(to: tensor, &notes)
        switch fitted {
        case .bfloat16: model.set(tensor.rounded(to: .BF16))
        case .float16: model.set(tensor.rounded(to: .F16))
        default:
          guard let grid = fitted.grid(columns: tensor.columns) else {
            throw Failure(.internal, "no encoding for \(fitted.text)")
          }
          model.set(quantized(tensor, grid, by: try better(tensor, grid)))
        }
      }
      try model.rewriteGraphs { (graph, model) throws(Failure) in
        for (index, node) in graph.nodes.enumerated() {
          if case .attention(var attention) = node.op {
            // Biases are added to scores that are not rounded.
            attention.input = attention.hasBiases ? .float : recipe.attention
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
  public static func quantized(_ tensor: Tensor, _ grid: Grid, by computation: Tensor.Computation? = nil) -> Tensor {
    let search = Tensor.Computation { (threads) throws(Failure) in
      try GroupQuantizer(tensor, grid).run(threads: threads)
    }
    return Tensor(
      tensor.name, shape: tensor.shape, encoding: .grouped(grid.integers), content: .computed(computation ?? search))
  }

  /// Weights that quantizing makes smaller: those of linear operations and large token tables, in the model's order.
  public static func quantizableWeights(of model: Model, for target: Target = .llv) throws(Failure) -> [TensorName] {
    var (copy, notes) = (model, [String]())
    let any = WeightChoice.integers(bits: 8, group: nil, form: .symmetric)
    try run([.quantize(.init(linear: any, table: any, input: .float, target: target))], on: &copy, notes: &notes)
    return copy.tensors.map(\.name).filter { model[$0]?.encoding != copy[$0]?.encoding }
  }

  /// Whether a linear operation gives the scores of experts.
  fileprivate static func chooses(_ node: Graph.Node, _ graph: Graph) -> Bool {
    graph.nodes.contains { reader in
      if case .route = reader.op, case .node(let scores) = reader.inputs[0] {
        graph.nodes[scores] == node
      } else {
        false
      }
    }
  }

  fileprivate static func readsPixels(_ node: Graph.Node, _ graph: Graph) -> Bool {
    if case .node(let below) = node.inputs[0], case .rescale = graph.nodes[below].op { return true }
    return node.inputs[0] == .input(.pixels)
  }
}

extension QuantizeRecipe {
  /// Tables with fewer rows than this are kept: they are small, and every token reads them. In files whose every byte
  /// is counted token tables of any size may be rounded.
  private static let leastTableRows = 4_096

  /// What the recipe means for each weight of a model.
  ///
  /// - Throws: `usage` for a pattern that matches nothing, or a choice for no weight.
  public func resolved(_ model: Model, _ notes: inout [String]) throws(Failure) -> [TensorName: WeightChoice] {
    var weights: [TensorName: WeightChoice] = [:]
    for (_, graph) in model.graphs {
      for node in graph.nodes {
        guard let choice = choice(node, graph, model, &notes) else { continue }
        weights[choice.name] = choice.choice
      }
    }
    for (name, choice) in choices {
      guard weights[name] != nil else {
        throw Failure(.usage, "there is a choice for \(name.quoted), which is no weight of this model")
      }
      weights[name] = choice
    }
    for (pattern, choice) in overrides {
      let matches = weights.keys.filter { Glob.matches(pattern, $0.text) }
      guard !matches.isEmpty else {
        let ends = weights.keys.map { "*" + $0.text.suffix(pattern.count - 1) }.sorted()
        let advice =
          Suggestion.nearest(pattern, among: ends).map { "did you mean \($0)?" } ?? "inspect lists their names"
        throw Failure(.usage, "pattern \(Failure.quoted(pattern)) matches no weight; \(advice)")
      }
      for name in matches { weights[name] = choice }
    }
    return weights
  }

  private func choice(
    _ node: Graph.Node, _ graph: Graph, _ model: Model, _ notes: inout [String]
  ) -> (name: TensorName, choice: WeightChoice)? {
    switch node.op {
    case .linear:
      guard let tensor = model.tensor(node.inputs[1]) else { return nil }
      // Pixels come in as bytes; the weights of the patches are few, and errors in them reach every layer.
      // So are those that choose experts, and another choice is another model.
      if Pass.readsPixels(node, graph) || Pass.chooses(node, graph) { return (tensor.name, .keep) }
      return (tensor.name, linear)
    case .embedding:
      guard let tensor = model.tensor(node.inputs[0]) else { return nil }
      let isCounted = target == .gguf && node.inputs[1] == .input(.tokens)
      guard isCounted || tensor.rows >= QuantizeRecipe.leastTableRows else {
        notes.append("tensor \(tensor.name.quoted) is kept: a table of only \(tensor.rows) rows")
        return (tensor.name, .keep)
      }
      return (tensor.name, table)
    default: return nil
    }
  }
}

extension Model {
  /// Token tables, and other tables that are looked up.
  public var tableNames: Set<TensorName> {
    Set(
      graphs.flatMap(\.graph.nodes).compactMap { node in
        if case .embedding = node.op, case .tensor(let name) = node.inputs[0] { name } else { nil }
      })
  }

  /// Weights that several linear operations read: no module of another program has one for its own.
  public var sharedWeights: Set<TensorName> {
    var (once, shared) = (Set<TensorName>(), Set<TensorName>())
    for node in graphs.flatMap(\.graph.nodes) {
      guard case .linear = node.op, case .tensor(let name) = node.inputs[1] else { continue }
      if !once.insert(name).inserted { shared.insert(name) }
    }
    return shared
  }
}

extension WeightChoice {
  /// The choice as rows of this length allow it, with a note where that is another.
  public func fitted(to tensor: Tensor, _ notes: inout [String]) -> WeightChoice {
    let (columns, name) = (tensor.columns, tensor.name.quoted)
    switch self {
    case .block(let form):
      guard columns % form.elements != 0 else { return self }
      let smaller = form.fallback.flatMap { columns % $0.elements == 0 ? WeightChoice.block($0) : nil } ?? .float16
      notes.append(
        "tensor \(name): rows of \(columns) are no multiple of \(form.elements), \(smaller.text) in the place of "
          + text)
      return smaller
    case .integers(let bits, let group, let form):
      let size = min(group ?? columns, columns)
      if let group, size < group {
        notes.append("tensor \(name): rows of \(columns) are shorter than groups of \(group); one scale a row")
      } else if columns % size != 0 {
        notes.append("tensor \(name): the last group of each row has \(columns % size) elements")
      }
      guard form == .twoLevel, size % 8 != 0 else { return self }
      notes.append("tensor \(name): groups of \(size) have a scale and a zero each, not two levels")
      return .integers(bits: bits, group: group, form: .affine)
    default: return self
    }
  }
}

extension Tensor {
  /// The same tensor with each element rounded (nearest, ties to even) to BF16 or F16 when it is written.
  ///
  /// - Throws: when written, `limit` for what half precision cannot hold.
  fileprivate func rounded(to type: DType) -> Tensor {
    if encoding == .plain(type) { return self }
    let computation = Computation { (threads) throws(Failure) in
      let result = try Buffer(count: count * 2)
      try rowReader(threads: threads).forEachSpan(rows: rows, columns: columns, threads: threads) {
        (_, span, values) throws(Failure) in
        let (target, count) = (result.start + span.lowerBound * columns * 2, span.count * columns)
        if type == .BF16 { return llv_f32_to_bf16(values, target, count) }
        llv_f32_to_f16(values, target, count)
        guard let large = (0..<count).first(where: { abs(values[$0]) >= 65_520 && values[$0].isFinite }) else { return }
        throw Failure(.limit, "holds \(values[large]), which half precision cannot; keep this tensor")
      }
      return (result, nil)
    }
    return Tensor(name, shape: shape, encoding: .plain(type), content: .computed(computation))
  }
}
