import Bytes

/// One page for one or several candidates of one reference.
extension FidelityReport {
  /// - Parameters:
  ///   - facts: what the page should say of the run: the command line, versions.
  ///   - pictures: those of an item, by its place among all items.
  public static func page(
    _ reports: [FidelityReport], facts: [(name: String, value: String)] = [],
    pictures: @escaping (Int) -> [Picture] = { _ in [] }
  ) -> String {
    let names = reports.map { "\($0.verdict.rawValue.uppercased()) \($0.candidate.name)" }
    var gallery = Gallery(pictures)
    let level = reports.count > 1 ? 2 : 1
    let sections = reports.enumerated().map { place, report in
      "<article id=\"candidate-\(place + 1)\">\(report.article(level, &gallery))</article>"
    }
    return Page.document(
      title: names.joined(separator: ", "),
      body: """
        \(reports.count > 1 ? Comparison(reports).html : "")
        \(sections.joined(separator: "\n"))
        \(provenance(reports, facts))
        """)
  }

  /// - Parameter level: of the headline's heading; those of sections are one and two deeper.
  private func article(_ level: Int, _ gallery: inout Gallery) -> String {
    let inner = level + 1
    return """
      \(header(level))
      \(cards)
      \(indexSection(inner, &gallery))
      \(scope.hasOwnIndex ? rankingSection(inner, &gallery) : "")
      \(outputs.isEmpty ? "" : outputSection(inner))
      \(slices.isEmpty ? "" : sliceSection(inner))
      \(modelSection(inner, &gallery))
      \(more)
      """
  }

  private func header(_ level: Int) -> String {
    let headline = headline
    let kinds = headline.kinds.map { "<p>\(Page.escaped($0))</p>" } ?? ""
    let missing = notMeasured.map { " Not measured: \(Page.escaped($0))." }.joined()
    let found = causes.map { "<li>\(causeWord): \(Page.code($0.text)).</li>" }.joined()
    let remarks =
      found
      + remarks.filter { !headline.sentence.contains($0.text) }.map {
        "<li>\($0.isAllowed ? "Allowed: " : "")\(Page.escaped($0.text))</li>"
      }.joined()
    return """
      <header class="verdict \(verdict.rawValue)"><span class="mark">\(verdict.rawValue.uppercased())</span>
      <h\(level)>\(Page.escaped(headline.sentence))</h\(level)>
      <p>\(Page.code(headline.next))</p>\(kinds)\(remarks.isEmpty ? "" : "<ul>\(remarks)</ul>")
      <p class="soft"><b>\(Page.escaped(candidate.name))</b> held to <b>\(Page.escaped(reference.name))</b>:
      \(own.rank.count) queries and \(documents) documents of \(Page.escaped(data)).\(missing)</p></header>
      """
  }

  // MARK: Sections

  private func indexSection(_ level: Int, _ gallery: inout Gallery) -> String {
    """
    <section><h\(level)>Your index</h\(level)>
    <p>The day you switch: documents stay as the reference embedded them, new queries come from the candidate (the mixed
    index). What new queries find is held to what the old ones found.</p>
    \(IntervalBar.list(checks.filter { $0.area == .index }))
    \(IntervalBar.legend)
    \(changeList(mixed, "in the old index", level + 1, &gallery))</section>
    """
  }

  private func rankingSection(_ level: Int, _ gallery: inout Gallery) -> String {
    let columns = [("reference", baseline), ("candidate", own), ("mixed index", mixed), ("old queries", reversed)]
    func row(_ name: String, _ value: (Retrieval.Run) -> Double?) -> [String] {
      [name] + columns.map { column in value(column.1).map { Page.escaped(Headline.percent($0)) } ?? "-" }
    }
    var rows = [1, 5, 10].map { k in row(k == 1 ? "P@1" : "recall@\(k)") { $0.recall(at: k) } }
    rows += [1, 10].map { k in row("overlap@\(k)") { overlap($0, k) } }
    if own.negativesBeaten != nil { rows.append(row("beats negatives") { $0.negativesBeaten }) }
    return """
      <section><h\(level)>Your ranking</h\(level)>
      <p>An index built anew: the candidate embeds queries and documents.</p>
      \(IntervalBar.list(checks.filter { $0.area == .ranking }))
      <div class="plots">\(recallBars)
      <div>\(Page.table("Retrieval", ["share of queries"] + columns.map(\.0), rows))
      <p class="soft">Old queries: those of the reference, in documents of the candidate.</p></div></div>
      \(changeList(own, "in a new index", level + 1, &gallery))</section>
      """
  }

