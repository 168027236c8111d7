/// A check as a line: outcome, name, its interval against its threshold, numbers.
struct IntervalBar {
  let check: FidelityReport.Check

  static let legend = """
    <p class="soft">Each bar has a scale of its own. Dot: what was measured. Thick line: its 95 % interval. Tall line: \
    what is asked for; the shaded side passes.</p>
    """

  static func list(_ checks: [FidelityReport.Check]) -> String {
    "<ul class=\"checks\">\(checks.map { IntervalBar(check: $0).row }.joined(separator: "\n"))</ul>"
  }

  private var row: String {
    let words = ["pass": "passes", "fail": "fails"][check.outcome.rawValue] ?? "undecided"
    let (name, value) = (Page.escaped(check.shortName), Page.escaped(check.shown(check.value)))
    let range = Page.escaped(check.range)
    let bound = Page.escaped("\(check.isLowerBound ? "at least" : "at most") \(check.shown(check.threshold))")
    return """
      <li class="\(check.outcome.rawValue)"><span class="mark">\(words)</span><span class="name">\(name)</span>
      <svg role="img" aria-label="\(name): \(value)\(range), asked for \(bound)">\(bars)</svg>
      <span class="value"><b>\(value)</b>\(range), \(bound)</span></li>
      """
  }

  /// Places in percent of the width, so that the bar fits any page. Empty for what is not finite.
  private var bars: String {
    let (low, high) = (check.estimate.low, check.estimate.high)
    let all = [low, high, check.value, check.threshold]
    guard all.allSatisfy(\.isFinite), let least = all.min(), let most = all.max() else { return "" }
    // Where all are equal there is no scale.
    let span = most > least ? most - least : 1
    func place(_ value: Double) -> Double { (most > least ? (value - least) / span : 0.5) * 70 + 15 }
    let bound = place(check.threshold)
    let (from, to) = check.isLowerBound ? (bound, 100) : (0, bound)
    return
      "<rect x=\"\(from.fixed(2))%\" y=\"3\" width=\"\((to - from).fixed(2))%\" height=\"18\" fill=\"var(--good)\"/>"
      + "<line x1=\"0\" x2=\"100%\" y1=\"12\" y2=\"12\" stroke=\"var(--line)\"/>"
      + line(bound, bound, 1, 23, "var(--ink)", 2)
      + line(place(low), place(high), 12, 12, "var(--tone)", 6)
      + "<circle cx=\"\(place(check.value).fixed(2))%\" cy=\"12\" r=\"5\" fill=\"var(--tone)\"/>"
  }

  private func line(_ x1: Double, _ x2: Double, _ y1: Int, _ y2: Int, _ color: String, _ width: Int) -> String {
    "<line x1=\"\(x1.fixed(2))%\" x2=\"\(x2.fixed(2))%\" y1=\"\(y1)\" y2=\"\(y2)\" "
      + "stroke=\"\(color)\" stroke-width=\"\(width)\"/>"
  }
}
