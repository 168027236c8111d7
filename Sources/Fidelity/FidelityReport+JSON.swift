import Bytes

extension FidelityReport {
  public var json: JSONText {
    var members: [(String, JSONText)] = [
      ("verdict", .string(verdict.rawValue)), ("candidate", .string(candidate.name)),
      ("reference", .string(reference.name)), ("data", .string(data)), ("queries", .int(own.rank.count)),
      ("documents", .int(documents)),
      (
        "checks",
        .array(
          checks.map {
            [
              "name": .string($0.name), "value": .number($0.value), "low": .number($0.estimate.low),
              "high": .number($0.estimate.high), "threshold": .number($0.threshold),
              "bound": .string($0.isLowerBound ? "at least" : "at most"), "outcome": .string($0.outcome.rawValue),
              "passes": .bool($0.passes),
            ]
          })
      ),
      (
        "remarks",
        .array(
          remarks.map {
            ["kind": .string($0.kind.rawValue), "text": .string($0.text), "allowed": .bool($0.isAllowed)]
          })
      ),
      ("causes", .array(causes.map { ["name": .string($0.name), "text": .string($0.text)] })),
      ("speed", ["candidate": candidate.speed, "reference": reference.speed]),
      ("cosine", FidelityReport.json(closeness.cosine)), ("angle_degrees", FidelityReport.json(closeness.angle)),
      ("relative_error", FidelityReport.json(closeness.relativeError)),
      ("length", FidelityReport.json(closeness.length)),
      ("slices", .array(slices.map { $0.json(sliceDrop) })),
      ("rank_correlation", .number(rankCorrelation)),
      ("ordering", .object(orderingRows.map { ($0.key, ["own": $0.own.json, "mixed_index": $0.mixed.json]) })),
      (
        "spread",
        .object(
          [("reference", spread.reference), ("candidate", spread.candidate)].map {
            ($0.0, ["mean_cosine": .number($0.1.meanCosine), "effective_dimensions": .number($0.1.dimensions)])
          })
      ),
    ]
    if let clusters {
      var cells: [(String, JSONText)] = [
        ("count", .int(clusters.count)), ("adjusted_rand", .number(clusters.agreement)),
        ("adjusted_rand_of_reference_alone", .number(clusters.stability)),
      ]
      if let v = clusters.vMeasure {
        cells += [("v_measure_reference", .number(v.reference)), ("v_measure_candidate", .number(v.candidate))]
      }
      members.append(("clusters", .object(cells)))
    }
    let keys =
      scope.hasOwnIndex ? ["reference", "candidate", "mixed_index", "reversed_index"] : ["reference", "mixed_index"]
    members += zip(keys, runs).map { ($0 + "_retrieval", json($1.run)) }
    if !outputs.isEmpty { members.append(("outputs", .array(outputs.map(\.json)))) }
    members.append(("not_measured", .array(notMeasured.map(JSONText.string))))
    if let divergence { members.append(("divergence", divergence.json)) }
    members.append(
      (
        "worst",
        .array(worst.map { ["id": .string($0.id), "cosine": .number($0.cosine), "text": .string($0.text)] })
      ))
    return .object(members)
  }

  static func json(_ summary: Closeness.Summary) -> JSONText {
    [
      "mean": .number(summary.mean), "p1": .number(summary.lowest1), "min": .number(summary.least),
      "max": .number(summary.most), "count": .int(summary.count),
    ]
  }

  private func json(_ run: Retrieval.Run) -> JSONText {
    [
      "p_at_1": .number(run.recall(at: 1)), "recall_at_5": .number(run.recall(at: 5)),
      "recall_at_10": .number(run.recall(at: 10)),
      "overlap_at_1": .number(overlap(run, 1)), "overlap_at_5": .number(overlap(run, 5)),
      "overlap_at_10": .number(overlap(run, 10)),
      "negatives_beaten": run.negativesBeaten.map(JSONText.number) ?? .null,
    ]
  }

  func overlap(_ run: Retrieval.Run, _ k: Int) -> Double { Estimate(mean: run.overlaps(with: baseline, at: k)).value }

  /// The searches with their names.
  public var runs: [(name: String, run: Retrieval.Run)] {
    scope.hasOwnIndex
      ? [("reference", baseline), ("candidate", own), ("mixed index", mixed), ("mixed, other way", reversed)]
      : [("reference", baseline), ("mixed index", mixed)]
  }

  /// What becomes of the order at the head, for the candidate's own index and for the mixed one.
  public var orderingRows: [(name: String, key: String, own: Estimate, mixed: Estimate)] {
    func row(_ name: String, _ key: String, _ values: (Ordering) -> [Double]) -> (String, String, Estimate, Estimate) {
      (name, key, Estimate(mean: values(ordering)), Estimate(mean: values(mixedOrdering)))
    }
    return [
      row("Kendall's tau of the first 20", "kendall_tau_20") { $0.kendall.compactMap { $0 } },
      row("order reversed, by hardness", "rank_flips") { $0.flips },
      row("mean square of margins' change", "margin_distortion") { $0.distortion },
      row("wrong answers now above the right one", "overtaken") { $0.overtaken },
    ]
  }
}

extension FidelityReport.Subject {
  fileprivate var speed: JSONText {
    [
      "items_per_second": itemsPerSecond.map(JSONText.number) ?? .null,
      "views_per_picture": pictures.map { .number($0.views) } ?? .null,
      "tokens_per_picture": pictures.map { .number($0.tokens) } ?? .null,
    ]
  }
}

extension Estimate {
  public var json: JSONText { ["value": .number(value), "low": .number(low), "high": .number(high)] }

  /// Value and interval for people.
  public var text: String {
    let digits = abs(value) < 0.01 && value != 0 ? 6 : 4
    return "\(value.fixed(digits)) [\(low.fixed(digits)), \(high.fixed(digits))]"
  }
}

extension Divergence {
  var json: JSONText {
    [
      "findings": .array(findings.map(JSONText.string)),
      "settings": .array(
        settings.map {
          [
            "name": .string($0.name), "reference": .string($0.reference), "candidate": .string($0.candidate),
            "explanation": $0.explanation.map(JSONText.string) ?? .null,
          ]
        }),
      "layers": .array(
        layers.map {
          [
            "part": .string($0.part), "name": .string($0.name), "relative_error": .number($0.relativeError),
            "cosine": .number($0.cosine),
          ]
        }),
      "weights": .array(
        weights.map {
          [
            "name": .string($0.name), "encoding": .string($0.encoding), "bits": .number($0.bits),
            "relative_error": .number($0.relativeError), "explained_error": .number($0.explained),
            "cosine": .number($0.cosine),
            "rows": .array(
              $0.rows.prefix(20).map { ["row": .int($0.row), "relative_error": .number($0.relativeError)] }),
          ]
        }),
    ]
  }
}