  private func modelSection(_ level: Int, _ gallery: inout Gallery) -> String {
    let findings = divergence?.findings ?? []
    let found = findings.prefix(12).map { "<li>\(Page.escaped($0))</li>" }.joined()
    return """
      <section><h\(level)>The model</h\(level)>
      <p>How far vectors moved, and where inside the model.</p>
      \(IntervalBar.list(checks.filter { $0.area == .model }))
      \(findings.isEmpty ? "" : "<h\(level + 1)>Look at</h\(level + 1)><ul>\(found)</ul>")
      <div class="plots">\(histogram)\(divergence.map { layerCurve($0) + bitMap($0) } ?? "")</div>
      \(closenessTable)
      \(worstList(level + 1, &gallery))</section>
      """
  }

  private var cards: String {
    var cells = [
      (Headline.percent(overlap(mixed, 10)), "of the old index's first 10 found again"),
      (Headline.percent(own.recall(at: 1)), "P@1, reference \(Headline.percent(baseline.recall(at: 1)))"),
      (closeness.cosine.mean.fixed(4), "mean cosine"),
    ]
    if let own = candidate.bytes, let other = reference.bytes, own > 0 {
      let times = (Double(other) / Double(own)).fixed(1)
      cells.append((Comparison.size(own), "\(times) times smaller than \(Comparison.size(other))"))
    }
    if let speed = candidate.itemsPerSecond {
      let other = reference.itemsPerSecond.map { ", reference \($0.fixed(1))" } ?? ""
      cells.append((speed.fixed(1), "items a second here\(other)"))
    }
    if let own = candidate.pictures, let other = reference.pictures, own.tokens > 0 {
      cells.append(
        (
          own.tokens.fixed(1),
          "tokens a picture, reference \(other.tokens.fixed(1)); "
            + "\(own.views.fixed(2)) and \(other.views.fixed(2)) views"
        ))
    }
    let cards = cells.map { "<div><b>\(Page.escaped($0.0))</b><span>\(Page.escaped($0.1))</span></div>" }
    return "<div class=\"cards\">\(cards.joined())</div>"
  }

  private var closenessTable: String {
    func row(_ name: String, _ summary: Closeness.Summary, _ digits: Int, isHighWorst: Bool = false) -> [String] {
      [
        name, summary.mean.fixed(digits), isHighWorst ? "-" : summary.lowest1.fixed(digits),
        (isHighWorst ? summary.most : summary.least).fixed(digits),
      ]
    }
    let rows = [
      row("cosine", closeness.cosine, 5), row("angle, degrees", closeness.angle, 2, isHighWorst: true),
      row("relative error", closeness.relativeError, 4, isHighWorst: true),
    ]
    return Page.table("How far vectors moved", ["vectors", "mean", "worst 1 %", "worst"], rows)
  }

  // MARK: Items

  /// Queries whose first result changed, with both results.
  private func changeList(_ run: Retrieval.Run, _ place: String, _ level: Int, _ gallery: inout Gallery) -> String {
    let shown = 5
    let changes = changes(run)
    let count = own.rank.count
    guard !changes.isEmpty else { return "<p>No query of \(count) has another first result \(place).</p>" }
    var rows: [String] = []
    for change in changes.prefix(shown) {
      let cells = [("query", change.query), ("first before", change.before), ("first now", change.after)].map {
        "<div><p class=\"soft\">\($0.0)</p>\(shownItem($0.1, &gallery))</div>"
      }
      rows.append(
        "<div class=\"changes \(change.effect)\"><span class=\"mark\">\(change.effect.rawValue)</span>"
          + "\(cells.joined())</div>"
      )
    }
    let (lost, gained) = (changes.count { $0.effect == .lost }, changes.count { $0.effect == .gained })
    return """
      <h\(level)>Queries whose first result changed \(place): \(changes.count) of \(count)</h\(level)>
      <p>\(lost) had the right one first and lost it, \(gained) gained it,
      \(changes.count - lost - gained) had and have another.
      \(changes.count > shown ? "The first \(shown):" : "")</p>
      \(rows.joined(separator: "\n"))
      """
  }

  private func worstList(_ level: Int, _ gallery: inout Gallery) -> String {
    var rows: [[String]] = []
    for item in worst { rows.append([Page.escaped(item.id), shownItem(item.item, &gallery), item.cosine.fixed(4)]) }
    return "<details><summary>Items that moved furthest</summary>"
      + Page.table(
        "Items that moved furthest", ["item", "what it is", "cosine"], rows, words: [0, 1], isStacked: true)
      + "</details>"
  }

  /// An item with its pictures.
  private func shownItem(_ place: Int, _ gallery: inout Gallery) -> String {
    guard !items.isEmpty else {
      let queries = baseline.rank.count
      return "<p>\(place < queries ? "query \(place)" : "document \(place - queries)")</p>"
    }
    let (text, most) = (items[place].text, 160)
    return gallery.html(place, name: items[place].id)
      + "<p>\(Page.escaped(text.count > most ? text.prefix(most) + "…" : text))</p>"
  }
}
