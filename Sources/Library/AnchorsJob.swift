import Bytes
import Fidelity
import Formats
import Inputs
import Tensors

/// Anchors of a reference: what `anchors` does.
package struct AnchorsJob {
  private let arguments: Arguments

  package init(_ arguments: Arguments) { self.arguments = arguments }

  /// Writes the file, whole or not at all.
  package func run() throws(Failure) -> (file: AnchorFile, path: String, bytes: Int) {
    let output = try arguments.requiredOutput("-o")
    let data = try arguments.required("--data")
    let count = try arguments.integer("--count", in: 30...100_000) ?? 300
    let seed = try arguments.integer("--seed", in: 0...Int.max) ?? 0
    let depth = try arguments.integer("--neighbours", in: 10...1_000) ?? 32
    let options = try LoadedModel.Options(arguments)
    guard arguments.positionals.isEmpty == arguments.has("--vectors") else {
      throw Failure(.usage, "anchors needs a model REF, or --vectors of one that cannot be read")
    }
    let model = try arguments.positionals.first.map { (path) throws(Failure) in
      try LoadedModel(ModelFile(path), options)
    }
    let metric =
      try arguments.choice("--metric", ["cosine", "ip"]).flatMap(Metric.init)
      ?? (model == nil ? .cosine : .innerProduct)
    var pool = try AnchorPool(arguments, data, model, metric)
    var file = AnchorFile()
    (file.queries, file.data, file.metric) = (pool.queries.count, fileName(data), metric.rawValue)
    file.isLabelled = pool.isLabelled
    file.madeBy = Release.program
    for name in ["--min-cosine", "--min-overlap", "--max-recall-drop"] {
      guard let value = try arguments.number(name, in: -1...1) else { continue }
      file.thresholds.append((String(name.dropFirst(2)), value))
    }
    let progress = Progress("searching", of: 100)
    let all = try pool.search(depth: 2, threads: options.threads) { progress.show(Int($0 * 100)) }
    let choice = AnchorChoice(pool, count: count, seed: seed, margins: try pool.margins(all))
    let documents = choice.documents.compactMap { pool.documents?[$0] }
    let documentVectors = try pool.vectors.documents.rows(at: choice.documents)
    let chosen = choice.sample + choice.hard
    try pool.keep(chosen)
    try pool.remove(Set(chosen))
    file.documents = pool.vectors.documents.count
    let found = try pool.search(depth: depth, threads: options.threads) { progress.show(Int($0 * 100)) }
    Progress.clear()
    var maker = AnchorMaker(file, pool, model)
    try maker.add(pool.queries, sample: choice.sample.count, found)
    try maker.add(documents: documents, vectors: documentVectors)
    file = maker.file
    if let model {
      file.model = model.facts
      if !arguments.has("--no-faults") {
        let rows = AnchorFaults.rows(file.items)
        let width = file.width
        file.faults = try AnchorFaults.all(
          model, options, rows.map { maker.items[$0] },
          vectors: rows.flatMap { file.vectors[$0 * width..<($0 + 1) * width] })
        file.faultRows = file.faults.isEmpty ? [] : rows
      }
    }
    try file.write(to: output)
    try output.commit()
    return (file, output.path, output.count)
  }
}

extension AnchorFile {
  /// What the file holds, in numbers.
  package var json: JSONText {
    [
      "anchors": .int(items.count), "sample": .int(items.count { $0.role == .sample }),
      "hard": .int(items.count { $0.role == .hard }), "documents": .int(items.count { $0.role == .document }),
      "index_rows": .int(indexNames.count), "pictures": .int(pictures.count), "width": .int(width),
      "labelled": .bool(isLabelled), "faults": .array(faults.map { .string($0.name) }),
    ]
  }
}

extension AnchorPool {
  fileprivate init(
    _ arguments: Arguments, _ path: String, _ model: LoadedModel?, _ metric: Metric
  ) throws(Failure) {
    let isStrict = arguments.has("--strict")
    let file = try DataFile.open(path, isStrict: isStrict)
    let folder = directory(of: path)
    let index = try arguments["--index"].map { (path) throws(Failure) in try Embeddings(numPy: path) }
    let cache = model.flatMap { $0.file.cache(width: $0.embedder.width) }
    if file.hasPairsAlone, index == nil {
      var data = VerifyData(try file.pairs().filter { !$0.hasVideo }, folder: folder)
      let vectors: FidelityReport.Vectors
      if let model {
        vectors = try data.vectors(ofReference: model, cache: cache, isStrict: isStrict).vectors
      } else {
        vectors = try GivenVectors(try arguments.required("--vectors"), of: data).vectors(of: data)
      }
      self.init(data, vectors, metric)
      return
    }
    let pairs = file.hasPairsAlone ? try file.pairs().map(\.query) : file.items
    var seen = Set<Item>()
    var items = pairs.enumerated().compactMap { place, item -> (row: Int, entry: Entry)? in
      var content = item
      content.id = nil
      guard item.video == nil, seen.insert(content).inserted else { return nil }
      return (place, Entry(id: item.id ?? "item \(place + 1)", item: item))
    }
    let vectors: Embeddings
    if let model {
      let progress = Progress("embedding, reference", of: items.count)
      let embedded = try model.embed(items.map(\.entry.item), folder: folder, cache: cache) { progress.show($0) }
      var skipped = SkippedItems(of: items.count, isStrict: isStrict)
      var values: [Float] = []
      for (item, embedded) in zip(items, embedded) {
        switch embedded.result {
        case .failure(let failure): try skipped.add(item.entry.id, failure)
        case .success(let vector): values += vector
        }
      }
      items = zip(items, embedded).compactMap { item, embedded in
        if case .success = embedded.result { item } else { nil }
      }
      try skipped.check(left: items.count)
      skipped.complain()
      vectors = Embeddings(width: model.embedder.width, values: values)
    } else {
      let path = try arguments.required("--vectors")
      let given = try Embeddings(numPy: path)
      guard given.count == pairs.count else {
        throw Failure(.malformed, "has \(given.count) rows, the data \(pairs.count) items", file: path)
      }
      vectors = Embeddings(width: given.width, values: try given.rows(at: items.map(\.row)))
    }
    if let index, index.width != vectors.width {
      throw Failure(
        .malformed, "has \(index.width) columns, the reference's vectors \(vectors.width)", file: arguments["--index"])
    }
    self.init(items.map(\.entry), vectors, index: index, folder: folder, metric)
  }

