import Bytes

/// A file of queries with the candidates that each is compared with: one data set of a benchmark. Lines of
///
///     {"id": "c1", "candidate": {item}}                                a candidate that lines below it name
///     {"id": "q1", "query": {item}, "candidates": ["c1", {item}, …]}   the first candidate is the right one
///     {"id": "q1", "query": {item}, "positive": "c1" or {item}}        searched among all positives, both ways
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

  /// - Throws: `malformed` with up to 20 bad lines.
  public init(_ path: String, name: String) throws(Failure) {
    self.name = name
    var reading = Reading()
    try JSONLines.forEach(path, what: "benchmark") { (line) throws(Failure) in try reading.take(line) }
    guard let kind = reading.kind else { throw Failure(.malformed, "no queries in the file", file: path) }
    (self.kind, items, queries, task) = (kind, reading.items, reading.queries, reading.task)
  }

  private struct Reading {
    var items: [Item] = []
    var queries: [(query: Int, candidates: [Int])] = []
    var kind: Kind?
    var task: String?
    private var places: [Item: Int] = [:]
    private var candidates: [String: Int] = [:]

    mutating func take(_ json: JSON) throws(Failure) {
      try json.refuseUnknownKeys(["id", "candidate", "query", "candidates", "positive", "task"])
      let id = try json.optional("id").map { (value) throws(Failure) in try Item.identifier(value) }
      if let value = json.optional("candidate") {
        guard let id else { throw json.failure("a candidate needs an id") }
        guard candidates.updateValue(place(try Item(value)), forKey: id) == nil else {
          throw json.failure("candidate \(Failure.quoted(id)) twice")
        }
        return
      }
      let query = place(try Item(try json.required("query")))
      if let value = json.optional("task") { task = try value.string("task") }
      if let value = json.optional("positive") {
        try expect(.search, json)
        queries.append((query, [try reference(value)]))
      } else {
        try expect(.choice, json)
        let list = try json.required("candidates")
        var places: [Int] = []
        for value in try list.elements("candidates") { places.append(try reference(value)) }
        guard !places.isEmpty else { throw list.failure("a query needs candidates") }
        queries.append((query, places))
      }
    }

    private mutating func expect(_ wanted: Kind, _ json: JSON) throws(Failure) {
      guard kind == nil || kind == wanted else {
        throw json.failure("lines with candidates and lines with a positive do not go together")
      }
      kind = wanted
    }

    private mutating func reference(_ json: JSON) throws(Failure) -> Int {
      guard json.kind == .string else { return place(try Item(json)) }
      guard let place = candidates[try json.string()] else {
        throw json.failure("no candidate \(Failure.quoted(try json.bytes())) above this line")
      }
      return place
    }

    private mutating func place(_ item: Item) -> Int {
      // Items differ by what they hold, not by what they are called.
      var item = item
      item.id = nil
      if let place = places[item] { return place }
      places[item] = items.count
      items.append(item)
      return items.count - 1
    }
  }
}
