import Bytes

/// Pairs made from other people's files, and what was left out of them. Paths of pictures are those to open.
public struct PairSet: Sendable {
  public internal(set) var pairs: [Pair] = []
  /// What there was, and how many of it were not used.
  public internal(set) var notes: [String] = []

  /// What to make, and of which columns.
  public struct Options: Sendable {
    public var query, positive, label: String?
    /// Documents drawn for each query, where no columns hold them; nil for the source's own default.
    public var negatives: Int?
    public var negativeColumns: [String] = []
    /// The file of judgements or clicks.
    public var judgements: String?

    public init() {}
  }

  mutating func note(_ count: Int, _ what: String) {
    if count > 0 { notes.append("\(count) \(what)") }
  }

  /// Pairs of a file or a folder, whichever of the kinds it is.
  public static func read(_ path: String, _ options: Options) throws(Failure) -> PairSet {
    guard isDirectory(path) else {
      _ = try InputFile(path)
      guard [".csv", ".tsv", ".tab", ".jsonl", ".ndjson"].contains(where: path.hasSuffix) else {
        throw Failure(
          .usage, "a table ends in .csv, .tsv or .jsonl (of parquet: datasets' to_json writes one)", file: path)
      }
      return try table(Table(path), options)
    }
    let folder = path.hasSuffix("/") ? path : path + "/"
    if let judged = Judged(folder, options) { return try judged.pairs() }
    guard options.judgements == nil else {
      throw Failure(.usage, "--qrels is for a folder with \(Judged.expected)", file: path)
    }
    return try captioned(folder, options)
  }

  /// `count` of `total` places without those in `taken`, the same in every run; all where there are no more.
  static func draw(_ count: Int, of total: Int, for name: String, without taken: Set<Int>) -> [Int] {
    guard total - taken.count > count * 2 else {
      return Array((0..<total).lazy.filter { !taken.contains($0) }.prefix(count))
    }
    var random = Random(seed: XXH64.hash(Array(name.utf8)))
    var drawn: [Int] = []
    var seen = taken
    while drawn.count < count {
      let place = random.below(total)
      if seen.insert(place).inserted { drawn.append(place) }
    }
    return drawn
  }
}
