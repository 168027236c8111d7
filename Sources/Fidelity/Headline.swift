/// A report in a sentence that the owner of an index can act on, and what to do next.
public struct Headline: Sendable, Equatable {
  public let sentence, next: String
  /// Which kind of item suffered, where there are several; nil when all is well.
  public var kinds: String?
}

extension FidelityReport {
  public var headline: Headline {
    var result =
      switch verdict {
      case .pass: kept
      case .inconclusive: undecided
      case .fail: broken ?? failed
      }
    if verdict != .pass { result.kinds = kindsInWords }
    return result
  }

  private var kept: Headline {
    Headline(
      sentence: "Keep your index: new queries find \(sameFirstTen(mixed)); \(firstPlaces(mixed)).",
      next: "Deploy \(candidate.name). Documents that are in the index need not be embedded again.")
  }

  private var undecided: Headline {
    let check = checks.first { $0.outcome == .inconclusive }
    // What is wrong with the evidence counts before what it says.
    let remark = remarks.first { !$0.isAllowed }
    let why = remark?.text ?? check.map { "\($0.name) is \($0.inWords)" } ?? "no number says enough"
    return Headline(
      sentence: "The data cannot decide: \(why).",
      next: remark.map { $0.kind == .few } ?? true
        ? "Verify again with more labelled pairs of the kind you serve."
        : "Mend this and verify again, or allow it: --allow \(remark?.kind.rawValue ?? "").")
  }

  /// Vectors without a direction: nothing else counts.
  private var broken: Headline? {
    let lost = closeness.cosines.count { $0 == nil }
    guard lost > 0 else { return nil }
    return Headline(
      sentence:
        "Do not deploy: \(lost) of \(closeness.cosines.count) items have no usable vector (zero, or not finite: "
        + "something overflowed).",
      next: clue ?? "Make \(candidate.name) again from its source.")
  }

  private var failed: Headline {
    let failing = checks.filter { $0.outcome == .fail }
    if failing.contains(where: { $0.area == .ranking }) {
      return Headline(
        sentence:
          "Do not deploy: even in an index of its own the candidate finds \(sameFirstTen(own)); \(firstPlaces(own)).",
        next: clue.map { "\($0) If that is as you want it: \(Headline.lowercased(Headline.moreFaithful))" }
          ?? Headline.moreFaithful)
    }
    // The angle alone does not say that a model is damaged: an index of its own may be as good.
    if let check = failing.first(where: { $0.area == .model && !$0.isCosine }) {
      return Headline(
        sentence: "Do not deploy: rankings hold on these data, but \(check.name) is \(check.inWords).",
        next: clue ?? "Make \(candidate.name) again from its source: quantization does not explain this.")
    }
    if failing.contains(where: { $0.area == .index }) {
      if !causes.isEmpty, let clue {
        return Headline(sentence: "Do not use it with your index: new queries find \(sameFirstTen(mixed)).", next: clue)
      }
      return Headline(
        sentence: "Embed your documents again: in the old index new queries find \(sameFirstTen(mixed)), in a new one "
          + "\(Headline.percent(overlap(own, 10))).",
        next: "Build a new index with \(candidate.name) and switch queries over with it. To keep the old one: "
          + Headline.lowercased(Headline.moreFaithful))
    }
    if let check = failing.first, check.area == .output {
      return Headline(
        sentence: "Do not switch an index of \(check.shortName): there new queries find less than the old ones do; "
          + "recall@10 falls by \(check.inWords).",
        next:
          "Score more documents again (`+rescore8`), keep more columns or more precise codes, or embed the documents "
          + "again. An index of floats holds.")
    }
    if let check = failing.first, check.area == .slice {
      return Headline(
        sentence: "Do not deploy for everyone: rankings hold on average, but P@1 of \(check.shortName) falls by "
          + "\(check.inWords).",
        next: "Calibrate with items of that kind (`llvconv measure`, `llvconv quantize --calibration`), or allow more: "
          + "`--max-slice-drop`.")
    }
    return Headline(
      sentence: "Do not deploy yet: rankings hold, but vectors moved further than you allow: mean cosine is "
        + "\(failing.first?.inWords ?? "too low").",
      next: "If only rankings matter to you, lower --min-cosine. Else: "
        + Headline.lowercased(Headline.moreFaithful))
  }

