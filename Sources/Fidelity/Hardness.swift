import Bytes
import Glibc

/// Hardness-weighted contrastive learning (LLaVE: Lan et al. 2025, arXiv 2503.04812): a negative counts `exp(α ·
/// similarity)` times, so that those which nearly win decide. With α = 0 it is InfoNCE.
public struct Hardness: Sendable {
  /// `1 / τ`; LLaVE uses 50.
  public var scale: Double
  /// LLaVE uses 9.
  public var alpha: Double

  public init(scale: Double = 50, alpha: Double = 9) {
    self.scale = scale
    self.alpha = alpha
  }

  public struct Loss: Sendable {
    public let value: Double
    /// Derivatives of the value by all queries and all targets, `[count, width]` each.
    public let queries, targets: [Double]
  }

  /// `-log softmax` of each positive among all targets, and of each among all queries, averaged: with `s = q · t`,
  /// logits `scale · s + α · s` for negatives, whose second term has no gradient, and `scale · s` for the positive.
  ///
  /// - Parameters:
  ///   - queries, targets: `[count, width]`, unit vectors; target i is query i's. Those of all devices, gathered.
  ///   - rows: the pairs that are scored (against everything gathered), as each device scores its own; all when nil.
  ///     Gradients of several devices add up, over their number, to that of all.
  /// - Rounding: double throughout. Cost: `rows · count · width` products, three times; memory `rows · count`.
  public func loss(queries: Embeddings, targets: Embeddings, rows: Range<Int>? = nil) throws(Failure) -> Loss {
    precondition(queries.count == targets.count && queries.width == targets.width, "a target for each query")
    let (count, width) = (queries.count, queries.width)
    let rows = rows ?? 0..<count
    let (q, t) = (try queries.rows(0..<count).map(Double.init), try targets.rows(0..<count).map(Double.init))
    var gradients = (q: [Double](repeating: 0, count: q.count), t: [Double](repeating: 0, count: t.count))
    var value = 0.0
    // Each direction once: a's rows against all of b.
    func add(_ a: [Double], _ b: [Double], _ towardA: inout [Double], _ towardB: inout [Double]) {
      for row in rows {
        let own = row * width..<(row + 1) * width
        let similarities = (0..<count).map { other in
          zip(a[own], b[other * width..<(other + 1) * width]).reduce(0) { $0 + $1.0 * $1.1 }
        }
        let logits = similarities.enumerated().map { (scale + ($0 == row ? 0 : alpha)) * $1 }
        let most = logits.max() ?? 0
        let sum = logits.reduce(0) { $0 + exp($1 - most) }
        value += (log(sum) + most - logits[row]) / Double(2 * rows.count)
        for other in 0..<count {
          let share = exp(logits[other] - most) / sum - (other == row ? 1 : 0)
          let slope = scale * share / Double(2 * rows.count)
          for column in 0..<width {
            towardA[row * width + column] += slope * b[other * width + column]
            towardB[other * width + column] += slope * a[row * width + column]
          }
        }
      }
    }
    add(q, t, &gradients.q, &gradients.t)
    add(t, q, &gradients.t, &gradients.q)
    return Loss(value: value, queries: gradients.q, targets: gradients.t)
  }

  /// How much each negative matters to a query, adding up to 1: the softmax of `(scale + α) · similarity`.
  public func weights(_ similarities: [Double]) -> [Double] {
    let most = similarities.max() ?? 0
    let shares = similarities.map { exp((scale + alpha) * ($0 - most)) }
    let sum = shares.reduce(0, +)
    return shares.map { $0 / sum }
  }
}
