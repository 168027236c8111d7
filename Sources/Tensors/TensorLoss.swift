import Bytes

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
}
