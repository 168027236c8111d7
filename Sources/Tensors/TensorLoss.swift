import Bytes
import CKernels

/// What one tensor lost when a pass rewrote it. Nothing is lost silently: a container's provenance holds these.
public struct TensorLoss: Sendable, Equatable {
  /// Relative error: `‖x - x̂‖ / ‖x‖` over the tensor, 0 for a tensor of zeros.
  public var relativeError: Double
  /// Largest `|x - x̂|`.
  public var largestError: Double
  /// Elements that are further from their code's value than half a step, because they lie outside the codes' range.
  public var clamped: Int
  /// Groups that hold something other than zeros but whose scale rounds to zero.
  public var vanishedGroups: Int

  public init(relativeError: Double, largestError: Double, clamped: Int, vanishedGroups: Int) {
    self.relativeError = relativeError
    self.largestError = largestError
    self.clamped = clamped
    self.vanishedGroups = vanishedGroups
  }

  public var json: JSONText {
    [
      "relative_error": .number(relativeError), "largest_error": .number(largestError), "clamped": .int(clamped),
      "vanished_groups": .int(vanishedGroups),
    ]
  }

  /// What the parts of a tensor lost, together.
  ///
  /// - Throws: `limit` when scales were too large for half precision.
  public init(_ parts: [llv_loss]) throws(Failure) {
    var sum = llv_loss()
    for loss in parts {
      sum.error += loss.error
      sum.squares += loss.squares
      sum.largest = max(sum.largest, loss.largest)
      sum.clamped += loss.clamped
      sum.vanished += loss.vanished
      sum.overflowed += loss.overflowed
    }
    guard sum.overflowed == 0 else {
      throw Failure(
        .limit,
        "\(sum.overflowed) groups need a scale above the largest that is stored (65504 in half precision); "
          + "keep this tensor")
    }
    self.init(
      relativeError: sum.squares > 0 ? (sum.error / sum.squares).squareRoot() : 0, largestError: sum.largest,
      clamped: Int(sum.clamped), vanishedGroups: Int(sum.vanished))
  }
}
