import Bytes
import Tensors

extension Pass {
  /// Undoes what `fusions` did, so that tensors have the names and shapes of a checkpoint again. Codes, scales and
  /// zeros stay as they are where that is possible; the model computes the same. A norm's gain stays in the weights
  /// behind it, and the norm has none; a row or a bias that went into a table stays there.
  ///
  /// - Parameters:
  ///   - pixels: how the checkpoint scales them, for a model of pictures.
  ///   - keepsPadding: whether rows and columns of zeros are left where `padWidths` put them.
  public static func unfuse(pixels: Op.Rescale?, keepsPadding: Bool = false) -> Pass {
    Pass("unfuse") { (model, notes) throws(Failure) in
      try model.splitProjections()
      if !keepsPadding { try model.cutPadding() }
      try model.forgetPadding()
      try model.takeScaleBack(&notes)
      try model.giveBiasesBack()
      if let pixels { try model.takePixelsBack(pixels, &notes) }
      try model.takeNamesBack(&notes)
    }
  }
}

extension Model {
  /// Gives what graphs read the names that a checkpoint has for them, and leaves out the scales of `foldScales`, which
  /// nothing reads.
  fileprivate mutating func takeNamesBack(_ notes: inout [String]) throws(Failure) {
    var names: [TensorName: TensorName] = [:]
    for (_, graph) in graphs {
      for (index, node) in graph.nodes.enumerated() {
        for (place, source) in node.inputs.enumerated() {
          guard case .tensor(let name) = source, let taken = takenBack(name, node, place, index, graph)
          else { continue }
          guard names[name] == nil || names[name] == taken else {
            throw Failure(.unsupported, "stands for \(taken.text) and for another one", thing: "tensor \(name.quoted)")
          }
          names[name] = taken
        }
      }
    }
    for (name, taken) in names.sorted(by: { $0.key < $1.key }) where self[taken] != nil && names[taken] == nil {
      throw Failure(
        .unsupported, "is needed beside \(name.quoted), and a checkpoint has room for one; quantize with --no-fuse",
        thing: "tensor \(taken.quoted)")
    }
    let unused = Set(self.unused.filter { $0.marks.last == "scales" })
    removeTensors { unused.contains($0.name) }
    for (name, taken) in names.sorted(by: { $0.key < $1.key })
    where name.marks.contains(where: { $0.hasPrefix("row") }) {
      notes.append(
        "tensor \(taken.quoted) holds what is added to every token; the table that it came from is written as zeros")
    }
    try rename(names)
  }

  /// Other names for tensors, in the graphs too.
  mutating func rename(_ names: [TensorName: TensorName]) throws(Failure) {
    try replaceTensors { tensor in [names[tensor.name].map(tensor.renamed) ?? tensor] }
    for place in graphs.indices {
      for (index, node) in graphs[place].graph.nodes.enumerated() {
        let inputs = node.inputs.map { source -> Graph.Source in
          if case .tensor(let name) = source { .tensor(names[name] ?? name) } else { source }
        }
        if inputs != node.inputs { graphs[place].graph.replace(index, with: .init(node.op, inputs)) }
      }
    }
  }

  /// The checkpoint's name for what `node` reads in a place; nil where it has it, and where something that was done to
  /// it is not undone.
  private func takenBack(
    _ name: TensorName, _ node: Graph.Node, _ place: Int, _ index: Int, _ graph: Graph
  ) -> TensorName? {
    guard !name.marks.isEmpty else { return nil }
    switch (node.op, place) {
    case (.linear, 1): return name.marks.allSatisfy { $0 == "gain" } ? name.base : nil
    case (.linear, 2):
      // Passes name it after the bias or after the weight, as there was one or not.
      guard case .tensor(let weight) = node.inputs[1] else { return nil }
      return weight.biasBeside ?? name.base
    case (.embedding, 0): return name.marks.allSatisfy { $0.hasPrefix("row") } ? name.base : nil
    case (.norm, 1) where name.marks.last == "gain":
      // Made where the norm had none; it is called after what reads it, whose name may have changed.
      for reader in graph.readers(of: index) {
        if case .linear = graph.nodes[reader].op, case .tensor(let weight) = graph.nodes[reader].inputs[1] {
          return weight.base.made("gain")
        }
      }
    case (.norm, _) where name.marks == ["scaled"]: return name.base
    default: break
    }
    return nil
  }

  /// Puts what `made` gives in the place of each tensor.
  ///
  /// - Throws: `malformed` where two would have one name.
  mutating func replaceTensors(_ made: (Tensor) throws(Failure) -> [Tensor]) throws(Failure) {
    let old = tensors
    removeTensors { _ in true }
    for tensor in old {
      for new in try made(tensor) {
        guard self[new.name] == nil else {
          throw Failure(
            .malformed, "is there twice, the second time in \(tensor.name.quoted)", thing: "tensor \(new.name.quoted)")
        }
        set(new)
      }
    }
  }
}
