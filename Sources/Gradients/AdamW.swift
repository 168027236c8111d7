import Glibc

/// AdamW (Loshchilov and Hutter 2019). What is trained are moves from where the model was: decay pulls back to there.
package struct AdamW: Sendable {
  package var decay = 0.0
  private static let (mean, square, least) = (0.9, 0.99, 1e-12)

  package init() {}

  /// - Parameter step: from 1.
  package func move(_ tunable: inout Tunable, rate: Double, step: Int) {
    let (mean, square) = (Float(AdamW.mean), Float(AdamW.square))
    let (a, b) = (1 - pow(AdamW.mean, Double(step)), 1 - pow(AdamW.square, Double(step)))
    let (factor, root, shrunk) = (Float(rate / a), Float(1 / b.squareRoot()), Float(1 - rate * decay))
    for index in 0..<tunable.count {
      let gradient = tunable.gradient[index]
      tunable.means[index] = mean * tunable.means[index] + (1 - mean) * gradient
      tunable.squares[index] = square * tunable.squares[index] + (1 - square) * gradient * gradient
      tunable.moves[index] =
        shrunk * tunable.moves[index] - factor * tunable.means[index]
        / (tunable.squares[index].squareRoot() * root + Float(AdamW.least))
    }
  }

  /// The share of the largest rate at a step: rising over the first `warm` steps, then falling as half a cosine.
  package static func share(step: Int, of steps: Int, warm: Int) -> Double {
    if step < warm { return Double(step + 1) / Double(warm) }
    return (1 + cos(Double.pi * Double(step - warm) / Double(max(1, steps - warm)))) / 2
  }
}
