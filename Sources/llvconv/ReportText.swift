import Bytes
import Fidelity

extension Comparison {
  /// All candidates, within 80 columns: what to do, then a row for each.
  var text: String {
    let headline = headline
    let widths = [0, 9, 7, 8, 9, 11]
    func line(_ cells: [String]) -> String {
      let name = cells[0].count > 22 ? cells[0].prefix(12) + "…" + cells[0].suffix(9) : cells[0]
      let numbers = zip(cells, widths).dropFirst().map { text, width in
        String(repeating: " ", count: max(0, width - text.count)) + text
      }
      return name.padded(22) + numbers.joined() + "  " + (cells.last ?? "")
    }
    return
      (wrapped(headline.sentence) + wrapped("Next: " + headline.next) + ["", line(Comparison.head)]
      + rows.map(line) + [""] + wrapped(Comparison.legend)).joined(separator: "\n")
  }
}

extension FidelityReport {
  /// The report for a terminal: what to do, then the numbers, in the order of the page.
  var text: String {
    let title =
      "\(verdict.rawValue.uppercased())  \(candidate.name) against \(reference.name) on \(own.rank.count) queries, "
      + "\(documents) documents"
    let headline = headline
    var lines = [title] + wrapped(headline.sentence) + wrapped("Next: " + headline.next)
    lines += headline.kinds.map { wrapped($0) } ?? []
    lines += causes.flatMap { wrapped("\(causeWord): \($0.text).") }
    let others = remarks.filter { !headline.sentence.contains($0.text) }
    lines += others.flatMap { wrapped(($0.isAllowed ? "Note: " : "But: ") + $0.text) }
    lines += notMeasured.flatMap { wrapped("Not measured: " + $0) }
    for (name, area) in [
      ("your index (mixed: old documents, new queries)", Check.Area.index),
      ("your ranking (documents embedded anew)", .ranking), ("the model", .model),
    ] {
      let own = checkLines(area)
      if !own.isEmpty { lines += ["", name + ":"] + own }
    }
    lines += [""] + retrievalLines + outputLines + [""] + modelLines
    if let findings = divergence?.findings, !findings.isEmpty {
      lines += ["", "  look at:"]
      lines += findings.prefix(8).map { "  - " + $0.wrapped(Command.columns, indent: "    ").dropFirst(4) }
    }
    lines += ["", "  moved furthest:"]
    lines += worst.prefix(5).map { item in
      let start = "  \(item.cosine.fixed(4))  \(Failure.quoted(item.id))  "
      let text = Failure.quoted(item.text)
      let room = max(20, Command.columns - start.count)
      return start + (text.count > room ? text.prefix(room - 2) + "…\"" : text)
    }
    return lines.joined(separator: "\n")
  }

  /// The checks of an area.
  func checkLines(_ area: Check.Area) -> [String] { checks.filter { $0.area == area }.flatMap(line) }

  private func line(_ check: Check) -> [String] {
    let mark = ["pass": "ok  ", "fail": "FAIL"][check.outcome.rawValue] ?? "?   "
    let range =
      check.estimate.count > 1
      ? "[\(check.estimate.low.fixed(4)), \(check.estimate.high.fixed(4))]" : ""
    let bound = "\(check.isLowerBound ? "at least" : "at most") \(check.threshold.fixed(4))"
    let more = check.neededFactor.map { factor in
      ["        \(own.rank.count) queries do not decide this; about \(needed(factor)) would"]
    }
    return [
      "  \(mark)  \(check.shortName.padded(28)) \(check.value.fixed(4).padded(7)) \(range.padded(18)) \(bound)"
    ] + (more ?? [])
  }

  /// Queries, rounded up to two digits.
  private func needed(_ factor: Double) -> Int {
    let count = Int((Double(own.rank.count) * factor).rounded(.up))
    var unit = 1
    while count / unit >= 100 { unit *= 10 }
    return (count + unit - 1) / unit * unit
  }

  private var retrievalLines: [String] {
    var lines = ["  retrieval         P@1     recall@5  recall@10  overlap@10  beats own negatives"]
    for (name, run) in runs {
      let cells = [run.recall(at: 1), run.recall(at: 5), run.recall(at: 10)].map { $0.fixed(4) }
      let overlap = Estimate(mean: run.overlaps(with: baseline, at: 10)).value.fixed(4)
      let negatives = run.negativesBeaten.map { $0.fixed(4) } ?? "-"
      lines.append("  \(name.padded(16))  \(cells[0])  \(cells[1])    \(cells[2])     \(overlap)      \(negatives)")
    }
    return lines + sliceLines
  }

