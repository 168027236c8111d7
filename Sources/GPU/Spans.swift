import Bytes
import Inference
import Tensors

/// What the blocks of one attention work on: for each, rows that ask, and rows that they see (`Span` of attention.cu).
struct Spans: Sendable {
  struct Form: Hashable, Sendable {
    /// Whether every token asks; else one row for each sequence does, or one for all.
    let isSelf: Bool
    let isForAll: Bool
    let isCausal: Bool
    /// Where set, a token sees those alone that are fewer places than this away from it.
    let window: Int?
    /// Queries of a block.
    let queries: Int
  }

  let count: Int
  let memory: Memory

  /// - Parameter starts: where sequences start; tokens before the first are a prefix that all see.
  init(_ engine: Engine, _ starts: [Int32], _ form: Form) throws(Failure) {
    var words: [Int32] = []
    let prefix = starts.first ?? 0
    // More places than a batch has, and few enough that one can be added.
    let all = 1 << 30
    let near = min(form.window ?? all, all) - 1
    let (queries, before, after) = (Int32(form.queries), Int32(near), Int32(form.isCausal ? 0 : near))
    func add(_ tokens: Range<Int32>, _ prefix: Int32, _ stretch: Int, _ place: Int32) {
      for first in stride(from: 0, to: Int32(tokens.count), by: Int(queries)) {
        let row = tokens.lowerBound + first
        words += [
          row, min(queries, Int32(tokens.count) - first), first, prefix, tokens.lowerBound, Int32(tokens.count), row,
          before, after, Int32(stretch), place,
        ]
      }
    }
    let places = Stretches.places(starts)
    if form.isSelf, prefix > 0 { add(0..<prefix, 0, 0, 0) }
    for (index, (start, end)) in zip(starts, starts.dropFirst()).enumerated() {
      let stretch = index + (prefix > 0 ? 1 : 0)
      if form.isSelf {
        add(start..<end, prefix, stretch, places[stretch])
      } else {
        words += [
          form.isForAll ? 0 : Int32(index), 1, 0, prefix, start, end - start, Int32(index), Int32(all), Int32(all),
          Int32(stretch), places[stretch],
        ]
      }
    }
    count = words.count / 11
    memory = try engine.upload(words)
  }
}

/// Keys and values that share means and scales when they are coded, the prefix and each sequence: `Stretch` and `Chunk`
/// of attention_int8.cu.
struct Stretches: Sendable {
  /// Rows of a chunk, CHUNK of attention_int8.cu.
  private static let chunk = 64

  let count, chunks: Int
  /// Rows of coded keys, every stretch filled up to a multiple of 32.
  let places: Int
  let memory, chunkMemory: Memory

  init(_ engine: Engine, _ starts: [Int32]) throws(Failure) {
    let places = Stretches.places(starts)
    var (stretches, chunks): ([Int32], [Int32]) = ([], [])
    for (index, tokens) in Stretches.tokens(starts).enumerated() {
      stretches += [tokens.lowerBound, Int32(tokens.count), places[index], Int32(chunks.count / 2)]
      for first in stride(from: 0, to: Int32(tokens.count), by: Stretches.chunk) { chunks += [Int32(index), first] }
    }
    (count, self.chunks) = (stretches.count / 4, chunks.count / 2)
    self.places = Int(places.last ?? 0)
    memory = try engine.upload(stretches)
    chunkMemory = try engine.upload(chunks)
  }

  private static func tokens(_ starts: [Int32]) -> [Range<Int32>] {
    let prefix = starts.first ?? 0
    return (prefix > 0 ? [0..<prefix] : []) + zip(starts, starts.dropFirst()).map { $0..<$1 }
  }

  /// The first row of each stretch, and how many there are in all.
  static func places(_ starts: [Int32]) -> [Int32] {
    tokens(starts).reduce(into: [0]) { $0.append(($0.last ?? 0) + (Int32($1.count) + 31) / 32 * 32) }
  }
}

/// Buckets of biases by distance, for all distances between tokens that see each other.
struct Distances: Sendable {
  struct Form: Hashable, Sendable {
    let buckets, farthest: Int
  }

  /// The largest of them; there are buckets for `-most ... most`.
  let most: Int
  let memory: Memory

  var count: Int { 2 * most + 1 }

  init(_ engine: Engine, _ starts: [Int32], _ form: Form) throws(Failure) {
    let most = Op.Attention.farthestPlace(starts.map(Int.init))
    self.most = most
    memory = try engine.upload(
      (-most...most).map { Int32(Op.Attention.bucket($0, of: form.buckets, farthest: form.farthest)) })
  }
}

/// What slopes add to scores by distance, `[heads, 2 most + 1]`, times log2 e: scores are powers of two.
struct Slopes: Sendable {
  let most: Int
  let memory: Memory

  init(_ engine: Engine, _ starts: [Int32], _ attention: Op.Attention) throws(Failure) {
    most = Op.Attention.farthestPlace(starts.map(Int.init))
    memory = try engine.upload(attention.slopeBiases(most).map { $0 * 1.44269504088896341 as Float })
  }
}
