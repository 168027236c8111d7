/// A page that stands alone: no scripts, no fonts, no other files. Plots are inline SVG.
extension FidelityReport {
  /// One page for one or several candidates of one reference.
  ///
  /// - Parameter pictures: those of an item, by its place among all items.
  public static func page(_ reports: [FidelityReport], pictures: (Int) -> [Picture] = { _ in [] }) -> String {
    let names = reports.map(\.candidate.name).joined(separator: ", ")
    let verdict = reports.map(\.verdict.rawValue).joined(separator: ", ").uppercased()
    return """
      <!DOCTYPE html>
      <html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
      <title>\(verdict): \(escaped(names))</title>
      <style>
      :root { color-scheme: light dark; --ink: #1f2328; --paper: #ffffff; --soft: #59636e; --line: #d1d9e0; --blue: #0969da; --purple: #8250df; --grey: #818b98; --green: #1a7f37; --red: #cf222e; --amber: #9a6700; }
      @media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --soft: #9198a1; --line: #3d444d; --blue: #4493f8; --purple: #ab7df8; --grey: #848d97; --green: #3fb950; --red: #f85149; --amber: #d29922; } }
      body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
      h1 { color: white; padding: .6rem 1rem; border-radius: .4rem; font-size: 1.5rem; overflow-wrap: anywhere; } h1.pass { background: #1a7f37; } h1.fail { background: #cf222e; }
      h2 { margin-top: 2.2rem; font-size: 1.15rem; border-bottom: 1px solid var(--line); }
      .wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; margin-bottom: 1rem; } td, th { padding: .3rem .6rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
      td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
      .ok { color: var(--green); font-weight: 600; } .bad { color: var(--red); font-weight: 600; } .close { color: var(--amber); }
      .cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .8rem; } .cards div { border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .8rem; } .cards b { display: block; font-size: 1.3rem; } .cards span { color: var(--soft); font-size: .9rem; }
      .plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1rem; } figure { margin: 0; }
      figcaption { color: var(--soft); font-size: .9rem; } svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--soft); }
      .text { color: var(--soft); overflow-wrap: anywhere; } details { margin: .5rem 0; } summary { cursor: pointer; }
      .text img, .text video { height: 6rem; max-width: 100%; object-fit: contain; image-rendering: pixelated; display: block; margin: .3rem 0; }
      </style></head><body>
      \(reports.count > 1 ? comparison(reports) : "")
      \(reports.map { $0.section(pictures) }.joined(separator: "\n"))
      </body></html>

      """
  }

  private func section(_ pictures: (Int) -> [Picture]) -> String {
    """
    <h1 class="\(verdict.rawValue)">\(verdict.rawValue.uppercased()) · \(escaped(candidate.name))</h1>
    <p>Compared with <b>\(escaped(reference.name))</b> on \(own.rank.count) queries and \(documents) documents of
    <b>\(escaped(data))</b>. \(escaped(sentence))</p>
    \(cards)
    <h2>Verdict</h2>
    <div class="wide"><table><tr><th></th><th>check</th><th class="n">value</th><th class="n">asked for</th><th class="n">95 % interval</th></tr>
    \(checks.map(row).joined(separator: "\n"))
    </table></div>
    \(findings)
    <h2>Pictures</h2>
    <div class="plots">
    <figure>\(histogram)<figcaption>Cosine between each item's two vectors: the further right, the closer.</figcaption></figure>
    <figure>\(bars)<figcaption>Share of queries whose positive is found. Mixed: the candidate's queries in the index that the
    reference built.</figcaption></figure>
    \(divergence.map { layerCurve($0) + bitMap($0) } ?? "")
    </div>
    <h2>Numbers</h2>
    <div class="wide"><table><tr><th></th><th class="n">mean</th><th class="n">worst 1 %</th><th class="n">worst</th></tr>
    \(summaryRow("cosine", closeness.cosine, 5))
    \(kinds.map { summaryRow("cosine, " + $0.name, $0.cosine, 5) }.joined())
    \(summaryRow("angle, degrees", closeness.angle, 2, isHighWorst: true))
    \(summaryRow("relative error", closeness.relativeError, 4, isHighWorst: true))
    </table></div>
    <div class="wide"><table><tr><th>retrieval</th><th class="n">P@1</th><th class="n">recall@5</th><th class="n">recall@10</th>
    <th class="n">overlap@1</th><th class="n">overlap@10</th>\(own.negativesBeaten == nil ? "" : "<th class=\"n\">beats own negatives</th>")</tr>
    \(runs.map(runRow).joined())
    </table></div>
    <div class="wide"><table><tr><th>order at the head</th><th class="n">candidate</th><th class="n">mixed index</th></tr>
    \(orderingRows.map { "<tr><td>\($0.name)</td><td class=\"n\">\($0.own.text)</td><td class=\"n\">\($0.mixed.text)</td></tr>" }.joined(separator: "\n"))
    </table></div>
    <p>Rank correlation of whole similarity lists (Spearman, mean over queries): <b>\(rankCorrelation.fixed(4))</b>.
    Effective dimensions: <b>\(spread.candidate.dimensions.fixed(1))</b>, reference \(spread.reference.dimensions.fixed(1)). Mean cosine of two different
    items: <b>\(spread.candidate.meanCosine.fixed(4))</b>, reference \(spread.reference.meanCosine.fixed(4)). \(clusterSentence)</p>
    <h2>Items that moved furthest</h2>
    <div class="wide"><table><tr><th class="n">cosine</th><th>id</th><th>text</th></tr>
    \(worst.map { worstRow($0, pictures) }.joined(separator: "\n"))
    </table></div>
    <h2>Where this comes from</h2>
    \(facts(candidate, "candidate"))\(facts(reference, "reference"))
    """
  }

