import Bytes
import Tensors

/// A place where the columns of some weights can be multiplied, and what feeds them divided, without a change of what
/// the model computes: `W x = (W diag(t)) (diag(1/t) x)`. Scales are powers of two, so that not a bit of it changes.
public struct ScaleSite: Sendable {
  /// Linear weights that read one value, and nothing else reads it.
  public let weights: [TensorName]
  /// For each of their columns the scale it takes; several heads may read one value.
  public let scaleOfColumn: [Int]
  public let scaleCount: Int
  fileprivate let graph: Int
  fileprivate let feed: Feed

  fileprivate enum Feed: Sendable {
    /// A norm, whose gain and bias are divided.
    case norm(Int)
    /// Rows of a linear operation's weight and bias.
    case rows(linear: Int, offset: Int)
  }

  /// What keeps the scales in a container, for those who compare weights.
  public var tensorName: TensorName { weights[0].made("scales") }
  /// The weight whose rows are divided, if any.
  public func fed(in model: Model) -> TensorName? {
    guard case .rows(let linear, _) = feed,
      case .tensor(let name) = model.graphs[graph].graph.nodes[linear].inputs[1]
    else { return nil }
    return name
  }
}

extension Model {
  /// All sites: norm → linear where nothing else reads the norm, values → what follows attention, and the linear factor
  /// of a gated product → what follows it.
  public var scaleSites: [ScaleSite] {
    graphs.indices.flatMap { place in
      let graph = graphs[place].graph
      return graph.nodes.indices.compactMap { site(of: $0, graph, place) }
    }
  }

  private func site(of node: Int, _ graph: Graph, _ place: Int) -> ScaleSite? {
    let readers = graph.readers(of: node)
    var weights: [TensorName] = []
    for reader in readers {
      guard case .linear = graph.nodes[reader].op, graph.nodes[reader].inputs[0] == .node(node),
        case .tensor(let name) = graph.nodes[reader].inputs[1], let weight = self[name], weight.shape.count == 2,
        graph.nodes.count(where: { $0.inputs.contains(.tensor(name)) }) == 1
      else { return nil }
      weights.append(name)
    }
    guard node != graph.output, let columns = weights.first.flatMap({ self[$0]?.columns }) else { return nil }
    switch graph.nodes[node].op {
    case .norm(let kind, _, 1) where kind != .rmsPlusOne:
      return ScaleSite(
        weights: weights, scaleOfColumn: Array(0..<columns), scaleCount: columns, graph: place, feed: .norm(node))
    case .attention(let attention):
      guard let feed = rows(graph.nodes[node].inputs[2], readBy: node, graph) else { return nil }
      let group = attention.heads / attention.keyValueHeads
      return ScaleSite(
        weights: weights,
        scaleOfColumn: (0..<columns).map {
          $0 / attention.headWidth / group * attention.headWidth + $0 % attention.headWidth
        },
        scaleCount: attention.keyValueHeads * attention.headWidth, graph: place, feed: feed)
    case .multiply:
      guard let feed = graph.nodes[node].inputs.lazy.compactMap({ rows($0, readBy: node, graph) }).first else {
        return nil
      }
      return ScaleSite(
        weights: weights, scaleOfColumn: Array(0..<columns), scaleCount: columns, graph: place, feed: feed)
    default: return nil
    }
  }

  /// The rows of a linear operation that make a value which `reader` alone reads.
  private func rows(_ source: Graph.Source, readBy reader: Int, _ graph: Graph) -> ScaleSite.Feed? {
    guard case .node(var node) = source, graph.readers(of: node) == [reader],
      graph.nodes[reader].inputs.count(where: { $0 == source }) == 1
    else { return nil }
    var offset = 0
    if case .slice(let first, _) = graph.nodes[node].op, case .node(let below) = graph.nodes[node].inputs[0] {
      (offset, node) = (first, below)
    }
    guard case .linear = graph.nodes[node].op,
      graph.nodes[node].inputs.dropFirst().allSatisfy({ source in
        graph.nodes.count(where: { $0.inputs.contains(source) }) == 1
      })
    else { return nil }
    return .rows(linear: node, offset: offset)
  }
}

