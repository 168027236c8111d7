import Bytes
import Fidelity
import Inputs

/// Pairs laid out for searching: queries, then documents (positives, then negatives), and who should find whom.
package struct VerifyData {
  /// A query or document, which is there once however often the pairs say it.
  package struct Entry {
    /// What reports call it.
    package let id: String
    package let item: Item
    /// Its place among all queries, or among all positives and then all negatives, as the pairs have them.
    package let row: Int
    /// The document's own, where it has one.
    package var ownID: String?
    /// What its pair says that it has in common with others.
    package var traits: [FidelityReport.Trait] = []

    /// What a file of ids may call it: `line N` is what embed says of items without an id.
    package var names: [String] { (ownID.map { [$0] } ?? []) + [id, "line \(row + 1)"] }
  }

  package private(set) var items: [Entry] = []
  /// How many queries and documents the pairs have, each as often as they say it.
  package private(set) var rows: (queries: Int, documents: Int)
  package var queries: ArraySlice<Entry> { items[..<queryCount] }
  package var documents: ArraySlice<Entry> { items[queryCount...] }
  package private(set) var queryCount: Int
  package var labels: [Retrieval.Label] = []
  /// Of the documents, where the pairs say so.
  package private(set) var classes: [String?] = []
  package let folder: String
  /// What is odd about the pairs.
  package private(set) var remarks: [Remark] = []

  /// A document that several pairs name is in the index once.
  package init(_ all: [Pair], folder: String) {
    self.folder = folder
    let lines = VerifyData.distinct(all)
    let pairs = lines.map { all[$0] }
    rows = (all.count, all.count + all.reduce(0) { $0 + $1.negatives.count })
    remarks = VerifyData.remarks(pairs)
    queryCount = pairs.count
    let names = zip(lines, pairs).map { $1.id ?? "line \($0 + 1)" }
    items = zip(zip(lines, names), pairs).map { Entry(id: $0.1, item: $1.query, row: $0.0, traits: $1.traits) }
    var places: [Item: Int] = [:]
    func place(_ document: Item, _ name: String, _ row: Int, _ pair: Pair?) -> Int {
      var document = document
      let own = document.id
      document.id = nil
      if let place = places[document] { return place }
      places[document] = items.count - queryCount
      items.append(Entry(id: name, item: document, row: row, ownID: own, traits: pair?.traits ?? []))
      classes.append(pair?.label)
      return items.count - 1 - queryCount
    }
    // Positives first: of equally similar documents the earlier counts as found.
    let positives = pairs.indices.map {
      place(pairs[$0].positive, "\(names[$0]), positive", lines[$0], pairs[$0])
    }
    var firstNegatives = [all.count]
    for pair in all { firstNegatives.append((firstNegatives.last ?? 0) + pair.negatives.count) }
    for (index, pair) in pairs.enumerated() {
      let negatives = pair.negatives.enumerated().map {
        place($1, "\(names[index]), negative \($0 + 1)", firstNegatives[lines[index]] + $0, nil)
      }
      labels.append(.init(positive: positives[index], negatives: negatives))
    }
  }

  /// Places of the pairs, every pair once: what is said twice is not twice the evidence.
  private static func distinct(_ pairs: [Pair]) -> [Int] {
    var seen = Set<[Item]>()
    let distinct = pairs.indices.filter { place in
      var (query, positive) = (pairs[place].query, pairs[place].positive)
      (query.id, positive.id) = (nil, nil)
      return seen.insert([query, positive]).inserted
    }
    if distinct.count < pairs.count {
      Output.note(
        "note: \(pairs.count - distinct.count) of \(pairs.count) pairs are there more than once: counted once")
    }
    return distinct
  }

  private static func remarks(_ pairs: [Pair]) -> [Remark] {
    var known: [String: Item] = [:]
    var odd: [String] = []
    for pair in pairs {
      guard let id = pair.id else { continue }
      if let other = known[id], other != pair.query { odd.append(id) }
      known[id] = pair.query
    }
    guard let first = odd.first else { return [] }
    return [
      Remark(
        .labels,
        "\(odd.count) pairs have the id of another query, as \(Failure.quoted(first)): are two files joined, or ids "
          + "wrong?"
      )
    ]
  }

  /// Vectors of all items, and how many a second were made; nil when few were.
  package func vectors(
    _ model: LoadedModel, _ what: String, cache: VectorCache?
  ) throws(Failure) -> (vectors: FidelityReport.Vectors, itemsPerSecond: Double?) {
    let (embedded, rate) = try embed(model, what, cache)
    for (item, embedded) in zip(items, embedded) {
      if case .failure(let failure) = embedded.result { throw failure.about("item \(Failure.quoted(item.id))") }
    }
    return (try vectors(embedded, width: model.embedder.width), rate)
  }

  /// The reference's vectors. What it cannot embed is left out of the data: a pair whose query or positive is bad, and
  /// a bad negative.
  package mutating func vectors(
    ofReference model: LoadedModel, cache: VectorCache?, isStrict: Bool
  ) throws(Failure) -> (vectors: FidelityReport.Vectors, itemsPerSecond: Double?, skipped: SkippedItems) {
    let (embedded, rate) = try embed(model, "reference", cache)
    var skipped = SkippedItems(of: items.count, isStrict: isStrict)
    for (item, embedded) in zip(items, embedded) {
      if case .failure(let failure) = embedded.result { try skipped.add(item.id, failure) }
    }
    let pairs = queryCount
    let kept = keep(embedded.map { if case .success = $0.result { true } else { false } })
    skipped.pairs = (pairs - queryCount, pairs)
    try skipped.check(left: queryCount)
    skipped.complain()
    return (try vectors(kept.map { embedded[$0] }, width: model.embedder.width), rate, skipped)
  }

  private func embed(
    _ model: LoadedModel, _ what: String, _ cache: VectorCache?
  ) throws(Failure) -> (embedded: [LoadedModel.Embedded], itemsPerSecond: Double?) {
    let progress = Progress("embedding, \(what)", of: items.count)
    let started = ContinuousClock.now
    let known = cache?.count ?? 0
    let embedded = try model.embed(items.map(\.item), folder: folder, cache: cache) { progress.show($0) }
    let seconds = (ContinuousClock.now - started) / .seconds(1)
    model.complain(ofCuts: embedded.count { $0.cut > 0 }, of: items.count)
    return (embedded, known == 0 && seconds > 0.5 ? Double(items.count) / seconds : nil)
  }

  private func vectors(_ embedded: [LoadedModel.Embedded], width: Int) throws(Failure) -> FidelityReport.Vectors {
    var values: [Float] = []
    values.reserveCapacity(items.count * width)
    for embedded in embedded { values += try embedded.result.get() }
    return FidelityReport.Vectors(
      queries: Embeddings(width: width, values: Array(values[..<(queryCount * width)])),
      documents: Embeddings(width: width, values: Array(values[(queryCount * width)...])))
  }

  /// Leaves out pairs whose query or positive is not good, other documents that are not, and documents that only such
  /// pairs name. The places of what stays.
  private mutating func keep(_ isGood: [Bool]) -> [Int] {
    let isGoodDocument = Array(isGood[queryCount...])
    let pairs = labels.indices.filter { isGood[$0] && isGoodDocument[labels[$0].positive] }
    let named = Set(pairs.flatMap { [labels[$0].positive] + labels[$0].negatives })
    let documents = isGoodDocument.indices.filter { isGoodDocument[$0] && named.contains($0) }
    let places = Dictionary(uniqueKeysWithValues: documents.enumerated().map { ($1, $0) })
    let kept = pairs + documents.map { queryCount + $0 }
    labels = pairs.compactMap { pair in
      places[labels[pair].positive].map {
        .init(positive: $0, negatives: labels[pair].negatives.compactMap { places[$0] })
      }
    }
    items = kept.map { items[$0] }
    classes = documents.map { classes[$0] }
    queryCount = pairs.count
    return kept
  }

  /// What a picture of the data comes to in a model.
  package func pictures(_ model: LoadedModel) throws(Failure) -> FidelityReport.Subject.Pictures? {
    .init(try model.extents(items.map(\.item), folder: folder).map { ($0.views, $0.tokens) })
  }

  /// Some of the items, evenly spread over queries and documents.
  package func sample(_ most: Int) -> [Item] {
    items.count <= most ? items.map(\.item) : (0..<most).map { items[$0 * items.count / most].item }
  }

  package var reportItems: [FidelityReport.Item] { items.map { $0.item.reported($0.id, $0.traits) } }

  /// The pictures of an item, for the report.
  package func pictures(_ index: Int) -> [FidelityReport.Picture] {
    let item = items[index].item
    let names = item.images.map { ($0, "image") } + (item.video.map { [($0, "video")] } ?? [])
    return names.compactMap { name, kind in
      guard let file = try? InputFile(Item.path(name, in: folder)),
        let bytes = try? file.all(limit: FidelityReport.Picture.limit, what: kind)
      else { return nil }
      return FidelityReport.Picture(isVideo: kind == "video", bytes: bytes)
    }
  }
}

