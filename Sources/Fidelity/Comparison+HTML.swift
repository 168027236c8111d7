import Glibc

extension Comparison {
  /// The answer, a table and a plot of all candidates.
  var html: String {
    let tone = reports.contains { $0.verdict == .pass } ? Verdict.pass : .fail
    let rows = zip(rows, reports).enumerated().map { place, one in
      var cells = one.0.map(Page.escaped)
      cells[0] = "<a href=\"#candidate-\(place + 1)\">\(place + 1). \(cells[0])</a>"
      cells[6] = "<span class=\"mark \(cells[6])\">\(cells[6])</span>"
      return cells
    }
    return """
      <header class="verdict \(tone.rawValue)"><span class="mark">\(reports.count) CANDIDATES</span>
      <h1>\(Page.escaped(headline.sentence))</h1><p>\(Page.code(headline.next))</p></header>
      <h2>Candidates</h2>
      \(Page.table("Candidates beside each other", Comparison.head, rows, words: [0, 6], isStacked: true))
      <p class="soft">\(Comparison.legend)</p>
      <div class="plots">\(plot)</div>
      """
  }

  /// Size against what is lost; numbers are those of the table.
  private var plot: String {
    let points = reports.enumerated().compactMap { place, report in
      report.candidate.bytes.map {
        (number: place + 1, bytes: Double($0), loss: log10(max(1e-12, 1 - report.closeness.cosine.mean)))
      }
    }.filter { $0.loss.isFinite }
    guard let most = points.map(\.bytes).max(), most > 0 else { return "" }
    let scale = LogScale(points.map(\.loss), floor: -8)
    var plot = Plot(x: "size, MB", y: "1 − mean cosine")
    for power in scale.ticks { plot.tick(y: scale.place(power), Comparison.power(power)) }
    let end = most * 1.1
    for share in [0, 0.5, 1] {
      plot.tick(
        x: Plot.left + share * (Plot.right - Plot.left),
        share == 0 ? "0" : (end * share / 1e6).fixed(end < 1e7 ? 2 : 0),
        share == 0 ? .start : share == 1 ? .end : .middle)
    }
    var taken: [(x: Double, y: Double)] = []
    for point in points {
      let (x, y) = (Plot.left + point.bytes / end * (Plot.right - Plot.left), scale.place(point.loss))
      plot.point(
        x, y, .of("text"), isHollow: point.loss < scale.low, title: reports[point.number - 1].candidate.name)
      let label = Plot.free(x, y, taken)
      taken.append(label)
      plot.text(label.x, label.y, String(point.number), .middle)
    }
    return plot.figure(
      "Size and loss of \(points.count) candidates",
      caption: "The lower left is better. Numbers are those of the table; hollow: below the scale.")
  }

  /// `10⁻³`.
  private static func power(_ exponent: Double) -> String {
    let digits = Array("⁰¹²³⁴⁵⁶⁷⁸⁹")
    let number = String(Int(abs(exponent))).compactMap(\.wholeNumberValue).map { String(digits[$0]) }.joined()
    return "10" + (exponent < 0 ? "⁻" : "") + number
  }
}
