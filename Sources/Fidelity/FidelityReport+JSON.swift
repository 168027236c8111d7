import Bytes

extension FidelityReport {
  public var json: JSONText {
    [
      "verdict": .string(passes ? "pass" : "fail"), "candidate": .string(candidate), "reference": .string(reference),
      "data": .string(data), "queries": .int(own.rank.count), "documents": .int(documents),
      "checks": .array(
        checks.map {
          [
            "name": .string($0.name), "value": .number($0.value), "threshold": .number($0.threshold),
            "bound": .string($0.isLowerBound ? "at least" : "at most"), "passes": .bool($0.passes),
          ]
        }),
      "cosine": FidelityReport.json(closeness.cosine), "angle_degrees": FidelityReport.json(closeness.angle),
      "relative_error": FidelityReport.json(closeness.relativeError), "rank_correlation": .number(rankCorrelation),
      "reference_retrieval": json(baseline), "candidate_retrieval": json(own), "mixed_index_retrieval": json(mixed),
      "worst": .array(worst.map { ["id": .string($0.id), "cosine": .number($0.cosine), "text": .string($0.text)] }),
    ]
  }

  private static func json(_ summary: Closeness.Summary) -> JSONText {
    [
      "mean": .number(summary.mean), "p1": .number(summary.lowest1), "min": .number(summary.least),
      "max": .number(summary.most), "count": .int(summary.count),
    ]
  }

  private func json(_ run: Retrieval.Run) -> JSONText {
    [
      "p_at_1": .number(run.recall(at: 1)), "recall_at_5": .number(run.recall(at: 5)),
      "recall_at_10": .number(run.recall(at: 10)), "overlap_at_10": .number(run.overlap(with: baseline)),
      "negatives_beaten": run.negativesBeaten.map(JSONText.number) ?? .null,
    ]
  }
}
