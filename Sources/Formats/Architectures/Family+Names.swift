import Bytes
import Tensors

extension Model {
  /// The same model with its tensors under the names of its family's first layout, so that one that came from another
  /// layout, or from a GGUF file, can be compared name by name.
  ///
  /// - Throws: as `Family` does.
  public func underFamilyNames() throws(Failure) -> Model {
    let names = Dictionary(
      uniqueKeysWithValues: zip(tensors.map(\.name), try Family(self).tensors.map(\.name)).filter { $0 != $1 })
    guard !names.isEmpty else { return self }
    var result = self
    result.removeTensors { _ in true }
    for tensor in tensors { result.set(tensor.renamed(names[tensor.name] ?? tensor.name)) }
    for index in graphs.indices {
      for (place, node) in graphs[index].graph.nodes.enumerated() {
        let inputs = node.inputs.map { source in
          if case .tensor(let name) = source { Graph.Source.tensor(names[name] ?? name) } else { source }
        }
        result.graphs[index].graph.replace(place, with: .init(node.op, inputs))
      }
    }
    return result
  }
}
