/// What is concluded from evidence.
public enum Verdict: String, Sendable {
  case pass, fail
  /// The data cannot decide: other data of this kind may say otherwise.
  case inconclusive
}

/// Why evidence does not carry a verdict, beside the checks.
public struct Remark: Sendable, Equatable {
  public let text: String
  /// Then it is only said.
  public var isAllowed = false

  public init(_ text: String) { self.text = text }
}

extension FidelityReport {
  public var verdict: Verdict { passes ? .pass : .fail }
  public var remarks: [Remark] { [] }
}

extension FidelityReport.Check {
  public var outcome: Verdict { passes ? .pass : .fail }
}