extension Pass {
  /// Multiplies and divides at some sites; the scales are kept beside the weights.
  ///
  /// - Parameter scales: for each site to be changed, by the name of what keeps them, powers of two.
  public static func foldScales(_ scales: [TensorName: [Float]]) -> Pass {
    Pass("fold-scales") { (model, notes) throws(Failure) in
      for site in model.scaleSites {
        guard let scales = scales[site.tensorName] else { continue }
        guard scales.count == site.scaleCount, scales.allSatisfy({ $0 > 0 && $0.isFinite && $0.significand == 1 })
        else {
          throw Failure(.malformed, "no powers of two for \(site.scaleCount) columns", thing: site.tensorName.quoted)
        }
        let columns = site.scaleOfColumn.map { scales[$0] }
        for name in site.weights { if let weight = model[name] { model.set(weight.scaled(columns: columns)) } }
        divide(by: scales, site, &model)
        model.set(try Tensor(site.tensorName, floats: scales, shape: [scales.count]))
      }
    }
  }

  private static func divide(by scales: [Float], _ site: ScaleSite, _ model: inout Model) {
    var graph = model.graphs[site.graph].graph
    let inverse = scales.map { 1 / $0 }
    switch site.feed {
    case .norm(let place):
      let node = graph.nodes[place]
      var inputs = [node.inputs[0]]
      for source in node.inputs.dropFirst() {
        if let tensor = model.tensor(source) {
          let scaled = tensor.scaled(columns: inverse).renamed(tensor.name.made("scaled"))
          model.set(scaled)
          inputs.append(.tensor(scaled.name))
        }
      }
      if inputs.count == 1 {
        let gain = site.weights[0].made("gain")
        let content = Tensor.Computation { (_) throws(Failure) in
          let buffer = try Buffer(count: inverse.count * 4)
          buffer.with(Float.self) { _ = $0.update(fromContentsOf: inverse) }
          return (buffer, nil)
        }
        model.set(Tensor(gain, shape: [inverse.count], encoding: .plain(.F32), content: .computed(content)))
        inputs.append(.tensor(gain))
      }
      graph.replace(place, with: .init(node.op, inputs))
      model.graphs[site.graph].graph = graph
      // The norm's old gain and bias.
      let unused = Set(model.unused)
      let old = Set(node.inputs.dropFirst().compactMap { model.tensor($0)?.name })
      model.removeTensors { old.contains($0.name) && unused.contains($0.name) }
    case .rows(let linear, let offset):
      for (number, source) in graph.nodes[linear].inputs.dropFirst().enumerated() {
        guard let tensor = model.tensor(source) else { continue }
        let all = (0..<(number == 0 ? tensor.rows : tensor.count)).map { row in
          offset..<offset + inverse.count ~= row ? inverse[row - offset] : 1
        }
        model.set(number == 0 ? tensor.scaled(rows: all) : tensor.scaled(columns: all))
      }
    }
  }
}

extension Tensor {
  /// The same tensor in Float32 with columns or rows multiplied when it is read.
  fileprivate func scaled(columns: [Float]? = nil, rows factors: [Float]? = nil) -> Tensor {
    let width = self.columns
    return Tensor(
      name, shape: shape, encoding: .plain(.F32),
      content: .rows { (threads) throws(Failure) in
        let reader = try rowReader(threads: threads)
        return RowReader { (span, target) throws(Failure) in
          try reader.read(span, into: target)
          for (number, row) in span.enumerated() {
            let values = target + number * width
            if let columns { for column in 0..<width { values[column] *= columns[column] } }
            if let factor = factors?[row], factor != 1 { for column in 0..<width { values[column] *= factor } }
          }
        } end: { (isComplete) throws(Failure) in
          try reader.finish(isComplete: isComplete)
        }
      })
  }
}
