import Bytes
import CKernels
import Inference
import Tensors

/// Attention, sequence by sequence and head by head; weights are computed anew.
extension OpGradients {
  /// The queries of a sequence and what they see.
  private struct Span: Sendable {
    let queries, keys: Range<Int>
    /// Whether queries are the keys' own tokens.
    let isSelf: Bool
  }

  /// - Note: batches that are trained on share no prefix.
  func attention(
    _ attention: Op.Attention, _ inputs: Inputs, _ upstream: Floats, _ wanted: [Bool], _ results: inout [Floats?]
  ) throws(Failure) {
    let starts = try device.indices(inputs[3])
    guard starts[0] == 0 else { throw Failure(.internal, "a gradient of a batch with a shared prefix") }
    let isSelf = inputs[0].rows == inputs[1].rows
    let spans = zip(starts, starts.dropFirst()).enumerated().map { index, ends in
      Span(queries: isSelf ? ends.0..<ends.1 : index..<index + 1, keys: ends.0..<ends.1, isSelf: isSelf)
    }
    let longest = spans.map(\.keys.count).max() ?? 0
    let distances =
      attention.hasBiases ? try device.distanceBiases(attention, inputs.count > 4 ? inputs[4] : nil, starts) : nil
    let work = AttentionWork(
      attention, q: try device.values(inputs[0]), k: try device.values(inputs[1]), v: try device.values(inputs[2]),
      isForAll: inputs[0].rows == 1 && !isSelf,
      distances: distances.map { (Rows(base: $0.values.floats, stride: 2 * $0.most + 1), $0.most) },
      upstream: upstream, toQ: try Floats(upstream.rows, upstream.columns),
      toK: try Floats(inputs[1].rows, inputs[1].columns), toV: try Floats(inputs[2].rows, inputs[2].columns),
      toDistances: inputs.count > 4 && wanted[4]
        ? try Floats.zeros(spans.count * attention.heads, 2 * (distances?.most ?? 0) + 1) : nil)
    let queries = isSelf ? longest : 1
    let shared = attention.keyValueHeads
    try parallel(spans.count * shared, threads: device.threads) { (task) throws(Failure) in
      let span = spans[task / shared]
      let scratch = (try Floats(queries, longest), try Floats(queries, longest))
      try work.run(
        span: task / shared, span.queries, span.keys, isSelf: span.isSelf, sharedHead: task % shared, scratch.0,
        scratch.1)
    }
    if wanted[0] { results[0] = work.isForAll ? try columnSums(work.toQ) : work.toQ }
    if wanted[1] { results[1] = work.toK }
    if wanted[2] { results[2] = work.toV }
    if let own = work.toDistances, let distances {
      results[4] = try buckets(own, attention, inputs[4].rows, distances.most)
    }
    withExtendedLifetime(distances) {}
  }

  /// From the gradient by what each distance adds, of each sequence and head, to that by the table of buckets.
  private func buckets(
    _ own: Floats, _ attention: Op.Attention, _ rows: Int, _ most: Int
  ) throws(Failure) -> Floats {
    let result = try Floats.zeros(rows, attention.heads)
    for row in 0..<own.rows {
      for distance in -most...most {
        let bucket = Op.Attention.bucket(distance, of: rows, farthest: attention.farthest ?? most)
        result[bucket][row % attention.heads] += own[row][most + distance]
      }
    }
    return result
  }
}

/// What tasks of one operation read and write; no two write one element.
private struct AttentionWork: Sendable {
  let attention: Op.Attention
  let q, k, v: Rows
  let isForAll: Bool
  /// What is added to scores, by head and distance.
  let distances: (rows: Rows, most: Int)?
  let upstream, toQ, toK, toV: Floats
  let toDistances: Floats?

  init(
    _ attention: Op.Attention, q: Rows, k: Rows, v: Rows, isForAll: Bool, distances: (rows: Rows, most: Int)?,
    upstream: Floats, toQ: Floats, toK: Floats, toV: Floats, toDistances: Floats?
  ) {
    (self.attention, self.q, self.k, self.v, self.isForAll) = (attention, q, k, v, isForAll)
    (self.distances, self.upstream, self.toDistances) = (distances, upstream, toDistances)
    (self.toQ, self.toK, self.toV) = (toQ, toK, toV)
  }

  /// A sequence's keys of one head, and the query heads that share them.
  func run(
    span: Int, _ queries: Range<Int>, _ keys: Range<Int>, isSelf: Bool, sharedHead: Int, _ weights: Floats,
    _ slopes: Floats
  ) throws(Failure) {
    let (d, group) = (attention.headWidth, attention.heads / attention.keyValueHeads)
    let (m, n, scale) = (queries.count, keys.count, Float(attention.scale))
    let (p, dp) = (Rows(base: weights[0], stride: n), Rows(base: slopes[0], stride: n))
    func own(_ rows: Rows, _ row: Int, _ head: Int) -> Rows { Rows(base: rows[row] + head * d, stride: rows.stride) }
    let (k, v) = (own(k, keys.lowerBound, sharedHead), own(v, keys.lowerBound, sharedHead))
    for head in sharedHead * group..<(sharedHead + 1) * group {
      let q = own(q, isForAll ? 0 : queries.lowerBound, head)
      let dy = own(upstream.view, queries.lowerBound, head)
      let isFirst = head == sharedHead * group
      try CPUDevice.multiply(q, k, otherTransposed: true, m: m, n: n, k: d, into: p)
      for row in 0..<m {
        for key in 0..<n { p[row][key] *= scale }
        weigh(p[row], row, n, head, isSelf: isSelf)
      }
      try CPUDevice.multiply(
        p, transposed: true, dy, m: n, n: d, k: m, into: own(toV.view, keys.lowerBound, sharedHead), adding: !isFirst)
      try CPUDevice.multiply(dy, v, otherTransposed: true, m: m, n: n, k: d, into: dp)
      for row in 0..<m { llv_softmax_gradient_row(p[row], n, dp[row]) }
      if let toDistances, let most = distances?.most {
        let sums = toDistances[span * attention.heads + head]
        for row in 0..<m { for key in 0..<n { sums[most + key - row] += dp[row][key] } }
      }
      for row in 0..<m { for key in 0..<n { dp[row][key] *= scale } }
      try CPUDevice.multiply(dp, k, m: m, n: d, k: n, into: own(toQ.view, queries.lowerBound, head))
      try CPUDevice.multiply(
        dp, transposed: true, q, m: n, n: d, k: m, into: own(toK.view, keys.lowerBound, sharedHead),
        adding: !isFirst)
    }
  }

  /// Scores of a query to weights.
  private func weigh(_ scores: UnsafeMutablePointer<Float>, _ row: Int, _ count: Int, _ head: Int, isSelf: Bool) {
    if isSelf {
      if let distances {
        let added = distances.rows[head] + distances.most - row
        for key in 0..<count { scores[key] += added[key] }
      }
      let first = attention.window.map { max(0, row - $0 + 1) } ?? 0
      let afterWindow = attention.window.map { min(count, row + $0) } ?? count
      let end = attention.isCausal ? min(row + 1, afterWindow) : afterWindow
      for key in 0..<first { scores[key] = -.infinity }
      for key in end..<max(count, end) { scores[key] = -.infinity }
    }
    llv_softmax_row(scores, count)
  }
}
