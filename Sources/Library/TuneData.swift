import Bytes
import Fidelity
import Gradients
import Inputs
import Tensors

/// What a candidate is tuned on and what it is held to: items as samples, the reference's vectors of them, and what
/// each should find.
package struct TuneData {
  /// Queries, then documents; or items that search each other.
  package let samples: [Sample]
  /// The reference's vectors, of length 1.
  package let references: Embeddings
  /// The documents' places among the samples, in the order of the keys.
  package let documents: [Int]
  /// Of each sample its document by place among the documents, where pairs say so.
  private let positives: [Int?]
  private let usesLabels: Bool
  /// Samples that are trained on, and those that are not and judge.
  package private(set) var trained: [Int] = []
  package private(set) var held: [Int] = []
  /// Of the held ones those that search: queries, or all of them.
  package private(set) var searching: [Int] = []
  package let name: String
  package let items: [Item]

  /// Keys that vectors are told apart from, and samples that judge, at most.
  private static let (mostKeys, mostHeld) = (16_384, 512)

  /// - Parameters:
  ///   - share: of the pairs, or items, that are held out; 1 for data that only judges.
  ///   - usesLabels: whether pairs' own labels are the targets where there are pairs.
  package init(
    _ path: String, _ candidate: LoadedModel, _ reference: LoadedModel, share: Double, usesLabels: Bool,
    isStrict: Bool
  ) throws(Failure) {
    let file = try DataFile.open(path, isStrict: isStrict)
    name = fileName(path)
    var layout = try TuneData.layout(file)
    let embedded = try TuneData.embed(&layout, file, candidate, reference, isStrict: isStrict)
    (items, samples) = (layout.items, embedded.samples)
    references = Embeddings(width: reference.embedder.width, values: embedded.vectors)
    documents = layout.documents
    positives = layout.positives
    self.usesLabels = usesLabels
    split(share, isPaired: layout.isPaired)
    guard share == 1 || !trained.isEmpty && searching.count > 1 else {
      throw Failure(
        .usage, "\(samples.count) items are too few: some are trained on, and others held out to judge", file: path)
    }
  }

  // MARK: Reading

  private struct Layout {
    var items: [Item]
    var documents: [Int]
    /// By sample, places among `documents`.
    var positives: [Int?]
    var isPaired: Bool

    /// Leaves out samples, and pairs of which one is left out.
    ///
    /// - Returns: the places of what stays.
    mutating func keep(_ isGood: [Bool]) -> [Int] {
      let places = isGood.indices.filter { index in
        isGood[index] && positives[index].map { isGood[documents[$0]] } ?? true
      }
      let moved = Dictionary(uniqueKeysWithValues: places.enumerated().map { ($1, $0) })
      let kept = documents.indices.filter { moved[documents[$0]] != nil }
      let keys = Dictionary(uniqueKeysWithValues: kept.enumerated().map { ($1, $0) })
      items = places.map { items[$0] }
      positives = places.map { positives[$0].flatMap { keys[$0] } }
      documents = kept.compactMap { moved[documents[$0]] }
      return places
    }
  }

  private static func layout(_ file: DataFile) throws(Failure) -> Layout {
    guard file.hasPairsAlone else {
      var seen = Set<Item>()
      let items = file.items.map { item in
        var item = item
        item.id = nil
        return item
      }.filter { seen.insert($0).inserted }
      return Layout(
        items: items, documents: Array(items.indices), positives: items.map { _ in nil }, isPaired: false)
    }
    let data = VerifyData(try file.pairs(), folder: directory(of: file.path))
    return Layout(
      items: data.items.map(\.item), documents: Array(data.queryCount..<data.items.count),
      positives: data.labels.map(\.positive) + data.documents.map { _ in nil }, isPaired: true)
  }

  private static func embed(
    _ layout: inout Layout, _ file: DataFile, _ candidate: LoadedModel, _ reference: LoadedModel, isStrict: Bool
  ) throws(Failure) -> (samples: [Sample], vectors: [Float]) {
    let folder = directory(of: file.path)
    let built = candidate.samples(layout.items, prompt: nil, folder: folder)
    let progress = Progress("embedding, reference", of: layout.items.count)
    let cache = reference.file.cache(width: reference.embedder.width)
    let embedded = try reference.embed(layout.items, folder: folder, cache: cache) { progress.show($0) }
    var skipped = SkippedItems(of: layout.items.count, isStrict: isStrict)
    var (samples, vectors, isGood) = ([Sample](), [[Float]](), [Bool]())
    for (item, (own, known)) in zip(layout.items, zip(built, embedded)) {
      do throws(Failure) {
        let (sample, vector) = (try own.get().sample, try known.finite.get())
        samples.append(sample)
        vectors.append(try unit(vector))
        isGood.append(true)
      } catch {
        try skipped.add(item.name, error)
        samples.append(Sample(ids: []))
        vectors.append([])
        isGood.append(false)
      }
    }
    candidate.complain(ofCuts: built.count { ((try? $0.get().cut) ?? 0) > 0 }, of: layout.items.count)
    let kept = layout.keep(isGood)
    try skipped.check(left: kept.count)
    skipped.complain()
    return (kept.map { samples[$0] }, kept.flatMap { vectors[$0] })
  }

  private static func unit(_ vector: [Float]) throws(Failure) -> [Float] {
    let length = vector.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
    guard length > 0 else { throw Failure(.malformed, "the reference gives a vector of zeros for it") }
    return vector.map { Float(Double($0) / length) }
  }

  /// Spread over the file, which may be sorted. Of pairs a document is held out where all its queries are.
  private mutating func split(_ share: Double, isPaired: Bool) {
    func isHeld(_ place: Int) -> Bool { Int(Double(place + 1) * share) > Int(Double(place) * share) }
    let queries = samples.indices.filter { positives[$0] != nil }
    let first = isPaired ? queries : Array(samples.indices)
    searching = first.enumerated().filter { isHeld($0.offset) }.map(\.element)
    let rest = first.enumerated().filter { !isHeld($0.offset) }.map(\.element)
    let trainedDocuments = Set(rest.compactMap { positives[$0] })
    let heldDocuments = Set(searching.compactMap { positives[$0] }).subtracting(trainedDocuments)
    held = searching + documents.indices.filter { heldDocuments.contains($0) }.map { documents[$0] }
    trained = isPaired ? rest + documents.indices.filter { !heldDocuments.contains($0) }.map { documents[$0] } : rest
    if share == 1 { trained = [] }
    held = TuneData.spread(held, TuneData.mostHeld)
    let judges = Set(held)
    searching = searching.filter { judges.contains($0) }
  }

  private static func spread(_ places: [Int], _ most: Int) -> [Int] {
    places.count <= most ? places : (0..<most).map { places[$0 * places.count / most] }
  }

  // MARK: Targets

  /// Places of the documents that vectors are told apart from as they are trained: none that judges.
  package var keyDocuments: [Int] {
    let judges = Set(held)
    return TuneData.spread(documents.indices.filter { !judges.contains(documents[$0]) }, TuneData.mostKeys)
  }

  /// What each trained sample should be and find, among the keys of `keyDocuments`.
  package func targets() throws(Failure) -> [Int: RecoveryLoss.Target] {
    let keys = keyDocuments
    let place = Dictionary(uniqueKeysWithValues: keys.enumerated().map { ($1, $0) })
    let own = Dictionary(uniqueKeysWithValues: documents.enumerated().map { ($1, $0) })
    let vectors = try references.rows(0..<references.count)
    let width = references.width
    var result: [Int: RecoveryLoss.Target] = [:]
    for sample in trained {
      result[sample] = RecoveryLoss.Target(
        reference: vectors[sample * width..<(sample + 1) * width],
        positive: usesLabels ? positives[sample].flatMap { place[$0] } : nil,
        excluded: own[sample].flatMap { place[$0] })
    }
    return result
  }

  // MARK: Judging

  /// How near the held samples' vectors are, and what those that search find in the reference's index.
  package struct Judgement: Sendable, Equatable {
    package var cosine: Double
    /// Of the first ten that the reference finds, in an index of the reference's vectors.
    package var overlap: Double
    /// Share that finds its own document first; nil without pairs.
    package var first: Double?

    /// Whether nothing is worse than in another one.
    package func keeps(_ other: Judgement) -> Bool { cosine >= other.cosine && overlap >= other.overlap }

    package var json: JSONText {
      .object(
        [("cosine", .number(cosine)), ("mixed_overlap_10", .number(overlap))]
          + (first.map { [("mixed_p_at_1", .number($0))] } ?? []))
    }
  }

  /// - Parameter vectors: of the held samples, in their order.
  package func judge(_ vectors: [Float], threads: Int) throws(Failure) -> Judgement {
    let width = references.width
    let known = Embeddings(width: width, values: try references.rows(at: held))
    let own = Embeddings(width: width, values: vectors)
    let cosines = try Closeness([(known, own)]).cosines
    let places = Dictionary(uniqueKeysWithValues: held.enumerated().map { ($1, $0) })
    let rows = searching.compactMap { places[$0] }
    // Items that search each other are not to find themselves.
    let isPaired = searching.contains { positives[$0] != nil }
    let judges = Set(searching)
    let searched =
      isPaired || trained.isEmpty ? documents : documents.filter { !judges.contains($0) }
    let index = Embeddings(width: width, values: try references.rows(at: searched))
    let labels = searching.map { Retrieval.Label(positive: positives[$0] ?? 0, negatives: []) }
    func run(_ vectors: Embeddings) throws(Failure) -> Retrieval.Run {
      try Retrieval.run(
        queries: Embeddings(width: width, values: try vectors.rows(at: rows)), documents: index, labels: labels,
        depth: 10, threads: threads)
    }
    let (before, after) = (try run(known), try run(own))
    let overlaps = after.overlaps(with: before, at: 10)
    return Judgement(
      cosine: cosines.reduce(0) { $0 + ($1 ?? -1) } / Double(max(1, cosines.count)),
      overlap: overlaps.reduce(0, +) / Double(max(1, overlaps.count)), first: isPaired ? after.recall(at: 1) : nil)
  }
}
