import Bytes
import Fidelity
import Glibc
import Inference

/// What a candidate's vectors cost beside the reference's: `1 - cosine`, and the hardness-weighted contrastive loss
/// (`Hardness`) of finding the right one among the reference's frozen vectors, so that an index of those stays valid.
///
/// With `s` the similarities of a vector and the keys, logits are `scale · s + α · s`, whose second term has no slope.
/// Where it is known which key is right, that one's logit is `scale · s`, and the loss is its `-log softmax`: LLaVE's.
/// Otherwise the reference's own shares, by the same logits, are what the candidate's should be: the loss is their
/// Kullback-Leibler divergence.
package struct RecoveryLoss: Sendable {
  package var hardness = Hardness()
  /// What the cosine and the contrastive loss count.
  package var cosineWeight = 1.0
  package var contrastWeight = 0.1
  /// `[keys, width]`, unit vectors of the reference.
  package let keys: Floats

  /// What one vector should be and find.
  package struct Target: Sendable {
    /// The reference's own vector, of length 1; its place among all items' that the caller has.
    package let reference: ArraySlice<Float>
    /// Keys that are right; none where the reference's similarities are the targets.
    package let positive: Int?
    /// A key that is not among those to be told apart: the item itself.
    package let excluded: Int?

    package init(reference: ArraySlice<Float>, positive: Int?, excluded: Int?) {
      (self.reference, self.positive, self.excluded) = (reference, positive, excluded)
    }
  }

  package init(keys: Floats) { self.keys = keys }

  /// - Parameters:
  ///   - vectors: `[targets, width]`, of any length but 0.
  ///   - share: what each vector's loss counts, one over how many there are in all batches of a step.
  /// - Returns: the loss and the gradient by the vectors.
  /// - Cost: `targets · keys · width` products, three times.
  package func loss(
    _ vectors: Floats, _ targets: [Target], share: Double, on device: CPUDevice
  ) throws(Failure) -> (value: Double, gradient: Floats) {
    let (rows, width) = (vectors.rows, vectors.columns)
    let references = try Floats(targets.flatMap(\.reference), columns: width)
    let (unit, lengths) = try RecoveryLoss.unit(vectors)
    let now = try device.product(unit.view, keys.view, otherTransposed: true, m: rows, n: keys.rows, k: width)
    let before = try device.product(references.view, keys.view, otherTransposed: true, m: rows, n: keys.rows, k: width)
    let (slopes, values) = (try Floats(rows, keys.rows), try Floats(1, rows))
    try device.forRows(rows, step: 8) { range in
      for row in range {
        let own = UnsafeBufferPointer(start: now[row], count: keys.rows)
        let was = UnsafeBufferPointer(start: before[row], count: keys.rows)
        let target = slopes[row]
        values[0][row] = Float(contrast(own, was, targets[row], into: target))
        for key in 0..<keys.rows { target[key] *= Float(contrastWeight * share) }
      }
    }
    let toUnit = try device.product(slopes.view, keys.view, m: rows, n: width, k: keys.rows)
    defer { withExtendedLifetime((slopes, references, unit)) {} }
    let gradient = try Floats(rows, width)
    var total = 0.0
    for row in 0..<rows {
      var (cosine, along) = (0.0, 0.0)
      for column in 0..<width {
        cosine += Double(unit[row][column]) * Double(references[row][column])
        toUnit[row][column] -= Float(cosineWeight * share) * references[row][column]
        along += Double(toUnit[row][column]) * Double(unit[row][column])
      }
      for column in 0..<width {
        gradient[row][column] = Float((Double(toUnit[row][column]) - along * Double(unit[row][column])) / lengths[row])
      }
      total += share * (cosineWeight * (1 - cosine) + contrastWeight * Double(values[0][row]))
    }
    return (total, gradient)
  }

  /// One vector's contrastive loss; leaves its derivatives by the similarities in `slopes`.
  private func contrast(
    _ now: UnsafeBufferPointer<Float>, _ before: UnsafeBufferPointer<Float>, _ target: Target,
    into slopes: UnsafeMutablePointer<Float>
  ) -> Double {
    func logit(_ similarity: Float, _ key: Int) -> Double {
      key == target.excluded
        ? -.infinity : (hardness.scale + (key == target.positive ? 0 : hardness.alpha)) * Double(similarity)
    }
    func normalizer(_ values: UnsafeBufferPointer<Float>) -> Double {
      var (most, sum) = (-Double.infinity, 0.0)
      for key in values.indices { most = max(most, logit(values[key], key)) }
      for key in values.indices { sum += exp(logit(values[key], key) - most) }
      return most + log(sum)
    }
    let own = normalizer(now)
    if let positive = target.positive {
      for key in now.indices {
        slopes[key] = Float(hardness.scale * (exp(logit(now[key], key) - own) - (key == positive ? 1 : 0)))
      }
      return own - logit(now[positive], positive)
    }
    let wanted = normalizer(before)
    var loss = 0.0
    for key in now.indices {
      guard key != target.excluded else {
        slopes[key] = 0
        continue
      }
      let (p, q) = (logit(before[key], key) - wanted, logit(now[key], key) - own)
      slopes[key] = Float(hardness.scale * (exp(q) - exp(p)))
      loss += exp(p) * (p - q)
    }
    return loss
  }

  private static func unit(_ vectors: Floats) throws(Failure) -> (Floats, [Double]) {
    let result = try Floats(vectors.rows, vectors.columns)
    var lengths: [Double] = []
    for row in 0..<vectors.rows {
      var squares = 0.0
      for column in 0..<vectors.columns { squares += Double(vectors[row][column]) * Double(vectors[row][column]) }
      guard squares > 0, squares.isFinite else {
        throw Failure(.malformed, "the model gives a vector of no direction to train on")
      }
      lengths.append(squares.squareRoot())
      let factor = 1 / squares.squareRoot()
      for column in 0..<vectors.columns { result[row][column] = Float(Double(vectors[row][column]) * factor) }
    }
    return (result, lengths)
  }
}
