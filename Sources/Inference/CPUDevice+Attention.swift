import Bytes
import CKernels
import Tensors

extension CPUDevice {
  /// Rows of one sequence that ask, and what they see: the prefix that all sequences share, then the sequence's own keys.
  private struct Span: Sendable {
    var queries: Range<Int>
    var parts: [Int]
    /// Whether a query sees keys of the last part only up to its own place.
    let isCausal: Bool
  }

  /// A stretch of keys and values, repacked for every head that has its own: where it starts in the packed arrays.
  private struct Part: Sendable {
    let tokens: Range<Int>
    let keysAt, valuesAt: Int
  }

  /// Keys and values are repacked once; then each block of queries of a head is a task of its own, whose sizes depend on its
  /// sequence and the prefix alone.
  func attention(_ attention: Op.Attention, _ inputs: [DeviceBuffer]) throws(Failure) -> DeviceBuffer {
    let starts = try indices(inputs[3])
    let (q, k, v) = (try values(inputs[0]), try values(inputs[1]), try values(inputs[2]))
    let (d, heads, shared) = (attention.headWidth, attention.heads, attention.keyValueHeads)
    let panel = Int(LLV_PANEL)
    let width = Checked.ceilDivide(d, panel) * panel
    let isSelf = inputs[0].rows == inputs[1].rows
    let isForAll = inputs[0].rows == 1 && !isSelf
    let (result, out) = try result(isSelf ? inputs[0].rows : starts.count - 1, inputs[0].columns, nil)

    var parts: [Part] = []
    var (keysEnd, valuesEnd) = (0, 0)
    for tokens in (starts[0] > 0 ? [0..<starts[0]] : []) + zip(starts, starts.dropFirst()).map({ $0..<$1 }) {
      parts.append(Part(tokens: tokens, keysAt: keysEnd, valuesAt: valuesEnd))
      keysEnd += Checked.ceilDivide(tokens.count, panel) * panel * d * shared
      valuesEnd += tokens.count * width * shared
    }
    let (keys, packed) = (try Buffer(count: keysEnd * 4), try Buffer(count: valuesEnd * 4))
    let all = parts
    try parallel(parts.count * shared, threads: threads) { task in
      let (part, head) = (all[task / shared], task % shared)
      let tokens = part.tokens
      let to = keys.floats + CPUDevice.keys(part, head, d)
      for first in stride(from: 0, to: tokens.count, by: panel) {
        llv_pack_panel_f32(
          k[tokens.lowerBound + first] + head * d, k.stride, min(panel, tokens.count - first), d, to + first * d)
      }
      var at = packed.floats + (part.valuesAt + head * tokens.count * width)
      for column in stride(from: 0, to: d, by: panel) {
        for token in tokens {
          at.update(from: v[token] + (head * d + column), count: min(panel, d - column))
          if column + panel > d { (at + (d - column)).update(repeating: 0, count: column + panel - d) }
          at += panel
        }
      }
    }

    // Blocks of queries.
    let prefixes = parts.count - (starts.count - 1)
    var blocks: [(span: Span, first: Int)] = []
    for index in parts.indices where isSelf || index >= prefixes {
      let (tokens, sequence) = (parts[index].tokens, index - prefixes)
      let span = Span(
        queries: isSelf ? tokens : sequence..<sequence + 1,
        parts: prefixes > 0 && index > 0 ? [0, index] : [index], isCausal: isSelf && attention.isCausal)
      for first in stride(from: 0, to: span.queries.count, by: Int(LLV_ATTENTION_QUERIES)) {
        blocks.append((span, first))
      }
    }
    let tasks = blocks
    let scratch = try Scratch([llv_attention_scratch(d) * 4], threads: threads)
    try parallel(tasks.count * heads, threads: threads) { task, thread in
      let ((span, first), head) = (tasks[task / heads], task % heads)
      let own = head / (heads / shared)
      let row = span.queries.lowerBound + first
      let seen = span.parts.map { index in
        let part = all[index]
        return llv_attention_keys(
          keys: UnsafePointer(keys.floats + CPUDevice.keys(part, own, d)),
          values: UnsafePointer(packed.floats + (part.valuesAt + own * part.tokens.count * width)),
          count: part.tokens.count)
      }
      llv_attention(
        seen, seen.count, q[isForAll ? 0 : row] + head * d, q.stride,
        min(Int(LLV_ATTENTION_QUERIES), span.queries.count - first), d, Float(attention.scale), span.isCausal ? 1 : 0,
        first + 1, scratch.floats(0, thread), out[row] + head * d, out.stride)
    }
    withExtendedLifetime((keys, packed, scratch)) {}
    return result
  }

  /// Where the packed keys of a head start.
  private static func keys(_ part: Part, _ head: Int, _ d: Int) -> Int {
    part.keysAt + head * Checked.ceilDivide(part.tokens.count, Int(LLV_PANEL)) * Int(LLV_PANEL) * d
  }

  /// Turns pairs of columns by the angle of the row's position. Frequencies and angles are Float32, as the models were
  /// trained; their sines and cosines are exact to Float32.
  func rope(
    _ x: DeviceBuffer, _ positions: DeviceBuffer, theta: Double, headWidth: Int, _ target: DeviceBuffer?
  ) throws(Failure) -> DeviceBuffer {
    let places = try indices(positions)
    let from = try values(x)
    let half = headWidth / 2
    let turns = try turns.table(theta: theta, headWidth: headWidth, positions: (places.max() ?? 0) + 1)
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
