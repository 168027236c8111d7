import Bytes

/// Averages hide who lost: the same numbers for the items that have something in common.
extension FidelityReport {
  /// What items have in common: an axis (kind, script, length, or a label of the data) and the value on it.
  public struct Trait: Sendable, Hashable {
    public let axis, value: String

    public init(_ axis: String, _ value: String) { (self.axis, self.value) = (axis, value) }

    /// `text`, `image`, `text and image`, `video`.
    public static let kind = "kind"
    /// In the order in which reports name equally bad ones; labels of the data may have none of these names.
    public static let ownAxes = [kind, "script", "length", "label", "task"]
  }

  public struct Slice: Sendable {
    public let trait: Trait
    public let items, queries: Int
    /// Of the items' two vectors.
    public let cosine: Closeness.Summary
    /// P@1 of the queries, NaN where there are none: the reference's, the candidate's, in the mixed index.
    public let reference, own, mixed: Double
    /// How much P@1 falls from the reference to the mixed index.
    public let drop: Estimate

    public var name: String { "\(trait.axis) \(trait.value)" }

    /// Too few queries to tell a drop of `threshold`.
    public func isOpen(_ threshold: Double) -> Bool {
      queries > 0 && drop.low <= threshold && drop.high > threshold
    }

    func isWorse(than threshold: Double) -> Bool { queries > 0 && drop.low > threshold }

    func json(_ threshold: Double) -> JSONText {
      [
        "axis": .string(trait.axis), "name": .string(trait.value), "items": .int(items), "queries": .int(queries),
        "cosine": FidelityReport.json(cosine),
        "p_at_1": ["reference": .number(reference), "candidate": .number(own), "mixed_index": .number(mixed)],
        "drop": drop.json,
        "outcome": .string(
          (isOpen(threshold) ? .inconclusive : isWorse(than: threshold) ? .fail : Verdict.pass).rawValue),
      ]
    }
  }

  /// Items for each value of an axis, on average: one with fewer tells items apart, as ids and dates do.
  private static let leastItems = 4
  private static let mostValues = 1_000
  /// Slices that a text or a page shows; JSON has all.
  public static let shownSlices = 12

  /// The slices of axes that have several, the one that surely lost most first, then the one whose vectors moved most.
  static func slices(
    _ items: [Item], _ closeness: Closeness, baseline: Retrieval.Run, own: Retrieval.Run, mixed: Retrieval.Run
  ) -> [Slice] {
    var places: [String: [String: [Int]]] = [:]
    for (place, item) in items.enumerated() {
      for trait in item.traits { places[trait.axis, default: [:]][trait.value, default: []].append(place) }
    }
    let queries = baseline.rank.count
    let isAxis = { (values: [String: [Int]]) in
      (2...mostValues).contains(values.count) && values.count * leastItems <= values.values.reduce(0) { $0 + $1.count }
    }
    let slices = places.filter { isAxis($1) }.flatMap { axis, values in
      values.map { value, places in
        let asked = places.filter { $0 < queries }
        func first(_ run: Retrieval.Run) -> Double {
          asked.isEmpty ? .nan : Double(asked.count { run.rank[$0] == 1 }) / Double(asked.count)
        }
        return Slice(
          trait: Trait(axis, value), items: places.count, queries: asked.count,
          cosine: Closeness.Summary(
            places.compactMap { $0 < closeness.cosines.count ? closeness.cosines[$0] : nil }),
          reference: first(baseline), own: first(own), mixed: first(mixed),
          drop: Estimate(
            differences: asked.map { (baseline.rank[$0] == 1 ? 1 : 0) - (mixed.rank[$0] == 1 ? 1 : 0) }))
      }
    }
    func order(_ slice: Slice) -> (Double, Double, Int, String) {
      // Without a vector at all is worse than any angle.
      (
        slice.queries > 0 ? -max(0, slice.drop.low) : 0, slice.cosine.mean.isNaN ? -2 : slice.cosine.mean,
        Trait.ownAxes.firstIndex(of: slice.trait.axis) ?? Trait.ownAxes.count, slice.name
      )
    }
    return slices.sorted { order($0) < order($1) }
  }