  /// What was found, in the vectors or inside the model, that may explain a failure.
  private var clue: String? { (causes.first?.text ?? divergence?.causes.first).map { "Look first at this: \($0)." } }

  /// What a cause is called: of a candidate that passes it is only something that was seen.
  public var causeWord: String { verdict == .pass ? "Seen" : "Cause" }

  private func sameFirstTen(_ run: Retrieval.Run) -> String {
    "\(Headline.percent(overlap(run, 10))) of the same first ten"
  }

  private func firstPlaces(_ run: Retrieval.Run) -> String {
    let (before, after) = (baseline.recall(at: 1), run.recall(at: 1))
    guard abs(after - before) >= 0.0005 else { return "P@1 unchanged" }
    return "P@1 \(after > before ? "rises" : "falls") from \(Headline.percent(before)) to \(Headline.percent(after))"
  }
}

extension Headline {
  static let moreFaithful =
    "Try `llvconv measure` on your own data and `llvconv quantize --calibration`, or more bits (`--bits 8`)."

  /// A sentence as it goes on after a colon.
  static func lowercased(_ sentence: String) -> String { sentence.prefix(1).lowercased() + sentence.dropFirst() }

  /// `96.4 %`.
  public static func percent(_ value: Double) -> String {
    value.isFinite ? "\((value * 100).fixed(1)) %" : value.fixed(1)
  }
}

extension FidelityReport.Check {
  /// What a check is about: the index that is there, the candidate's own ranking, the model, a form of the index, or a
  /// slice of the data.
  public enum Area: Sendable { case index, ranking, model, output, slice }

  public var area: Area {
    // What data call a slice may hold any words.
    if name.hasPrefix("drop of P@1" + FidelityReport.Check.sliceMark) { return .slice }
    if name.contains(FidelityReport.Check.outputMark) { return .output }
    if name.hasSuffix(FidelityReport.Check.mixedSuffix) { return .index }
    return ["overlap", "drop", "first found"].contains { name.hasPrefix($0) } ? .ranking : .model
  }

  /// The name within its area.
  public var shortName: String {
    switch area {
    case .index: String(name.dropLast(FidelityReport.Check.mixedSuffix.count))
    case .output: String(name.split(separator: FidelityReport.Check.outputMark).last ?? "")
    case .slice: String(name.dropFirst("drop of P@1".count + FidelityReport.Check.sliceMark.count))
    case .ranking, .model: name
    }
  }

  static let mixedSuffix = ", mixed index"
  static let outputMark = ", output "
  static let sliceMark = ", slice "

  var isCosine: Bool { name.hasPrefix("mean cosine") }

  /// A value of this check for people: shares in percent, counts whole.
  public func shown(_ value: Double) -> String {
    guard area == .model else { return Headline.percent(value) }
    return isCosine || name.hasPrefix("rise") ? value.fixed(4) : value.fixed(0)
  }

  /// The interval, ` (58.0 to 64.1 %)`; empty for a single number.
  var range: String {
    guard estimate.count > 1 else { return "" }
    let low = shown(estimate.low)
    return " (\(low.hasSuffix(" %") ? String(low.dropLast(2)) : low) to \(shown(estimate.high)))"
  }

  /// `61.2 % (58.0 to 64.1 %), where at least 75.0 % is asked for`.
  var inWords: String {
    "\(shown(value))\(range), where \(isLowerBound ? "at least" : "at most") \(shown(threshold)) is asked for"
  }
}
