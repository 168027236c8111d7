import Bytes
import CKernels
import Tensors

extension CPUDevice {
  /// Rows of one sequence that ask, and what they see: the prefix that all sequences share, then the sequence's own
  /// keys.
  private struct Span: Sendable {
    var queries: Range<Int>
    var parts: [Int]
    /// The first query's place among all keys.
    let place: Int
  }

  /// A stretch of keys and values, packed for every head that has its own: where the first is, and how far the next.
  private struct Part: Sendable {
    let tokens: Range<Int>
    let first, bytes: Int
  }

  /// Keys and values are packed once; then each block of queries of a head is a task of its own, whose sizes depend on
  /// its sequence and the prefix alone.
  func attention(_ attention: Op.Attention, _ inputs: [DeviceBuffer]) throws(Failure) -> DeviceBuffer {
    let starts = try indices(inputs[3])
    let (q, k, v) = (try values(inputs[0]), try values(inputs[1]), try values(inputs[2]))
    let (d, heads, shared) = (attention.headWidth, attention.heads, attention.keyValueHeads)
    let isSelf = inputs[0].rows == inputs[1].rows
    let isForAll = inputs[0].rows == 1 && !isSelf
    let (result, out) = try result(isSelf ? inputs[0].rows : starts.count - 1, inputs[0].columns, nil)

    let distances =
      attention.hasBiases ? try distanceBiases(attention, inputs.count > 4 ? inputs[4] : nil, starts) : nil
    let form: any AttentionForm = attention.input == .int8 ? IntegerAttention(width: d) : FloatAttention(width: d)
    var parts: [Part] = []
    var end = 0
    for tokens in (starts[0] > 0 ? [0..<starts[0]] : []) + zip(starts, starts.dropFirst()).map({ $0..<$1 }) {
      parts.append(Part(tokens: tokens, first: end, bytes: form.bytes(tokens.count)))
      end += form.bytes(tokens.count) * shared
    }
    let packed = try Buffer(count: end)
    let all = parts
    try parallel(parts.count * shared, threads: threads) { task in
      let (part, head) = (all[task / shared], task % shared)
      let from = part.tokens.lowerBound
      form.pack(
        Rows(base: k[from] + head * d, stride: k.stride), Rows(base: v[from] + head * d, stride: v.stride),
        part.tokens.count, packed.start + (part.first + head * part.bytes))
    }

    // Blocks of queries.
    let prefixes = parts.count - (starts.count - 1)
    var blocks: [(span: Span, first: Int)] = []
    for index in parts.indices where isSelf || index >= prefixes {
      let (tokens, sequence) = (parts[index].tokens, index - prefixes)
      let span = Span(
        queries: isSelf ? tokens : sequence..<sequence + 1, parts: prefixes > 0 && index > 0 ? [0, index] : [index],
        place: prefixes > 0 && index > 0 ? starts[0] : 0)
      for first in stride(from: 0, to: span.queries.count, by: Int(LLV_ATTENTION_QUERIES)) {
        blocks.append((span, first))
      }
    }
    let tasks = blocks
    let scratch = try Scratch([form.scratch], threads: threads)
    // Heads that share keys come one after the other.
    try parallel(tasks.count * heads, threads: threads) { task, thread in
      let ((span, first), head) = (tasks[task / heads], task % heads)
      let own = head / (heads / shared)
      let row = span.queries.lowerBound + first
      let seen = span.parts.map { index in
        (packed.start + (all[index].first + own * all[index].bytes), all[index].tokens.count)
      }
      let sight = llv_sight(
        at: span.place + first, causal: isSelf && attention.isCausal ? 1 : 0, window: attention.window ?? 0,
        bias: distances.map { UnsafePointer($0.values.floats + head * (2 * $0.most + 1) + $0.most) })
      form.attend(
        Rows(base: q[isForAll ? 0 : row] + head * d, stride: q.stride),
        count: min(Int(LLV_ATTENTION_QUERIES), span.queries.count - first), scale: Float(attention.scale),
        to: seen, sight, scratch.piece(0, thread), Rows(base: out[row] + head * d, stride: out.stride))
    }
    withExtendedLifetime((packed, scratch, distances)) {}
    return result
  }

  /// What is added to scores, by distances from `-most` to `most`: `[heads, 2 most + 1]`.
  package func distanceBiases(
    _ attention: Op.Attention, _ biases: DeviceBuffer?, _ starts: [Int]
  ) throws(Failure) -> (values: Buffer, most: Int) {
    let heads = attention.heads
    let most = Op.Attention.farthestPlace(starts)
    guard let biases else {
      let slopes = attention.slopeBiases(most)
      let values = try Buffer(count: slopes.count * 4)
      values.with(Float.self) { _ = $0.update(fromContentsOf: slopes) }
      return (values, most)
    }
    let table = try table(biases)
    let buckets = try Buffer(count: biases.rows * heads * 4)
    try table.bytes.withBytes { (bytes) throws(Failure) in
      try table.tensor.decodeRows(
        0..<biases.rows, of: bytes, into: UnsafeMutableBufferPointer(start: buckets.floats, count: biases.rows * heads))
    }
    let values = try Buffer(count: heads * (2 * most + 1) * 4)
    for distance in -most...most {
      let bucket = Op.Attention.bucket(distance, of: biases.rows, farthest: attention.farthest ?? most)
      for head in 0..<heads {
        values.floats[head * (2 * most + 1) + most + distance] = buckets.floats[bucket * heads + head]
      }
    }
    return (values, most)
  }

  /// Turns pairs of columns by the angle of the row's position. Frequencies and angles are Float32, as the models were
  /// trained; their sines and cosines are exact to Float32.
  func rope(
    _ x: DeviceBuffer, _ positions: DeviceBuffer, _ rotation: Op.Rotation, _ target: DeviceBuffer?
  ) throws(Failure) -> DeviceBuffer {
    let headWidth = rotation.headWidth
    let places = try indices(positions)
    let from = try values(x)
    let half = headWidth / 2
    let turns = try turns.table(rotation, positions: (places.max() ?? 0) + 1)
    let (result, to) = try result(x.rows, x.columns, target)
    let width = x.columns
    try forRows(x.rows) { range in
      for row in range {
        let turn = turns.floats + places[row] * headWidth
        for head in stride(from: 0, to: width, by: headWidth) {
          let (p, q) = (from[row] + head, to[row] + head)
          for i in 0..<half {
            let (a, b) = (p[i], p[i + half])
            q[i] = a * turn[i] - b * turn[half + i]
            q[i + half] = b * turn[i] + a * turn[half + i]
          }
        }
      }
    }
    withExtendedLifetime(turns) {}
    return result
  }
}

extension Op.Attention {
  /// The largest distance of two tokens that may see each other.
  package static func farthestPlace(_ starts: [Int]) -> Int {
    starts[0] + (zip(starts, starts.dropFirst()).map { $1 - $0 }.max() ?? 0)
  }

  /// What slopes add to scores, by distances from `-most` to `most`: `[heads, 2 most + 1]`.
  package func slopeBiases(_ most: Int) -> [Float] {
    (0..<heads).flatMap { head in (-most...most).map { -slope(head) * Float(abs($0)) } }
  }
}
