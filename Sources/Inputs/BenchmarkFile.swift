import Bytes

/// A file of queries with the candidates that each is compared with: one data set of a benchmark. Lines of
///
///     {"id": "c1", "candidate": item}                                a candidate that lines below it name
///     {"id": "q1", "query": item, "candidates": ["c1", {item}, …]}   the first candidate is the right one
///     {"id": "q1", "query": item, "positive": "c1" or item}          searched among all positives, both ways
///
/// A line with a query may also say `"task"`, which scores are averaged over.
public struct BenchmarkFile: Sendable {
  public enum Kind: Sendable { case choice, search }

  public let name: String
  public private(set) var task: String?
  /// Every item once.
  public private(set) var items: [Item] = []
  /// Places in `items`: a query, and its candidates with the right one first.
  public private(set) var queries: [(query: Int, candidates: [Int])] = []
  public private(set) var kind = Kind.choice
  /// Pairs of a search whose negatives are not searched.
  public private(set) var pairsWithNegatives = 0
  /// What was not read.
  public let keys: KeyRule

  /// - Throws: `malformed` with the bad lines.
  public init(_ path: String, name: String, isStrict: Bool = false) throws(Failure) {
    self.name = name
    let file = try DataFile(path, isStrict: isStrict)
    keys = file.keys
    let pairs = try file.pairs()
    kind = pairs[0].isChoice ? .choice : .search
    guard pairs.allSatisfy({ $0.isChoice == pairs[0].isChoice }) else {
      throw Failure(.malformed, "lines with candidates and lines with a positive do not go together", file: path)
    }
    var places: [Item: Int] = [:]
    for pair in pairs {
      task = pair.task ?? task
      let query = place(pair.query, &places)
      let positive = place(pair.positive, &places)
      if pair.isChoice {
        queries.append((query, [positive] + pair.negatives.map { place($0, &places) }))
      } else {
        queries.append((query, [positive]))
        pairsWithNegatives += pair.negatives.isEmpty ? 0 : 1
      }
    }
  }

  private mutating func place(_ item: Item, _ places: inout [Item: Int]) -> Int {
    // Items differ by what they hold, not by what they are called.
    var item = item
    item.id = nil
    if let place = places[item] { return place }
    places[item] = items.count
    items.append(item)
    return items.count - 1
  }
}
