import Bytes
import CKernels
import Glibc

/// AdamW (Loshchilov and Hutter 2019). What is trained are moves from where the model was: decay pulls back to there.
package struct AdamW: Sendable {
  package var decay = 0.0
  private static let (mean, square, least) = (0.9, 0.99, 1e-12)

  package init() {}

  /// Moves scales, zeros and values at one rate, and latents of codes at another, without decay.
  ///
  /// - Parameter step: from 1.
  package func move(
    _ tunable: inout Tunable, rate: Double, codeRate: Double, step: Int, threads: Int
  ) throws(Failure) {
    let adam = AdamW.numbers(rate: rate, step: step)
    let shrunk = Float(1 - rate * decay)
    for index in 0..<tunable.count {
      let gradient = tunable.gradient[index]
      tunable.means[index] = adam.mean * tunable.means[index] + (1 - adam.mean) * gradient
      tunable.squares[index] = adam.square * tunable.squares[index] + (1 - adam.square) * gradient * gradient
      tunable.moves[index] =
        shrunk * tunable.moves[index] - adam.factor * tunable.means[index]
        / (tunable.squares[index].squareRoot() * adam.root + adam.least)
    }
    try tunable.moveCodes(AdamW.numbers(rate: codeRate, step: step), threads: threads)
  }

  private static func numbers(rate: Double, step: Int) -> llv_adam {
    let (a, b) = (1 - pow(AdamW.mean, Double(step)), 1 - pow(AdamW.square, Double(step)))
    return llv_adam(
      mean: Float(AdamW.mean), square: Float(AdamW.square), factor: Float(rate / a), root: Float(1 / b.squareRoot()),
      least: Float(AdamW.least))
  }

  /// The share of the largest rate at a step: rising over the first `warm` steps, then falling as half a cosine.
  package static func share(step: Int, of steps: Int, warm: Int) -> Double {
    if step < warm { return Double(step + 1) / Double(warm) }
    return (1 + cos(Double.pi * Double(step - warm) / Double(max(1, steps - warm)))) / 2
  }
}