  /// One for each slice that surely lost more than it may. Others hold no verdict: those that lost less, and those that
  /// are too small to tell.
  static func checks(_ slices: [Slice], _ thresholds: Thresholds) -> [Check] {
    slices.filter { $0.isWorse(than: thresholds.sliceDrop) }.prefix(shownSlices).map { slice in
      Check(
        name: "drop of P@1" + Check.sliceMark + slice.name, estimate: slice.drop, threshold: thresholds.sliceDrop,
        isLowerBound: false)
    }
  }

  /// Which kind suffered most, when one clearly did.
  var kindsInWords: String? {
    // Documents that nobody embedded did not suffer.
    let rows = slices.filter { $0.trait.axis == Trait.kind && (scope.hasOwnIndex || $0.queries > 0) }
    guard rows.count > 1, let worst = rows.first, let best = rows.max(by: { $0.cosine.mean < $1.cosine.mean })
    else { return nil }
    let lost = worst.reference - worst.own
    let others = rows.dropFirst().map { $0.reference - $0.own }.filter(\.isFinite).max() ?? 0
    let stands = !(1 - worst.cosine.mean <= 2 * (1 - best.cosine.mean)) || lost > others + 0.05
    guard stands else {
      return "All kinds of items suffered alike: mean cosine from "
        + "\((rows.map(\.cosine.mean).min() ?? .nan).fixed(4)) to \(best.cosine.mean.fixed(4)) (\(best.trait.value))."
    }
    let places =
      worst.queries > 0
      ? "; P@1 of its queries \(Headline.percent(worst.reference)), now \(Headline.percent(worst.own))" : ""
    return "Items of kind \(worst.trait.value) suffered most: mean cosine \(worst.cosine.mean.fixed(4)), of "
      + "\(best.trait.value) \(best.cosine.mean.fixed(4))\(places)."
  }

  /// What is said below a list of slices.
  public var sliceNote: String {
    let more = slices.count - FidelityReport.shownSlices
    let open = slices.count { $0.isOpen(sliceDrop) }
    return
      (more > 0 ? "The worst \(FidelityReport.shownSlices) of \(slices.count); JSON has all. " : "")
      + (open > 0
        ? "?: \(open) too small to tell a loss of \(Headline.percent(sliceDrop)), which hold no verdict." : "")
  }

  // MARK: Page

  func sliceSection(_ level: Int) -> String {
    let rows = slices.prefix(FidelityReport.shownSlices).map { slice in
      let lost =
        slice.queries > 0
        ? "\(Page.escaped(Headline.percent(slice.drop.value)))<br><span class=\"soft\">"
          + "\((slice.drop.low * 100).fixed(1)) to \((slice.drop.high * 100).fixed(1))"
          + "\(slice.isOpen(sliceDrop) ? " ?" : "")</span>" : "-"
      return [
        "\(Page.escaped(slice.name)) (\(slice.items))", String(slice.queries), slice.cosine.mean.fixed(5),
      ] + [slice.reference, slice.mixed].map { $0.isNaN ? "-" : Page.escaped(Headline.percent($0)) } + [lost]
    }
    let failed = checks.filter { $0.area == .slice }
    let columns = ["slice (items)", "queries", "mean cosine", "P@1 was", "P@1 in your index", "lost"]
    return """
      <section><h\(level)>Who lost</h\(level)>
      <p>Items with something in common, worst first. \(Page.escaped(sliceNote))</p>
      \(failed.isEmpty ? "" : IntervalBar.list(failed))
      \(Page.table("Slices, worst first", columns, Array(rows), isStacked: true))</section>
      """
  }
}