extension Pair {
  /// What both of its items have in common with others'.
  fileprivate var traits: [FidelityReport.Trait] {
    [("label", label), ("task", task)].compactMap { axis, value in value.map { .init(axis, $0) } }
      + slices.sorted { $0.key < $1.key }.map { .init($0.key, $0.value) }
  }
}

extension Item {
  /// The item as reports have it, with what its text has in common with others.
  package func reported(
    _ id: String, kind: String? = nil, _ traits: [FidelityReport.Trait] = []
  ) -> FidelityReport.Item {
    var own: [FidelityReport.Trait] = []
    if let text, !text.isEmpty {
      own.append(.init("script", Script.dominant(in: text) ?? "no letters"))
      let count = text.unicodeScalars.count
      let lengths = [(50, "to 50 characters"), (200, "51 to 200"), (1_000, "201 to 1,000"), (Int.max, "over 1,000")]
      if let name = lengths.first(where: { count <= $0.0 })?.1 { own.append(.init("length", name)) }
    }
    return .init(id: id, text: shown, kind: kind ?? self.kind, traits: own + traits)
  }

  /// The item in a line for people.
  package var shown: String {
    ([text, instruction].compactMap { $0 } + images + [video].compactMap { $0 }).joined(separator: " · ")
  }

  package var kind: String {
    if video != nil { return "video" }
    if images.isEmpty { return "text" }
    return text == nil ? "image" : "text and image"
  }
}
