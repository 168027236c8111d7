import Bytes

extension FidelityReport {
  /// A form that an index may keep vectors in, and what is found in it.
  public struct Output: Sendable {
    public let form: VectorForm
    /// Of a vector in the index.
    public let bytes: Int
    /// The reference alone, the candidate's own index where there is one, and new queries in the old index.
    public let searches: [Found]
    /// Of recall@10, from the reference to the mixed index, both in this form.
    let drop: Estimate

    public var reference: Found { searches[0] }
    public var mixed: Found { searches[searches.count - 1] }

    /// What queries find.
    public struct Found: Sendable {
      public let name: String
      /// Shares of queries, and of the first ten that the reference finds among vectors as they are.
      public let recall1, recall10, overlap10: Estimate
    }

    /// - Parameters:
    ///   - runs: one for each of `searches`.
    ///   - baseline: what the reference finds among vectors as they are.
    init(_ form: VectorForm, bytes: Int, _ runs: [(name: String, run: Retrieval.Run)], baseline: Retrieval.Run) {
      (self.form, self.bytes) = (form, bytes)
      searches = runs.map { name, run in
        Found(
          name: name, recall1: Estimate(mean: run.hits(at: 1)), recall10: Estimate(mean: run.hits(at: 10)),
          overlap10: Estimate(mean: run.overlaps(with: baseline, at: 10)))
      }
      drop = Estimate(differences: zip(runs[0].run.hits(at: 10), runs[runs.count - 1].run.hits(at: 10)).map { $0 - $1 })
    }

    /// What a form is judged by: recall@10 where somebody said what is right, else the first ten that stay.
    public func quality(_ scope: Scope) -> Estimate { scope.isLabelled ? mixed.recall10 : mixed.overlap10 }

    var json: JSONText {
      .object(
        [
          ("form", .string(form.description)), ("bytes", .int(bytes)), ("drop_of_recall_at_10", drop.json),
        ]
          + searches.map { found in
            (
              found.name.replacing(" ", with: "_"),
              [
                "recall_at_1": found.recall1.json, "recall_at_10": found.recall10.json,
                "overlap_at_10": found.overlap10.json,
              ]
            )
          })
    }
  }

  /// Forms in which the mixed index is searched, each crossed with the reference in the same form. Ranges of 8-bit
  /// codes are those of the reference's documents, or given. Forms that differ in rescoring alone are one search.
  static func outputs(
    _ forms: [VectorForm], ranges: ColumnRanges?, reference: Vectors, candidate: Vectors, scope: Scope,
    baseline: Retrieval.Run, labels: [Retrieval.Label], threads: Int
  ) throws(Failure) -> [Output] {
    guard !forms.isEmpty else { return [] }
    // Both find in the same documents, which are read once.
    let both = try Embeddings(joining: [reference.queries, candidate.queries])
    let split = labels.count
    var outputs: [VectorForm: Output] = [:]
    for form in forms where outputs[form] == nil {
      var own: ColumnRanges?
      if form.precision == .int8 {
        own = ranges
        if own == nil { own = try ColumnRanges(of: reference.documents, width: form.width) }
      }
      let coding = try VectorCoding(form, columns: both.width, ranges: own)
      let alike = forms.filter { $0.width == form.width && $0.precision == form.precision }
      let depth = alike.map(\.searchDepth).max() ?? Retrieval.depth
      func index(_ documents: Embeddings) -> CodedIndex {
        CodedIndex(documents: documents, coding: coding, metric: scope.metric, threads: threads)
      }
      let (old, new) = (index(reference.documents), index(candidate.documents))
      let found = try old.search(both, labels + labels, depth: depth)
      let foundAnew = scope.hasOwnIndex ? try new.search(candidate.queries, labels, depth: depth) : nil
      for form in alike {
        let mixed = try old.scoredAgain(found, both, labels + labels, factor: form.rescoring)
        var runs = [("reference", mixed[0..<split])]
        if let foundAnew {
          runs.append(
            ("candidate", try new.scoredAgain(foundAnew, candidate.queries, labels, factor: form.rescoring)))
        }
        runs.append(("mixed index", mixed[split..<2 * split]))
        outputs[form] = Output(form, bytes: form.bytes(columns: coding.columns), runs, baseline: baseline)
      }
    }
    return forms.compactMap { outputs[$0] }
  }

  static func checks(_ outputs: [Output], _ scope: Scope, _ thresholds: Thresholds) -> [Check] {
    outputs.map { output in
      Check(
        name: (scope.isLabelled ? "drop of recall@10" : "first found lost from the first 10") + Check.outputMark
          + output.form.description, estimate: output.drop, threshold: thresholds.recallDrop, isLowerBound: false)
    }
  }

  /// Whether no other form finds as much with no more bytes.
  public func isOnFront(_ output: Output) -> Bool {
    let own = output.quality(scope).value
    return !outputs.contains { other in
      let value = other.quality(scope).value
      return other.bytes <= output.bytes && value >= own && (other.bytes < output.bytes || value > own)
    }
  }
}