  private func worstRow(_ item: Worst, _ pictures: (Int) -> [Picture]) -> String {
    func ranking(_ title: String, _ places: [Int]) -> String {
      let rows = places.map { place in
        "<li>\(pictures(place).map(\.html).joined())\(items.isEmpty ? "document \(place - baseline.rank.count)" : escaped(String(items[place].text.prefix(100))))</li>"
      }
      return rows.isEmpty ? "" : "<b>\(title)</b><ol>\(rows.joined())</ol>"
    }
    let rankings = ranking("reference finds", item.before) + ranking("candidate finds", item.after)
    let details = rankings.isEmpty ? "" : "<details><summary>both rankings</summary>\(rankings)</details>"
    return "<tr><td class=\"n\">\(item.cosine.fixed(4))</td><td>\(escaped(item.id))</td><td class=\"text\">"
      + "\(pictures(item.item).map(\.html).joined())\(escaped(String(item.text.prefix(200))))\(details)</td></tr>"
  }

  private var cards: String {
    var cells = ["<div><b>\(closeness.cosine.mean.fixed(4))</b><span>mean cosine</span></div>"]
    if let own = candidate.bytes, let other = reference.bytes, own > 0 {
      cells.append(
        "<div><b>\((Double(own) / 1e6).fixed(1)) MB</b><span>\((Double(other) / Double(own)).fixed(1)) times smaller than \((Double(other) / 1e6).fixed(1)) MB</span></div>"
      )
    }
    if let speed = candidate.itemsPerSecond {
      let other = reference.itemsPerSecond.map { ", reference \($0.fixed(1))" } ?? ""
      cells.append("<div><b>\(speed.fixed(1))</b><span>items a second here\(other)</span></div>")
    }
    if let own = candidate.pictures, let other = reference.pictures, own.tokens > 0 {
      cells.append(
        "<div><b>\(own.tokens.fixed(1))</b><span>tokens a picture, reference \(other.tokens.fixed(1)); "
          + "\(own.views.fixed(2)) and \(other.views.fixed(2)) views</span></div>")
    }
    cells.append(
      "<div><b>\((self.own.recall(at: 1) * 100).fixed(1)) %</b><span>P@1, reference \((baseline.recall(at: 1) * 100).fixed(1)) %</span></div>"
    )
    cells.append(
      "<div><b>\((overlap(mixed, 10) * 100).fixed(1)) %</b><span>of the old index's first 10 found again</span></div>")
    return "<div class=\"cards\">\(cells.joined())</div>"
  }

  private var findings: String {
    guard let list = divergence?.findings, !list.isEmpty else { return "" }
    return "<h2>Look at</h2><ul>\(list.prefix(12).map { "<li>\(escaped($0))</li>" }.joined())</ul>"
  }

  private var clusterSentence: String {
    guard let clusters else { return "" }
    let classes =
      clusters.vMeasure.map {
        " V-measure with the labels \($0.candidate.fixed(3)), reference \($0.reference.fixed(3))."
      } ?? ""
    return
      "In \(clusters.count) clusters both agree by <b>\(clusters.agreement.fixed(3))</b> (adjusted Rand index; the reference with itself, "
      + "started elsewhere, \(clusters.stability.fixed(3))).\(classes)"
  }

  private func facts(_ subject: Subject, _ role: String) -> String {
    let rows = subject.facts.map { "<tr><td>\(escaped($0.name))</td><td class=\"text\">\(escaped($0.value))</td></tr>" }
    return "<details><summary>\(role): \(escaped(subject.name))</summary><table>\(rows.joined())</table></details>"
  }

  /// The result in words.
  private var sentence: String {
    let failed = checks.filter { !$0.passes }.map(\.name)
    return failed.isEmpty ? "Every check passes." : "Not good enough: \(failed.joined(separator: "; "))."
  }

  private func row(_ check: Check) -> String {
    let bound = check.isLowerBound ? "≥" : "≤"
    let range = "\(fixed(check.estimate.low, 4)) to \(fixed(check.estimate.high, 4))"
    let mark = check.passes ? "<span class=\"ok\">✓ passes</span>" : "<span class=\"bad\">✗ fails</span>"
    return
      "<tr><td>\(mark)</td><td>\(check.name)</td>"
      + "<td class=\"n\">\(fixed(check.value, 4))</td><td class=\"n\">\(bound) \(fixed(check.threshold, 4))</td><td class=\"n\">\(range)</td></tr>"
  }