  /// How far each query's first document is before the second.
  fileprivate func margins(_ run: Retrieval.Run) throws(Failure) -> [Float] {
    let queries = vectors.queries.ranked(by: metric, isQuery: true)
    let documents = vectors.documents.ranked(by: metric, isQuery: false)
    var margins: [Float] = []
    for (place, top) in run.top.enumerated() {
      let query = try queries.rows(place..<place + 1)
      let similarities = try top.map { (row) throws(Failure) in
        zip(query, try documents.rows(row..<row + 1)).reduce(Float(0)) { $0 + $1.0 * $1.1 }
      }
      margins.append(similarities.count > 1 ? similarities[0] - similarities[1] : .infinity)
    }
    return margins
  }
}

extension Pair {
  fileprivate var hasVideo: Bool { ([query, positive] + negatives).contains { $0.video != nil } }
}

extension LoadedModel {
  /// What an anchors file says of the model.
  fileprivate var facts: JSONText {
    let steps = file.model.history.map { step -> JSONText in
      guard case .object(let members) = step else { return step }
      return .object(members.filter { !["losses", "sketch"].contains($0.0) })
    }
    return [
      "name": .string(fileName(file.path)), "checksum": .string(String(file.checksum, radix: 16)),
      "architecture": .string(configuration.architecture), "width": .int(configuration.width),
      "maximum_tokens": .int(builder.maximumTokens),
      "default_prompt": configuration.defaultPrompt.map(JSONText.string) ?? .null,
      "prompts": .object(configuration.prompts.map { ($0.name, .string($0.text)) }), "history": .array(steps),
    ]
  }
}

/// Builds a file: gives places to pictures and to the documents around the queries.
private struct AnchorMaker {
  var file: AnchorFile
  /// As the model takes them, with paths of pictures.
  private(set) var items: [Item] = []
  private let pool: AnchorPool
  private let model: LoadedModel?
  private var pictures: [String: Int] = [:]
  private var rows: [Int: Int] = [:]

  init(_ file: AnchorFile, _ pool: AnchorPool, _ model: LoadedModel?) {
    (self.file, self.pool, self.model) = (file, pool, model)
    self.file.width = pool.vectors.queries.width
  }

  mutating func add(_ queries: [AnchorPool.Entry], sample: Int, _ found: Retrieval.Run) throws(Failure) {
    for (place, query) in queries.enumerated() {
      let label = pool.isLabelled ? pool.labels[place] : nil
      let positive = try label.map { (label) throws(Failure) in try row(label.positive) }
      let negatives = try (label?.negatives ?? []).map { (place) throws(Failure) in try row(place) }
      for neighbour in found.top[place] { _ = try row(neighbour) }
      try add(query, place < sample ? .sample : .hard, positive, negatives)
    }
    file.vectors += try pool.vectors.queries.rows(0..<queries.count)
  }

  mutating func add(documents: [AnchorPool.Entry], vectors: [Float]) throws(Failure) {
    for document in documents { try add(document, .document, nil, []) }
    file.vectors += vectors
  }

  private mutating func add(
    _ entry: AnchorPool.Entry, _ role: AnchorFile.Role, _ positive: Int?, _ negatives: [Int]
  ) throws(Failure) {
    var item = entry.item
    item.images = item.images.map { Item.path($0, in: pool.folder) }
    items.append(item)
    var places: [Int] = []
    for path in item.images {
      if pictures[path] == nil {
        pictures[path] = file.pictures.count
        let picture = try InputFile(path)
        guard picture.count <= Limits.imageFile else { throw Failure(.limit, "\(picture.count) bytes", file: path) }
        file.pictures.append(ByteView(picture, 0, picture.count))
      }
      places.append(pictures[path] ?? 0)
    }
    file.items.append(
      .init(
        id: entry.id, role: role, text: item.text, instruction: item.instruction, pictures: places, sent: sent(item),
        positive: positive, negatives: negatives))
  }

  /// The text as a program has to be given it that knows no prompts. A chat template is the server's own business.
  private func sent(_ item: Item) -> String? {
    guard let model, model.configuration.template == nil, let text = item.text else { return item.text }
    let own = model.configuration.prompts.first { $0.name == model.configuration.defaultPrompt }?.text
    return (item.instruction ?? own ?? "") + text
  }

  /// Where a document of the pool's index is in the file's.
  private mutating func row(_ place: Int) throws(Failure) -> Int {
    if let row = rows[place] { return row }
    rows[place] = file.indexNames.count
    file.index += try pool.vectors.documents.rows(place..<place + 1)
    let document = pool.documents?[place]
    file.indexNames.append(
      .init(id: document?.id ?? "row \(place)", text: String((document?.item.shown ?? "").prefix(200))))
    return file.indexNames.count - 1
  }
}
