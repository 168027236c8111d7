/// What is concluded from evidence.
public enum Verdict: String, Sendable {
  case pass, fail
  /// The data cannot decide: other data of this kind may say otherwise.
  case inconclusive
}

/// Why evidence does not carry a verdict, beside the checks: data too few or too good, a model held to itself.
public struct Remark: Sendable, Equatable {
  /// What may be allowed by name.
  public enum Kind: String, Sendable, CaseIterable {
    /// Too few queries or documents.
    case few
    /// Ids that name several queries; labels by which the reference itself finds nothing.
    case labels
    /// Candidate and reference are one model, or the wrong way round.
    case reference
    /// The candidate was calibrated with the same items.
    case calibration
    /// Settings that differ between the models. A check, not a remark, but allowed the same way.
    case settings
  }

  public let kind: Kind
  public let text: String
  /// Then it is only said.
  public var isAllowed = false

  public init(_ kind: Kind, _ text: String) { (self.kind, self.text) = (kind, text) }
}
