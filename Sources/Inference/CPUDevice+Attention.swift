import Bytes
import CKernels
import COpenBLAS
import Glibc
import Tensors

extension CPUDevice {
  /// Queries of one head that are scored together: few enough for their scores to stay in the cache.
  private static let queriesPerBlock = 64

  /// Rows of one sequence: its own, after those of the prefix that all sequences share.
  private struct Span: Sendable {
    let prefix: Int
    let keys: Range<Int>
    let queries: Range<Int>
    /// Whether a query sees only keys up to its own place.
    let isCausal: Bool
  }

  /// Each sequence and head is a task of its own, with products whose sizes depend on that sequence and the prefix alone.
  func attention(_ attention: Op.Attention, _ inputs: [DeviceBuffer]) throws(Failure) -> DeviceBuffer {
    let starts = try indices(inputs[3])
    let (q, k, v) = (try value(inputs[0]), try value(inputs[1]), try value(inputs[2]))
    let (width, shared) = (inputs[0].columns, inputs[1].columns)
    let spans = CPUDevice.spans(attention, starts, queries: inputs[0].rows, tokens: inputs[1].rows)
    let isForAll = inputs[0].rows == 1
    let (result, buffer) = try make(inputs[0].rows == inputs[1].rows ? inputs[0].rows : starts.count - 1, width)
    try q.withFloats { (q) throws(Failure) in
      try k.withFloats { (k) throws(Failure) in
        try v.withFloats { (v) throws(Failure) in
          try buffer.withFloats { (out) throws(Failure) in
            try parallel(spans.count * attention.heads, threads: threads) { (task) throws(Failure) in
              let (span, head) = (spans[task / attention.heads], task % attention.heads)
              let column = head * attention.headWidth
              let sharedColumn = head / (attention.heads / attention.keyValueHeads) * attention.headWidth
              let pointers = Pointers(
                q: q + ((isForAll ? 0 : span.queries.lowerBound) * width + column), k: k + sharedColumn,
                v: v + sharedColumn, out: out + (span.queries.lowerBound * width + column), width: width, shared: shared
              )
              try CPUDevice.head(attention, span, pointers)
            }
          }
        }
      }
    }
    return result
  }

  private static func spans(_ attention: Op.Attention, _ starts: [Int], queries: Int, tokens: Int) -> [Span] {
    let prefix = starts[0]
    let sequences = zip(starts, starts.dropFirst()).enumerated()
    guard queries == tokens else {
      // One query for each sequence sees all of it.
      return sequences.map { Span(prefix: prefix, keys: $1.0..<$1.1, queries: $0..<$0 + 1, isCausal: false) }
    }
    let first = prefix > 0 ? [Span(prefix: 0, keys: 0..<prefix, queries: 0..<prefix, isCausal: attention.isCausal)] : []
    return first
      + sequences.map { Span(prefix: prefix, keys: $1.0..<$1.1, queries: $1.0..<$1.1, isCausal: attention.isCausal) }
  }

  /// Where one head's columns of the first row are; q and out in rows `width` apart, k and v in rows `shared` apart.
  private struct Pointers {
    let q, k, v, out: UnsafeMutablePointer<Float>
    let width, shared: Int
  }

  /// One head of one sequence, a block of queries after the other.
  private static func head(_ attention: Op.Attention, _ span: Span, _ at: Pointers) throws(Failure) {
    let (d, width, shared) = (Int32(attention.headWidth), Int32(at.width), Int32(at.shared))
    let prefix = span.prefix
    let line = prefix + span.keys.count  // a row of scores: the prefix's, then the sequence's own
    let scores = try Buffer(count: min(queriesPerBlock, span.queries.count) * line * 4)
    let (k, v) = (at.k + span.keys.lowerBound * at.shared, at.v + span.keys.lowerBound * at.shared)
    try scores.withFloats { (scores) throws(Failure) in
      for first in stride(from: 0, to: span.queries.count, by: queriesPerBlock) {
        let count = min(queriesPerBlock, span.queries.count - first)
        let seen = span.isCausal ? first + count : span.keys.count
        let (m, n) = (Int32(count), Int32(seen))
        let (q, out) = (at.q + first * at.width, at.out + first * at.width)
        if prefix > 0 {
          cblas_sgemm(
            CblasRowMajor, CblasNoTrans, CblasTrans, m, Int32(prefix), d, Float(attention.scale), q, width, at.k,
            shared,
            0, scores.base, Int32(line))
        }
        cblas_sgemm(
          CblasRowMajor, CblasNoTrans, CblasTrans, m, n, d, Float(attention.scale), q, width, k, shared, 0,
          scores + prefix, Int32(line))
        for row in 0..<count {
          let own = span.isCausal ? first + row + 1 : seen
          llv_softmax(scores + row * line, prefix + own)
          (scores + (row * line + prefix + own)).update(repeating: 0, count: seen - own)
        }
        if prefix > 0 {
          cblas_sgemm(
            CblasRowMajor, CblasNoTrans, CblasNoTrans, m, d, Int32(prefix), 1, scores.base, Int32(line), at.v, shared,
            0,
            out, width)
        }
        cblas_sgemm(
          CblasRowMajor, CblasNoTrans, CblasNoTrans, m, d, n, 1, scores + prefix, Int32(line), v, shared,
          prefix > 0 ? 1 : 0, out, width)
      }
    }
  }

  /// Turns pairs of columns by the angle of the row's position. Frequencies and angles are Float32, as the models were
  /// trained; their sines and cosines are exact to Float32.
  func rope(_ x: DeviceBuffer, _ positions: DeviceBuffer, theta: Double, headWidth: Int) throws(Failure) -> DeviceBuffer
  {
    let places = try indices(positions)
    let source = try value(x)
    let half = headWidth / 2
    let frequencies = CPUDevice.frequencies(theta: theta, headWidth: headWidth)
    let (result, buffer) = try make(x.rows, x.columns)
    let width = x.columns
    try source.withFloats { (from) throws(Failure) in
      try buffer.withFloats { (to) throws(Failure) in
        try forRows(x.rows) { (range) throws(Failure) in
          let turns = try Buffer(count: headWidth * 4)  // [cosines half, sines half]
          turns.with(Float.self) { turns in
            for row in range {
              for i in 0..<half {
                let angle = Double(Float(places[row]) * frequencies[i])
                turns[i] = Float(cos(angle))
                turns[half + i] = Float(sin(angle))
              }
              for head in stride(from: 0, to: width, by: headWidth) {
                let (p, q) = (from + (row * width + head), to + (row * width + head))
                for i in 0..<half {
                  let (a, b) = (p[i], p[i + half])
                  q[i] = a * turns[i] - b * turns[half + i]
                  q[i + half] = b * turns[i] + a * turns[half + i]
                }
              }
            }
          }
        }
      }
    }
    return result
  }

  /// `1 / theta^(2i / headWidth)` in Float32.
  private static func frequencies(theta: Double, headWidth: Int) -> [Float] {
    (0..<headWidth / 2).map { 1 / powf(Float(theta), Float(2 * $0) / Float(headWidth)) }
  }
}
