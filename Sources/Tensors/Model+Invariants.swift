import Bytes

extension Model {
  /// Holds the model to what every later step relies on: names are names and unique, sizes follow from shapes, each graph
  /// reads only what exists, and every operation gets shapes it takes. Runs after each pass and each load.
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
    for (name, graph) in graphs {
      do throws(Failure) {
        let types = try graph.types { self[$0].flatMap(\.valueType) }
        guard types.indices.contains(graph.output) else { throw Failure(.malformed, "the graph has no output") }
        if name == "text", types[graph.output] != ValueType(.sequences, configuration.width) {
          throw Failure(
            .malformed, "gives \(types[graph.output].text), but the embedding has \(configuration.width) columns")
        }
      } catch { failures.append(error.about("graph \(Failure.quoted(name))")) }
    }
    if let failure = Failure.all(failures) { throw failure }
  }
}

extension Tensor {
  /// What an operation sees of the tensor: a vector is one row. nil for more than two dimensions, and for empty tensors.
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
    default: return nil
    }
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
    case .bytes(let view): held = view.count
    case .stored(let stored): held = stored.count
    case .computed: return nil
    }
    return held == bytes
      ? nil : Failure(.malformed, "holds \(held) bytes, but \(encoding.text) \(shape) needs \(bytes)")
  }
}
