import Bytes
import Fidelity
import Formats
import Inputs
import Passes
import Tensors

/// The vectors that a reference gives anchors when one thing is done wrong.
struct AnchorFaults {
  /// Anchors of text that faults are shown on, at most.
  private static let most = 120

  /// Places of the anchors that faults are shown on: texts, spread over all, with the longest among them.
  static func rows(_ items: [AnchorFile.Item]) -> [Int] {
    let texts = items.indices.filter { items[$0].text != nil && items[$0].pictures.isEmpty }
    let longest = texts.sorted { (items[$0].text?.utf8.count ?? 0, $1) > (items[$1].text?.utf8.count ?? 0, $0) }.prefix(
      most / 6)
    let rest = texts.filter { !longest.contains($0) }
    let room = most - longest.count
    let spread = rest.count <= room ? rest : (0..<room).map { rest[$0 * rest.count / room] }
    return (longest + spread).sorted()
  }

  /// - Parameters:
  ///   - vectors: the reference's own, `[rows, width]`; a fault that gives nearly these is left out.
  static func all(
    _ model: LoadedModel, _ options: LoadedModel.Options, _ items: [Item], vectors: [Float]
  ) throws(Failure) -> [AnchorFile.Fault] {
    guard !items.isEmpty, model.builder.tokenizer != nil else { return [] }
    var result: [AnchorFile.Fault] = []
    let (faults, poolings) = (model.builder.possibleFaults, otherPoolings(model.file.model))
    let progress = Progress("embedding with faults", of: faults.count + poolings.count)
    func add(_ name: String, _ words: String, _ found: [Float]) {
      progress.show(result.count)
      if AnchorFaults.differs(found, vectors) { result.append(.init(name: name, words: words, vectors: found)) }
    }
    for fault in faults {
      // Longer texts than a model has positions for cannot be had from it.
      guard let damaged = model.fed(with: fault), let found = try? damaged.vectors(items) else { continue }
      add(fault.name, fault.words, found)
    }
    for kind in poolings {
      let damaged = try LoadedModel(model.file, options, passes: [.pooled(by: kind)])
      add("pooling-\(kind.rawValue)", "pooling is \(kind.inWords)", try damaged.vectors(items))
    }
    Progress.clear()
    return result
  }

  /// Ways of pooling that the model does not have; none for a model that joins several.
  private static func otherPoolings(_ model: Model) -> [Op.Pooling] {
    let own = model.graph("text")?.nodes.compactMap { node in if case .pool(let kind) = node.op { kind } else { nil } }
    guard let own, own.count == 1 else { return [] }
    return [Op.Pooling.first, .mean, .last, .max].filter { $0 != own[0] }
  }

  /// Whether any vector is another.
  private static func differs(_ a: [Float], _ b: [Float]) -> Bool {
    zip(a, b).contains { abs($0 - $1) > 0.001 }
  }
}

extension Pass {
  /// Pools otherwise, as programs do that do not read how a model pools.
  fileprivate static func pooled(by kind: Op.Pooling) -> Pass {
    Pass("pool-otherwise") { (model, notes) throws(Failure) in
      for index in model.graphs.indices where model.graphs[index].name == "text" {
        for (place, node) in model.graphs[index].graph.nodes.enumerated() {
          if case .pool = node.op { model.graphs[index].graph.replace(place, with: .init(.pool(kind), node.inputs)) }
        }
      }
    }
  }
}

extension Op.Pooling {
  fileprivate var inWords: String {
    switch self {
    case .first: "the first token (CLS)"
    case .last: "the last token"
    case .mean: "the mean over tokens"
    case .max: "the largest of each column"
    case .weightedMean: "the weighted mean"
    case .rootMean: "the sum over the root of the count"
    }
  }
}

extension LoadedModel {
  /// The same model fed wrongly; nil where the fault makes no difference. Not for a cache.
  fileprivate func fed(with fault: FeedingFault) -> LoadedModel? {
    guard let damaged = builder.with(fault) else { return nil }
    var result = self
    result.builder = damaged
    return result
  }

  /// A vector for each item, which must be texts; zeros where nothing is left of one.
  fileprivate func vectors(_ items: [Item]) throws(Failure) -> [Float] {
    var result: [Float] = []
    var samples: [Sample] = []
    var places: [Int?] = []
    for built in self.samples(items, prompt: nil, folder: "") {
      let sample = try built.get().sample
      places.append(sample.ids.isEmpty ? nil : samples.count)
      if !sample.ids.isEmpty { samples.append(sample) }
    }
    let vectors = try embedder.embed(samples)
    for place in places {
      result +=
        place.map { vectors[$0 * embedder.width..<($0 + 1) * embedder.width] }
        ?? [Float](repeating: 0, count: embedder.width)[...]
    }
    return result
  }
}