  private func summaryRow(_ name: String, _ summary: Closeness.Summary, _ digits: Int, isHighWorst: Bool = false)
    -> String
  {
    let tail = isHighWorst ? "–" : fixed(summary.lowest1, digits)
    return "<tr><td>\(name)</td><td class=\"n\">\(fixed(summary.mean, digits))</td><td class=\"n\">\(tail)</td>"
      + "<td class=\"n\">\(fixed(isHighWorst ? summary.most : summary.least, digits))</td></tr>"
  }

  private func runRow(_ name: String, _ run: Retrieval.Run) -> String {
    let negatives = run.negativesBeaten.map { "<td class=\"n\">\(fixed($0, 4))</td>" } ?? ""
    let cells = [run.recall(at: 1), run.recall(at: 5), run.recall(at: 10), overlap(run, 1), overlap(run, 10)]
    return "<tr><td>\(name)</td>" + cells.map { "<td class=\"n\">\(fixed($0, 4))</td>" }.joined() + negatives
      + "</tr>\n"
  }

  // MARK: Plots

  /// Forty bins from just below the lowest cosine to 1.
  private var histogram: String {
    let values = closeness.cosines.compactMap { $0 }
    guard let least = values.min() else { return "" }
    let low = least - max(1e-6, (1 - least) * 0.02)
    let bins = 40
    var counts = [Int](repeating: 0, count: bins)
    for value in values { counts[min(bins - 1, Int((value - low) / (1 - low + 1e-12) * Double(bins)))] += 1 }
    let most = Double(counts.max() ?? 1)
    let (width, height) = (400.0, 160.0)
    let step = width / Double(bins)
    let bars = counts.enumerated().map { index, count in
      let bar = Double(count) / most * height
      return
        "<rect x=\"\(fixed(30 + Double(index) * step, 1))\" y=\"\(fixed(10 + height - bar, 1))\" width=\"\(fixed(step - 1, 1))\" height=\"\(fixed(bar, 1))\" fill=\"var(--blue)\"/>"
    }
    let digits = 1 - low < 0.01 ? 5 : 3
    return """
      <svg viewBox="0 0 450 200" role="img">\(bars.joined())
      <line x1="30" y1="170" x2="430" y2="170" stroke="var(--grey)"/>
      <text x="30" y="188">\(fixed(low, digits))</text><text x="430" y="188" text-anchor="end">1</text>
      <text x="230" y="188" text-anchor="middle">cosine, \(values.count) items</text></svg>
      """
  }

  private var bars: String {
    let colors = ["var(--grey)", "var(--blue)", "var(--purple)"]
    let runs = [("reference", baseline), ("candidate", own), ("mixed index", mixed)]
    var parts: [String] = []
    for (group, k) in [1, 5, 10].enumerated() {
      for (place, run) in runs.enumerated() {
        let value = run.1.recall(at: k)
        let height = value * 130
        let x = 40 + Double(group) * 135 + Double(place) * 36
        parts.append(
          "<rect x=\"\(fixed(x, 1))\" y=\"\(fixed(150 - height, 1))\" width=\"32\" height=\"\(fixed(height, 1))\" fill=\"\(colors[place])\"/>"
            + "<text x=\"\(fixed(x + 16, 1))\" y=\"\(fixed(145 - height, 1))\" text-anchor=\"middle\">\(fixed(value * 100, 1))</text>"
        )
      }
      parts.append(
        "<text x=\"\(fixed(94 + Double(group) * 135, 1))\" y=\"167\" text-anchor=\"middle\">\(k == 1 ? "P@1" : "recall@\(k)"), %</text>"
      )
    }
    for (place, run) in runs.enumerated() {
      let x = 60 + Double(place) * 120
      parts.append(
        "<rect x=\"\(x)\" y=\"180\" width=\"12\" height=\"12\" fill=\"\(colors[place])\"/><text x=\"\(x + 17)\" y=\"191\">\(run.0)</text>"
      )
    }
    return
      "<svg viewBox=\"0 0 450 200\" role=\"img\">\(parts.joined())<line x1=\"30\" y1=\"150\" x2=\"430\" y2=\"150\" stroke=\"var(--grey)\"/></svg>"
  }

  // MARK: Text

  private func fixed(_ value: Double, _ digits: Int) -> String { value.fixed(digits) }
}

/// Text as it may stand in a page.
func escaped(_ text: String) -> String {
  var result = ""
  for character in text.unicodeScalars {
    switch character {
    case "&": result += "&amp;"
    case "<": result += "&lt;"
    case ">": result += "&gt;"
    case "\"": result += "&quot;"
    case _ where character.value < 0x20: result += " "
    default: result.unicodeScalars.append(character)
    }
  }
  return result
}
