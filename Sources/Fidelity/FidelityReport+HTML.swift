/// A page that stands alone: no scripts, no fonts, no other files. Plots are inline SVG.
extension FidelityReport {
  /// - Parameter pictures: those of an item, by its place among all items.
  public func html(pictures: (Int) -> [Picture] = { _ in [] }) -> String {
    let color = passes ? "#1a7f37" : "#cf222e"
    return """
      <!DOCTYPE html>
      <html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
      <title>\(passes ? "PASS" : "FAIL"): \(escaped(candidate))</title>
      <style>
      body { font: 16px/1.5 system-ui, sans-serif; color: #1f2328; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
      h1 { background: \(color); color: white; padding: .6rem 1rem; border-radius: .4rem; font-size: 1.5rem; }
      h2 { margin-top: 2.2rem; font-size: 1.15rem; border-bottom: 1px solid #d1d9e0; }
      table { border-collapse: collapse; width: 100%; margin-bottom: 1rem; } td, th { padding: .3rem .6rem; text-align: left; border-bottom: 1px solid #eaeef2; }
      td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
      .ok { color: #1a7f37; font-weight: 600; } .bad { color: #cf222e; font-weight: 600; }
      .plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: 1rem; } figure { margin: 0; }
      figcaption { color: #59636e; font-size: .9rem; } svg text { font: 12px system-ui, sans-serif; fill: #59636e; }
      .text { color: #59636e; overflow-wrap: anywhere; }
      .text img, .text video { height: 6rem; max-width: 16rem; object-fit: contain; image-rendering: pixelated; background: #eaeef2; display: block; margin: .3rem 0; }
      </style></head><body>
      <h1>\(passes ? "PASS" : "FAIL") · \(escaped(candidate))</h1>
      <p>Compared with <b>\(escaped(reference))</b> on \(own.rank.count) queries and \(documents) documents of
      <b>\(escaped(data))</b>. \(escaped(sentence))</p>
      <h2>Verdict</h2>
      <table><tr><th>check</th><th class="n">value</th><th class="n">asked for</th><th></th></tr>
      \(checks.map(row).joined(separator: "\n"))
      </table>
      <h2>Pictures</h2>
      <div class="plots">
      <figure>\(histogram)<figcaption>Cosine between each item's two vectors: the further right, the closer.</figcaption></figure>
      <figure>\(bars)<figcaption>Share of queries whose positive is found. Mixed: the candidate's queries in the index that the
      reference built.</figcaption></figure>
      </div>
      <h2>Numbers</h2>
      <table><tr><th></th><th class="n">mean</th><th class="n">worst 1 %</th><th class="n">worst</th></tr>
      \(summaryRow("cosine", closeness.cosine, 5))
      \(summaryRow("angle, degrees", closeness.angle, 2, isHighWorst: true))
      \(summaryRow("relative error", closeness.relativeError, 4, isHighWorst: true))
      </table>
      <table><tr><th>retrieval</th><th class="n">P@1</th><th class="n">recall@5</th><th class="n">recall@10</th>
      <th class="n">overlap@10</th>\(own.negativesBeaten == nil ? "" : "<th class=\"n\">beats own negatives</th>")</tr>
      \(runRow("reference", baseline))\(runRow("candidate", own))\(runRow("mixed index", mixed))
      </table>
      <p>Rank correlation of whole similarity lists (Spearman, mean over queries): <b>\(fixed(rankCorrelation, 4))</b></p>
      <h2>Items that moved furthest</h2>
      <table><tr><th class="n">cosine</th><th>id</th><th>text</th></tr>
      \(worst.map { "<tr><td class=\"n\">\(fixed($0.cosine, 4))</td><td>\(escaped($0.id))</td><td class=\"text\">\(pictures($0.item).map(\.html).joined())\(escaped(String($0.text.prefix(200))))</td></tr>" }.joined(separator: "\n"))
      </table>
      </body></html>

      """
  }

  /// The result in words.
  private var sentence: String {
    let failed = checks.filter { !$0.passes }.map(\.name)
    return failed.isEmpty ? "Every check passes." : "Not good enough: \(failed.joined(separator: "; "))."
  }

  private func row(_ check: Check) -> String {
    let bound = check.isLowerBound ? "≥" : "≤"
    return
      "<tr><td>\(check.name)</td><td class=\"n\">\(fixed(check.value, 4))</td><td class=\"n\">\(bound) \(fixed(check.threshold, 4))</td>"
      + "<td class=\"\(check.passes ? "ok\">✓ passes" : "bad\">✗ fails")</td></tr>"
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
    let cells = [run.recall(at: 1), run.recall(at: 5), run.recall(at: 10), run.overlap(with: baseline)]
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
        "<rect x=\"\(fixed(30 + Double(index) * step, 1))\" y=\"\(fixed(10 + height - bar, 1))\" width=\"\(fixed(step - 1, 1))\" height=\"\(fixed(bar, 1))\" fill=\"#0969da\"/>"
    }
    let digits = 1 - low < 0.01 ? 5 : 3
    return """
      <svg viewBox="0 0 450 200" role="img">\(bars.joined())
      <line x1="30" y1="170" x2="430" y2="170" stroke="#818b98"/>
      <text x="30" y="188">\(fixed(low, digits))</text><text x="430" y="188" text-anchor="end">1</text>
      <text x="230" y="188" text-anchor="middle">cosine, \(values.count) items</text></svg>
      """
  }

  private var bars: String {
    let colors = ["#818b98", "#0969da", "#8250df"]
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
      "<svg viewBox=\"0 0 450 200\" role=\"img\">\(parts.joined())<line x1=\"30\" y1=\"150\" x2=\"430\" y2=\"150\" stroke=\"#818b98\"/></svg>"
  }

  // MARK: Text

  private func fixed(_ value: Double, _ digits: Int) -> String { value.fixed(digits) }

  private func escaped(_ text: String) -> String {
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
}
