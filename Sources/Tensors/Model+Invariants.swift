import Bytes

extension Model {
  /// Holds the model to what every later step relies on: names are names and unique, sizes follow from shapes, each
  /// graph reads only what exists, and every operation gets shapes it takes. Runs after each pass and each load.
  ///
  /// - Throws: `malformed` with every fault found, not only the first.
  /// - Cost: linear in tensors and nodes; reads no tensor data.
  public func checkInvariants() throws(Failure) {
    var failures: [Failure] = []
    if Set(tensors.map(\.name)).count != tensors.count {
      failures.append(Failure(.malformed, "two tensors have one name"))
    }
    for tensor in tensors {
      if let problem = tensor.problem { failures.append(problem.about("tensor \(tensor.name.quoted)")) }
    }
    if let problem = configuration.vision?.problem { failures.append(Failure(.malformed, problem, thing: "vision")) }
    if graph("projector") != nil, configuration.vision == nil {
      failures.append(Failure(.malformed, "a projector of pictures that nothing lays out", thing: "vision"))
    }
    for (name, graph) in graphs {
      do throws(Failure) {
        let types = try types(of: graph)
        guard types.indices.contains(graph.output) else { throw Failure(.malformed, "the graph has no output") }
        guard let wanted = resultType(name) else {
          throw Failure(.malformed, "a graph of this name is not known; text, vision and projector are")
        }
        if types[graph.output] != wanted {
          throw Failure(.malformed, "gives \(types[graph.output].text), \(wanted.text) expected")
        }
      } catch { failures.append(error.about("graph \(Failure.quoted(name))")) }
    }
    if let failure = Failure.all(failures) { throw failure }
  }
}

extension Model {
  /// Type of every node's result.
  public func types(of graph: Graph) throws(Failure) -> [ValueType] {
    try graph.types(tensor: { self[$0].flatMap(\.valueType) }, input: { configuration.type(of: $0) })
  }

  /// What the graph called `name` has to give; nil for a name that has no meaning.
  private func resultType(_ name: String) -> ValueType? {
    let embedding = ValueType(.sequences, configuration.width)
    switch name {
    case "text": return embedding
    // Without a projector the vision graph ends in the embedding.
    case "vision": return graph("projector") == nil ? embedding : configuration.type(of: .hidden)
    case "projector": return configuration.type(of: .features)
    default: return nil
    }
  }
}

extension Configuration {
  /// The type of something that belongs to the batch; nil where this model has no such thing.
  public func type(of input: Graph.Input) -> ValueType? {
    switch input {
    case .tokens, .positions: ValueType(.tokens, 1, isIndex: true)
    case .starts: ValueType(.starts, 1, isIndex: true)
    case .pixels: vision.map { ValueType(.tokens, $0.patchColumns) }
    case .hidden: vision.map { ValueType(.tokens, $0.width) }
    case .features: vision.map { _ in ValueType(.features, width) }
    case .taps: ValueType(.features, Graph.tapCount, isIndex: true)
    case .weights: ValueType(.features, Graph.tapCount)
    }
  }
}

extension Tensor {
  /// What an operation sees of the tensor: a vector is one row; of more than two dimensions all but the outermost are
  /// columns. nil for empty tensors, and for integers of more than two dimensions.
  var valueType: ValueType? {
    let isIndex =
      switch encoding {
      case .plain(let type): !type.isWeight
      case .grouped: false
      }
    guard count > 0 else { return nil }
    switch shape.count {
    case 1: return ValueType(.fixed(1), shape[0], isIndex: isIndex)
    case 2: return ValueType(.fixed(shape[0]), shape[1], isIndex: isIndex)
    default:
      guard case .plain = encoding, shape.count > 2 else { return nil }
      return ValueType(.fixed(shape[0]), count / shape[0], isIndex: isIndex)
    }
  }

  /// The same elements with two dimensions, as operations see them.
  public var matrix: Tensor {
    guard shape.count > 2, count > 0 else { return self }
    return Tensor(name, shape: [shape[0], count / shape[0]], encoding: encoding, content: content)
  }

  var problem: Failure? {
    if let problem = TensorName.problem(with: name.bytes) { return problem }
    guard shape.count <= Limits.rank else {
      return Failure(.unsupported, "rank \(shape.count), at most \(Limits.rank)")
    }
    guard shape.allSatisfy({ $0 >= 0 }), let bytes = encoding.byteCount(shape) else {
      return Failure(.malformed, "shape \(shape) does not fit encoding \(encoding.text)")
    }
    let held: Int
    switch content {
    case .panels(let stored):
      let expected = PanelOrder(encoding, shape)?.byteCount
      return stored.count == expected
        ? nil : Failure(.malformed, "holds \(stored.count) bytes, which are no panels of \(encoding.text) \(shape)")
    case .bytes(let view): held = view.count
    case .stored(let stored): held = stored.count
    case .computed, .rows: return nil
    }
    return held == bytes
      ? nil : Failure(.malformed, "holds \(held) bytes, but \(encoding.text) \(shape) needs \(bytes)")
  }
}
