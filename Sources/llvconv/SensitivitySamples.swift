import Bytes
import Calibration
import Inputs
import Tensors

/// Some of the data, whose embeddings are watched while weights are rounded: queries, then what they search.
struct SensitivitySamples {
  private(set) var samples: [Sample] = []
  /// Of pairs, each query's document; nil for items that have no labels.
  private var positives: [Int]?

  /// Evenly spread pairs or items, up to about so many tokens and patches.
  init(_ model: LoadedModel, _ path: String, tokens: Int) throws(Failure) {
    let patches = model.configuration.vision.map { $0.side * $0.side } ?? 0
    func size(_ samples: [Sample]) -> Int {
      samples.reduce(0) { $0 + $1.ids.count + $1.pictures.reduce(0) { $0 + $1.views } * patches }
    }
    let pairs = try? Pair.read(path)
    let items = pairs == nil ? try Item.read(path) : []
    func build(_ item: Item) throws(Failure) -> Sample {
      try model.samples([item], prompt: nil, folder: directory(of: path))[0].get().sample
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
      for place in SensitivitySamples.spread(kind.count) {
        let index = kind[place]
        let isAlone = kinds.count == 1 && queries.count + found.count < 2
        guard used == 0 || used < tokens / kinds.count || isAlone else { break }
        guard let pairs else {
          found.append(try build(items[index]))
          used += size([found[found.count - 1]])
          continue
        }
        queries.append(try build(pairs[index].query))
        used += size([queries[queries.count - 1]])
        for (rank, document) in ([pairs[index].positive] + pairs[index].negatives).enumerated() {
          let place = documents.firstIndex(of: document) ?? documents.count
          if place == documents.count {
            documents.append(document)
            found.append(try build(document))
            used += size([found[found.count - 1]])
          }
          if rank == 0 { places.append(place) }
        }
      }
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
