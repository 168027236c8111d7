import Bytes
import Tensors

extension Model {
  /// All that an embedding depends on but the weights, as names and values: configuration, parameters of operations,
  /// hashes of the files. For comparing two models; operations are numbered among those of their kind, so that fusions
  /// move little.
  ///
  /// - Throws: what reading the files throws.
  public func facts() throws(Failure) -> [(name: String, value: String)] {
    var result: [(name: String, value: String)] = []
    Model.flatten(Container.json(configuration), "configuration", &result)
    // Written only where it is not 1.
    if let vision = configuration.vision, vision.pooling == 1 {
      result.append(("configuration, vision, pool_pictures", "1"))
    }
    for (name, graph) in graphs {
      var counts: [String: Int] = [:]
      for node in graph.nodes {
        let number = counts[node.op.name, default: 0]
        counts[node.op.name] = number + 1
        switch node.op {
        // What quantization and fusions are there to change.
        case .linear, .slice: continue
        default:
          for (key, value) in Container.parameters(node.op) {
            Model.flatten(value, "\(name) graph, \(node.op.name) \(number), \(key)", &result)
          }
        }
      }
    }
    if let graph = graph("text"), graph.nodes.indices.contains(graph.output) {
      result.append(("text graph, normalised", graph.nodes[graph.output].op == .normalize ? "true" : "false"))
    }
    for file in files {
      var hash = XXH64()
      guard let bytes = try self.file(file.name) else { continue }
      bytes.withUnsafeBytes { hash.update($0) }
      result.append(("file \(file.name)", String(hash.value(), radix: 16)))
    }
    return result
  }

  private static func flatten(_ json: JSONText, _ path: String, _ result: inout [(name: String, value: String)]) {
    switch json {
    case .object(let members): for (key, value) in members { flatten(value, "\(path), \(key)", &result) }
    default: result.append((path, json.text()))
    }
  }
}