  /// Slices of the data, the worst ones.
  private var sliceLines: [String] {
    guard !slices.isEmpty else { return [] }
    var lines = ["", "  slices, worst first       queries  cosine   P@1 old, mixed  lost"]
    for slice in slices.prefix(FidelityReport.shownSlices) {
      let name = Failure.escaped(Array(slice.name.utf8), limit: 26)
      let lost =
        slice.queries > 0
        ? "\(slice.reference.fixed(4))  \(slice.mixed.fixed(4))  \(slice.drop.value.fixed(3)) "
          + "[\(slice.drop.low.fixed(3)), \(slice.drop.high.fixed(3))]" : "     -       -"
      let isOpen = slice.isOpen(sliceDrop)
      lines.append(
        "\(isOpen ? "? " : "  ")\(name.padded(26)) \(String(slice.queries).padded(6)) \(slice.cosine.mean.fixed(5))  "
          + "\(lost)"
      )
    }
    return lines + (sliceNote.isEmpty ? [] : wrapped("  " + sliceNote))
      + checkLines(.slice)
  }

  /// Forms of the index: what is found in each, with intervals, and the check of each.
  private var outputLines: [String] {
    guard !outputs.isEmpty else { return [] }
    func cell(_ estimate: Estimate) -> String {
      "\(estimate.value.fixed(4)) [\(estimate.low.fixed(4)), \(estimate.high.fixed(4))] "
    }
    let head = scope.isLabelled ? "recall@1                recall@10               overlap" : "overlap"
    var lines = ["", "  " + "forms of the index".padded(21) + head]
    for output in outputs {
      lines.append("  \(output.form), \(output.bytes) bytes\(isOnFront(output) ? " *" : "")")
      for found in output.searches {
        let cells =
          scope.isLabelled
          ? [cell(found.recall1), cell(found.recall10), found.overlap10.value.fixed(4)] : [cell(found.overlap10)]
        lines.append("    \(found.name.padded(19))" + cells.joined())
      }
    }
    lines += [
      "    *: no form finds more with fewer bytes; overlap: of the float32 first 10", "",
      "lost from the first 10 by the switch, in each form:",
    ]
    return lines + checkLines(.output)
  }

  private var modelLines: [String] {
    let cosine = closeness.cosine
    var lines = [
      "  cosine            mean \(cosine.mean.fixed(5))  worst 1 % \(cosine.lowest1.fixed(5))  worst "
        + cosine.least.fixed(5),
      "  angle             mean \(closeness.angle.mean.fixed(2))°  worst \(closeness.angle.most.fixed(2))°",
      "  relative error    mean \(closeness.relativeError.mean.fixed(4))  worst "
        + closeness.relativeError.most.fixed(4),
      "  rank correlation  \(rankCorrelation.fixed(4))",
    ]
    lines += speedLines
    for row in orderingRows {
      lines.append("  \(row.name.padded(36))  \(row.own.text)")
      lines.append("    \("in the mixed index".padded(34))  \(row.mixed.text)")
    }
    lines.append(
      "  effective dimensions  \(spread.candidate.dimensions.fixed(1)) (reference "
        + "\(spread.reference.dimensions.fixed(1)))"
    )
    if let clusters {
      lines.append(
        "  \(clusters.count) clusters agree by \(clusters.agreement.fixed(3)) (adjusted Rand; the reference "
          + "with itself \(clusters.stability.fixed(3)))")
    }
    return lines
  }

  /// What a picture comes to, and how fast items were embedded, as far as was seen.
  private var speedLines: [String] {
    func line(_ name: String, _ text: (Subject) -> String?) -> String? {
      text(candidate).map { "  \(name.padded(16))  \($0)\(text(reference).map { " (reference \($0))" } ?? "")" }
    }
    let pictures = line("a picture") { subject in
      subject.pictures.map { "\($0.views.fixed(2)) views, \($0.tokens.fixed(1)) tokens" }
    }
    let speed = line("speed") { subject in subject.itemsPerSecond.map { "\($0.fixed(1)) items/s" } }
    return [pictures, speed].compactMap { $0 }
  }
}

/// Lines of at most 80 columns, broken between words. A number keeps its percent sign.
private func wrapped(_ text: String) -> [String] {
  var lines: [String] = []
  for word in text.replacing(" %", with: "\u{A0}%").split(separator: " ") {
    if let last = lines.last, last.count + word.count < 80 {
      lines[lines.count - 1] += " " + word
    } else {
      lines.append(String(word))
    }
  }
  return lines.map { $0.replacing("\u{A0}%", with: " %") }
}
