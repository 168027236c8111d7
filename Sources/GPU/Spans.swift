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
    /// Queries of a block.
    let queries: Int
  }

  let count: Int
  let memory: Memory

  /// - Parameter starts: where sequences start; tokens before the first are a prefix that all see.
  init(_ engine: Engine, _ starts: [Int32], _ form: Form) throws(Failure) {
    var words: [Int32] = []
    let prefix = starts.first ?? 0
    let (queries, isCausal) = (Int32(form.queries), Int32(form.isCausal ? 1 : 0))
    func add(_ tokens: Range<Int32>, _ prefix: Int32) {
      for first in stride(from: 0, to: Int32(tokens.count), by: Int(queries)) {
        let row = tokens.lowerBound + first
        words += [
          row, min(queries, Int32(tokens.count) - first), first, prefix, tokens.lowerBound, Int32(tokens.count), row,
          isCausal,
        ]
      }
    }
    if form.isSelf, prefix > 0 { add(0..<prefix, 0) }
    for (index, (start, end)) in zip(starts, starts.dropFirst()).enumerated() {
      if form.isSelf {
        add(start..<end, prefix)
      } else {
        words += [form.isForAll ? 0 : Int32(index), 1, 0, prefix, start, end - start, Int32(index), 0]
      }
    }
    count = words.count / 8
    memory = try engine.upload(words)
  }
}
