import Glibc

// The forms of an index on the page.
extension FidelityReport {
  func outputSection(_ level: Int) -> String {
    let quality = scope.isLabelled ? "recall@10" : "first 10 found again"
    func cell(_ estimate: Estimate) -> String {
      "\(Page.escaped(Headline.percent(estimate.value)))<br><span class=\"soft\">"
        + "\((estimate.low * 100).fixed(1)) to \((estimate.high * 100).fixed(1))</span>"
    }
    let rows = outputs.enumerated().map { place, output in
      ["\(place + 1). \(output.form)\(isOnFront(output) ? " ★" : "")", String(output.bytes)]
        + output.searches.map { cell(scope.isLabelled ? $0.recall10 : $0.overlap10) } + [cell(output.mixed.overlap10)]
    }
    let names = (outputs.first?.searches ?? []).map(\.name)
    return """
      <section><h\(level)>Forms of your index</h\(level)>
      <p>The same vectors, kept in fewer columns or less precisely. New queries in the old index are held to old queries
      in it, both in the same form.</p>
      \(IntervalBar.list(checks.filter { $0.area == .output }))
      <div class="plots">\(outputPlot(quality))</div>
      \(Page.table("Forms of the index", ["form", "bytes"] + names + ["first 10 found again"], rows, isStacked: true))
      <p class="soft">\(names.joined(separator: ", ")): \(quality), with 95 % intervals. The last column: the share of
      what the reference finds first among whole vectors, in the mixed index. ★: no form finds more with fewer bytes.
      After +rescore: how many times ten documents are found by codes and ranked again by float queries.</p></section>
      """
  }

  /// Bytes of a vector against what the mixed index finds, with intervals.
  private func outputPlot(_ quality: String) -> String {
    let points = outputs.enumerated().map { (number: $0 + 1, output: $1, quality: $1.quality(scope)) }
      .filter { $0.quality.value.isFinite && $0.output.bytes > 0 }
    guard let least = points.map(\.quality.low).min(), let fewest = points.map(\.output.bytes).min(),
      let most = points.map(\.output.bytes).max()
    else { return "" }
    let low = max(0, (least * 10 - 0.2).rounded(.down) / 10)
    // Whole powers of two around all of them.
    let (first, last) = (
      log2(Double(fewest)).rounded(.down), max(log2(Double(most)).rounded(.up), log2(Double(fewest)).rounded(.down) + 1)
    )
    func x(_ bytes: Int) -> Double {
      Plot.left + 12 + (log2(Double(bytes)) - first) / (last - first) * (Plot.right - Plot.left - 24)
    }
    func y(_ value: Double) -> Double { Plot.bottom - (value - low) / (1 - low) * (Plot.bottom - Plot.top) }
    var plot = Plot(x: "bytes of a vector in the index", y: "\(quality), mixed index")
    for share in [0, 0.5, 1] { plot.tick(y: y(low + share * (1 - low)), Headline.percent(low + share * (1 - low))) }
    for power in stride(from: first, through: last, by: max(1, ((last - first) / 4).rounded(.up))) {
      plot.tick(x: x(1 << Int(power)), String(1 << Int(power)))
    }
    for point in points {
      let (column, isBest) = (x(point.output.bytes), isOnFront(point.output))
      plot.line(column, y(point.quality.low), column, y(point.quality.high), "var(--blue)")
      plot.point(
        column, y(point.quality.value), .of("text"), isHollow: !isBest,
        title: "\(point.output.form): \(Headline.percent(point.quality.value)), \(point.output.bytes) bytes")
    }
    var taken: [(x: Double, y: Double)] = []
    for point in points {
      // Right of the point: its interval is above and below.
      let label = Plot.free(x(point.output.bytes) + 12, y(point.quality.value) + 12, taken)
      taken.append(label)
      plot.text(label.x, label.y, String(point.number), .middle)
    }
    return plot.figure(
      "Bytes and \(quality) of \(points.count) forms",
      caption:
        "The upper left is better; lines are 95 % intervals. Filled: no form finds more with fewer bytes. Numbers "
        + "are those of the table.")
  }
}
