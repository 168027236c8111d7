extension FidelityReport {
  /// Items of one kind: `text`, `image`, `text and image`, `video`.
  public struct Kind: Sendable {
    public let name: String
    public let items, queries: Int
    public let cosine: Closeness.Summary
    /// P@1 of the queries of this kind, NaN where there are none: the reference's, the candidate's, in the mixed index.
    public let reference, own, mixed: Double
  }

  /// The kinds, worst first; empty when all items are of one.
  public var kindRows: [Kind] {
    let names = Set(items.map(\.kind)).sorted()
    guard names.count > 1 else { return [] }
    let rows = names.map { name in
      let queries = baseline.rank.indices.filter { items[$0].kind == name }
      func first(_ run: Retrieval.Run) -> Double {
        queries.isEmpty ? .nan : Double(queries.count { run.rank[$0] == 1 }) / Double(queries.count)
      }
      let places = items.indices.filter { items[$0].kind == name }
      return Kind(
        name: name, items: places.count, queries: queries.count,
        cosine: Closeness.Summary(places.compactMap { closeness.cosines[$0] }), reference: first(baseline),
        own: first(own), mixed: first(mixed))
    }
    // Without a vector at all is worse than any angle.
    return rows.sorted { (a, b) in
      let (x, y) = (a.cosine.mean.isNaN ? -2 : a.cosine.mean, b.cosine.mean.isNaN ? -2 : b.cosine.mean)
      return (x, a.name) < (y, b.name)
    }
  }

  /// Which kind suffered most, when one clearly did.
  var kindsInWords: String? {
    let rows = kindRows
    guard let worst = rows.first, let best = rows.last else { return nil }
    let lost = worst.reference - worst.own
    let others = rows.dropFirst().map { $0.reference - $0.own }.filter(\.isFinite).max() ?? 0
    let stands = !(1 - worst.cosine.mean <= 2 * (1 - best.cosine.mean)) || lost > others + 0.05
    guard stands else {
      return "All kinds of items suffered alike: mean cosine from \(worst.cosine.mean.fixed(4)) (\(worst.name)) to "
        + "\(best.cosine.mean.fixed(4)) (\(best.name))."
    }
    let places =
      worst.queries > 0
      ? "; P@1 of its queries \(Headline.percent(worst.reference)), now \(Headline.percent(worst.own))" : ""
    return "Items of kind \(worst.name) suffered most: mean cosine \(worst.cosine.mean.fixed(4)), of \(best.name) "
      + "\(best.cosine.mean.fixed(4))\(places)."
  }
}
