import Bytes
import Fidelity

extension FidelityReport {
  /// The report for a terminal.
  var text: String {
    var lines = [
      "\(verdict.rawValue.uppercased())  \(candidate.name) against \(reference.name)",
      "      \(own.rank.count) queries, \(documents) documents of \(data)",
      "",
    ]
    for check in checks {
      let bound = check.isLowerBound ? "≥" : "≤"
      let range = "[\(check.estimate.low.fixed(4)), \(check.estimate.high.fixed(4))]"
      let mark = [.pass: "ok  ", .fail: "FAIL", .inconclusive: "?   "][check.outcome] ?? ""
      lines.append(
        "  \(mark) \(check.name.padded(36)) \(check.value.fixed(4).padded(7)) \(range.padded(18)) \(bound) "
          + check.threshold.fixed(4))
      if let factor = check.neededFactor {
        lines.append("       \(own.rank.count) queries do not decide this; about \(needed(factor)) would")
      }
    }
    for remark in remarks {
      let text = remark.text.wrapped(Command.columns, indent: "       ").dropFirst(7)
      lines.append("  \(remark.isAllowed ? "note" : "?   ") \(text)")
    }
    for text in notMeasured { lines.append("  not measured: \(text)".wrapped(Command.columns, indent: "  ")) }
    lines.append("")
    let cosine = closeness.cosine
    lines.append(
      "  cosine            mean \(cosine.mean.fixed(5))  worst 1 % \(cosine.lowest1.fixed(5))  worst \(cosine.least.fixed(5))"
    )
    for kind in kinds {
      lines.append("    \(kind.name.padded(15)) mean \(kind.cosine.mean.fixed(5))  worst \(kind.cosine.least.fixed(5))")
    }
    lines.append("  angle             mean \(closeness.angle.mean.fixed(2))°  worst \(closeness.angle.most.fixed(2))°")
    lines.append(
      "  relative error    mean \(closeness.relativeError.mean.fixed(4))  worst \(closeness.relativeError.most.fixed(4))"
    )
    lines.append("  rank correlation  \(rankCorrelation.fixed(4))")
    lines += speedLines
    for row in orderingRows {
      lines.append("  \(row.name.padded(38))  \(row.own.text)  mixed index \(row.mixed.text)")
    }
    lines.append(
      "  effective dimensions \(spread.candidate.dimensions.fixed(1)) (reference \(spread.reference.dimensions.fixed(1)))"
    )
    if let clusters {
      lines.append(
        "  \(clusters.count) clusters agree by \(clusters.agreement.fixed(3)) (adjusted Rand; the reference with itself \(clusters.stability.fixed(3)))"
      )
    }
    lines.append("")
    lines.append("  retrieval             P@1     recall@5  recall@10  overlap@10")
    for (name, run) in runs {
      let cells = [run.recall(at: 1), run.recall(at: 5), run.recall(at: 10)].map { $0.fixed(4) }
      let overlap = Estimate(mean: run.overlaps(with: baseline, at: 10)).value.fixed(4)
      let negatives = run.negativesBeaten.map { "  beats own negatives \($0.fixed(4))" } ?? ""
      lines.append("  \(name.padded(20))  \(cells[0])  \(cells[1])    \(cells[2])     \(overlap)\(negatives)")
    }
    if let findings = divergence?.findings, !findings.isEmpty {
      lines.append("")
      lines.append("  look at:")
      lines += findings.prefix(8).map { "  - \($0)" }
    }
    lines.append("")
    lines.append("  moved furthest:")
    for item in worst.prefix(5) {
      lines.append("  \(item.cosine.fixed(4))  \(Failure.quoted(item.id))  \(Failure.quoted(item.text))")
    }
    return lines.joined(separator: "\n")
  }

  /// Queries, rounded up to two digits.
  private func needed(_ factor: Double) -> Int {
    let count = Int((Double(own.rank.count) * factor).rounded(.up))
    var unit = 1
    while count / unit >= 100 { unit *= 10 }
    return (count + unit - 1) / unit * unit
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

  /// What the owner of a candidate does now.
  func nextStep(_ path: String, _ reference: String) -> String {
    switch verdict {
    case .pass: "llvconv embed \(path), or llvconv export \(path) --to gguf -o NAME"
    case .inconclusive: "verify again on more or other pairs; llvconv help verify has --allow"
    case .fail:
      "look at the lines marked FAIL; llvconv measure \(reference) --data YOURS.jsonl -o C.llv, then quantize "
        + "--calibration C.llv, loses less"
    }
  }
}
