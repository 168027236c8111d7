/// Candidates of one reference beside each other.
public struct Comparison: Sendable {
  public static let head = ["candidate", "size", "speed", "cosine", "first 10", "P@1 change", "verdict"]
  public static let legend =
    "Speed in items a second; first 10: share found again by new queries in the old index, P@1 change in points there."

  let reports: [FidelityReport]

  public init(_ reports: [FidelityReport]) { self.reports = reports }

  /// A row for each candidate, as `head` says.
  public var rows: [[String]] {
    reports.map { report in
      let change = (report.mixed.recall(at: 1) - report.baseline.recall(at: 1)) * 100
      return [
        report.candidate.name, report.candidate.bytes.map(Comparison.size) ?? "-",
        report.candidate.itemsPerSecond.map { $0.fixed(1) } ?? "-", report.closeness.cosine.mean.fixed(5),
        Headline.percent(report.overlap(report.mixed, 10)),
        (change > 0 ? "+" : "") + change.fixed(1), report.verdict.rawValue,
      ]
    }
  }

  /// Which candidate to take: the smallest that passes.
  public var headline: Headline {
    let passing = reports.filter { $0.verdict == .pass }
    guard let best = passing.min(by: { ($0.candidate.bytes ?? .max) < ($1.candidate.bytes ?? .max) }) else {
      let open = reports.filter { $0.verdict == .inconclusive }.map(\.candidate.name)
      return Headline(
        sentence: "Take none of these \(reports.count): no candidate passes.",
        next: open.isEmpty
          ? Headline.moreFaithful : "The data cannot decide about \(open.joined(separator: ", ")): verify with more.")
    }
    let others =
      passing.count == 1 ? "the only one of \(reports.count) that passes" : "the smallest of \(passing.count) that pass"
    let size = best.candidate.bytes.map { ", " + Comparison.size($0) } ?? ""
    return Headline(
      sentence: "Take \(best.candidate.name): \(others)\(size). New queries find "
        + "\(Headline.percent(best.overlap(best.mixed, 10))) of the same first ten in your index.",
      next: best.headline.next)
  }

  static func size(_ bytes: Int) -> String { "\((Double(bytes) / 1e6).fixed(bytes < 10_000_000 ? 2 : 1)) MB" }
}
