import Bytes

// What is folded away, and where a page comes from.
extension FidelityReport {
  var more: String {
    let order = orderingRows.map { [$0.name, $0.own.text, $0.mixed.text] }
    var rows = [
      ["rank correlation of whole lists", rankCorrelation.fixed(4), "1"],
      ["effective dimensions", spread.candidate.dimensions.fixed(1), spread.reference.dimensions.fixed(1)],
      [
        "mean cosine of two different items", spread.candidate.meanCosine.fixed(4),
        spread.reference.meanCosine.fixed(4),
      ],
    ]
    if let clusters {
      rows.append(
        ["adjusted Rand index, \(clusters.count) clusters", clusters.agreement.fixed(3), clusters.stability.fixed(3)])
      if let v = clusters.vMeasure { rows.append(["V-measure", v.candidate.fixed(3), v.reference.fixed(3)]) }
    }
    return """
      <details><summary>More numbers: order at the head, hardness, clusters</summary>
      \(Page.table("Order at the head", ["order at the head", "candidate", "mixed index"], order, isStacked: true))
      \(Page.table("Shape of the space", ["shape of the space", "candidate", "reference"], rows))
      </details>
      <details><summary>What the words mean</summary>\(Page.list(FidelityReport.glossary))</details>
      """
  }

  static let glossary: [(name: String, value: String)] = [
    ("reference, candidate", "The model you have, and the one that shall take its place."),
    ("mixed index", "Documents embedded by the reference, queries by the candidate: the index you keep."),
    ("P@1", "Share of queries whose right document comes first."),
    ("recall@10", "Share of queries whose right document is among the first 10."),
    (
      "overlap of the first 10",
      "Share of the reference's first 10 documents that are among the first 10 now, over queries."
    ),
    (
      "95 % interval",
      "Where the mean would lie, 19 times of 20, with other data of this kind (bootstrap over queries or items)."
    ),
    ("cosine", "Of the two vectors of one item: 1 where they point the same way."),
    ("relative error", "Length of the difference of two vectors, divided by the length of the reference's."),
    (
      "rise of cosine between items",
      "How much more alike different items became: a rise means that the model says the same of all."
    ),
    (
      "Kendall's tau",
      "Agreement of two orders of the reference's first 20 documents: 1 the same, 0 chance, -1 reversed."
    ),
    (
      "hardness",
      "Weight of a document by how near it is to the query in the reference: near ones are hard to tell apart."
    ),
    ("margin", "Similarity of the right document less that of a wrong one."),
    ("rank correlation", "Spearman's: agreement of the order of all documents, not only of the first."),
    (
      "effective dimensions",
      "How many directions the vectors use: 1 on a line, as many as columns when they use all alike."
    ),
    (
      "adjusted Rand index",
      "Agreement of clusters: 1 the same, 0 chance. Beside it the reference's own from another start."
    ),
    ("V-measure", "Agreement of clusters with the labels of the data."),
  ]

  /// Hashes, command line, versions, and the numbers as JSON.
  static func provenance(_ reports: [FidelityReport], _ facts: [(name: String, value: String)]) -> String {
    let json = reports.count == 1 ? reports[0].json : .array(reports.map(\.json))
    let link = "data:application/json;base64," + Base64.encoded(json.bytes())
    var subjects = reports.map { ("Candidate", $0.candidate) }
    if let reference = reports.first?.reference { subjects.append(("Reference", reference)) }
    let rows = subjects.flatMap { role, subject in
      [(role, "<b>\(Page.escaped(subject.name))</b>")] + subject.facts.map { ($0.name, Page.escaped($0.value)) }
    }
    return """
      <section><h2>Where this comes from</h2>
      \(facts.isEmpty ? "" : Page.list(facts.map { ($0.name, Page.escaped($0.value)) }))
      <p><a download="report.json" href="\(link)">All numbers as JSON</a></p>
      <details><summary>Models: checksums and recipes</summary>\(Page.list(rows))</details></section>
      """
  }
}
