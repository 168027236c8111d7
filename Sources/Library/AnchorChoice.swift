import Bytes
import Fidelity
import Formats
import Inputs

/// Which items of a pool become anchors. The same pool gives the same anchors, in whatever order its lines are.
struct AnchorChoice {
  /// Queries drawn by lot, queries that show most, documents: places in the pool.
  private(set) var sample: [Int] = []
  private(set) var hard: [Int] = []
  private(set) var documents: [Int] = []

  /// Of all anchors, those that estimates are made from; documents share the rest with hard queries.
  private static let sampleShare = 0.6

  /// - Parameter margins: of each query, how far its first document is before the second: small ones turn first.
  init(_ pool: AnchorPool, count: Int, seed: Int, margins: [Float]) {
    let order = AnchorChoice.lot(pool.queries, seed)
    let hasDocuments = pool.isLabelled
    sample = Array(order.prefix(hasDocuments ? Int(Double(count) * AnchorChoice.sampleShare) : count * 4 / 5))
    let taken = Set(sample)
    let rest = order.filter { !taken.contains($0) }
    let room = count - sample.count
    hard = AnchorChoice.hard(pool.queries, rest, margins, count: hasDocuments ? room / 2 : room)
    guard hasDocuments, let all = pool.documents else { return }
    documents = Array(AnchorChoice.covering(all, AnchorChoice.lot(all, seed)).prefix(room - hard.count))
  }

  /// Places in an order that depends on what the items hold, and on the seed.
  private static func lot(_ entries: [AnchorPool.Entry], _ seed: Int) -> [Int] {
    let keys = entries.map { entry in
      let texts = [String(seed)] + [entry.item.text, entry.item.instruction].map { $0 ?? "" } + entry.item.images
      return XXH64.hash(Array(texts.joined(separator: "\u{0}").utf8))
    }
    return entries.indices.sorted { (keys[$0], entries[$0].id, $0) < (keys[$1], entries[$1].id, $1) }
  }

  /// One half covers what there is, the other is what is hardly decided.
  private static func hard(
    _ entries: [AnchorPool.Entry], _ order: [Int], _ margins: [Float], count: Int
  ) -> [Int] {
    var result = Array(covering(entries, order).prefix(count / 2))
    let taken = Set(result)
    let close = order.filter { !taken.contains($0) }.enumerated().sorted {
      (margins[$0.element], $0.offset) < (margins[$1.element], $1.offset)
    }
    result += close.prefix(count - result.count).map(\.element)
    return result
  }

  /// The places so that every bucket of kind, script and length comes in turn, the longest texts first of all.
  private static func covering(_ entries: [AnchorPool.Entry], _ order: [Int]) -> [Int] {
    var buckets: [String: [Int]] = [:]
    for place in order { buckets[bucket(entries[place].item), default: []].append(place) }
    let longest = order.enumerated().sorted {
      (-length(entries[$0.element].item), $0.offset) < (-length(entries[$1.element].item), $1.offset)
    }
    .prefix(max(1, order.count / 100)).prefix(5).map(\.element)
    var (result, seen) = (longest, Set(longest))
    let names = buckets.keys.sorted()
    for round in 0..<(buckets.values.map(\.count).max() ?? 0) {
      for name in names {
        guard let places = buckets[name], round < places.count, seen.insert(places[round]).inserted else { continue }
        result.append(places[round])
      }
    }
    return result
  }

  private static func length(_ item: Item) -> Int { item.text?.unicodeScalars.count ?? 0 }

  private static func bucket(_ item: Item) -> String {
    let length = length(item)
    let size = Int.bitWidth - length.leadingZeroBitCount
    let script = item.text.flatMap { Script.dominant(in: $0) } ?? ""
    return "\(item.kind) \(script) \(size)"
  }
}
