import Bytes
import Calibration
import Inputs
import LLVConv
import Tensors

/// Some of the data, whose embeddings are watched while weights are rounded: queries, then what they search.
struct SensitivitySamples {
  private(set) var samples: [Sample] = []
  /// Of pairs, each query's document; nil for items that have no labels.
  private var positives: [Int]?

  /// Of many candidates so many are enough to see an order move.
  private static let mostChoices = 8

  /// Evenly spread pairs or items, up to about so many tokens and patches. Bad items are passed by, and the pairs of
  /// such.
  init(_ model: LoadedModel, _ file: DataFile, tokens: Int) throws(Failure) {
    let patches = model.configuration.vision.map { $0.side * $0.side } ?? 0
    func size(_ samples: [Sample]) -> Int {
      samples.reduce(0) { $0 + $1.ids.count + $1.pictures.reduce(0) { $0 + $1.views } * patches }
    }
    let pairs = file.hasPairsAlone ? try file.pairs() : nil
    let items = pairs == nil ? file.items : []
    func build(_ item: Item) -> Sample? {
      try? model.samples([item], prompt: nil, folder: directory(of: file.path))[0].get().sample
    }
    // With pictures and without, each its share: a tower can be watched through pictures alone.
    let count = pairs?.count ?? items.count
    func hasPictures(_ index: Int) -> Bool {
      let own = pairs.map { [$0[index].query, $0[index].positive] } ?? [items[index]]
      return own.contains { !$0.images.isEmpty || $0.video != nil }
    }
    let kinds = [true, false].map { kind in (0..<count).filter { hasPictures($0) == kind } }.filter { !$0.isEmpty }
    var documents: [Item] = []
    var (queries, found) = ([Sample](), [Sample]())
    var places: [Int] = []
    for kind in kinds {
      var used = 0
      func place(_ document: Item) -> Int? {
        if let place = documents.firstIndex(of: document) { return place }
        guard let sample = build(document) else { return nil }
        documents.append(document)
        found.append(sample)
        used += size([sample])
        return documents.count - 1
      }
      for turn in SensitivitySamples.spread(kind.count) {
        let index = kind[turn]
        let isAlone = kinds.count == 1 && queries.count + found.count < 2
        guard used == 0 || used < tokens / kinds.count || isAlone else { break }
        guard let pair = pairs?[index] else {
          guard let sample = build(items[index]) else { continue }
          found.append(sample)
          used += size([sample])
          continue
        }
        guard let query = build(pair.query), let positive = place(pair.positive) else { continue }
        queries.append(query)
        places.append(positive)
        used += size([query])
        for negative in pair.negatives.prefix(pair.isChoice ? SensitivitySamples.mostChoices : .max) {
          _ = place(negative)
        }
      }
    }
    guard !found.isEmpty else {
      throw Failure(.malformed, "no pair of which query and positive are good", file: file.path)
    }
    samples = queries + found
    positives = pairs == nil ? nil : places
  }

  /// Halving: of 8 the order is 0, 4, 2, 6, 1, 3, 5, 7, so that any number of first ones is spread evenly.
  private static func spread(_ count: Int) -> [Int] {
    var result: [Int] = []
    var seen = Set<Int>()
    var parts = 1
    while result.count < count {
      for part in 0..<parts where seen.insert(part * count / parts).inserted { result.append(part * count / parts) }
      parts *= 2
    }
    return result
  }

  /// What `Calibration.losses` reads.
  func tensors(_ embeddings: [Float], width: Int) throws(Failure) -> [Tensor] {
    let labels = positives ?? []
    let bytes = try Buffer(count: labels.count * 4)
    bytes.with(Int32.self) { target in for (place, label) in labels.enumerated() { target[place] = Int32(label) } }
    return [
      try Tensor("embeddings", floats: embeddings, shape: [samples.count, width]),
      Tensor("positives", shape: [labels.count], encoding: .plain(.I32), content: .bytes(ByteView(bytes))),
    ]
  }
}
