import Bytes
import Fidelity

/// A candidate of which nobody has the model: the vectors that another program made of the data's queries and
/// documents, as two NumPy files.
///
/// A row stands for each query, in the order of the pairs; of the documents first for each pair's positive, then for
/// the negatives of each pair. Where `FILE.npy.ids` lies beside a file, as `embed` writes it, rows are found by id.
package struct GivenVectors {
  package let name: String
  package let width: Int
  private let queries, documents: Side

  /// - Parameter text: `Q.npy,D.npy`.
  /// - Throws: `malformed` for what is no such file, does not fit the data, or holds a vector without a direction.
  package init(_ text: String, of data: VerifyData) throws(Failure) {
    let paths = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    guard paths.count == 2, paths.allSatisfy({ !$0.isEmpty }) else {
      throw Failure(.usage, "--vectors takes two files, as Q.npy,D.npy; found \(Failure.quoted(text))")
    }
    queries = try Side(paths[0], data.queries, rows: data.rows.queries, "the query of each pair")
    documents = try Side(
      paths[1], data.documents, rows: data.rows.documents,
      "each pair's positive, then the negatives of each pair")
    guard queries.vectors.width == documents.vectors.width else {
      throw Failure(
        .malformed, "has \(documents.vectors.width) columns, the queries' file \(queries.vectors.width)",
        file: paths[1])
    }
    (name, width) = (fileName(paths[0]), queries.vectors.width)
  }

  package var subject: FidelityReport.Subject {
    var subject = FidelityReport.Subject(name)
    subject.facts = [queries, documents].map { ("vectors", "\(fileName($0.path)), \($0.vectors.count) × \(width)") }
    return subject
  }

  /// The vectors of what is left of the data.
  package func vectors(of data: VerifyData) throws(Failure) -> FidelityReport.Vectors {
    FidelityReport.Vectors(
      queries: try queries.vectors(of: data.queries), documents: try documents.vectors(of: data.documents))
  }

  /// One of the two files.
  private struct Side {
    package let path: String
    package let vectors: Embeddings
    /// The row of each entry of the data, by the row that the data's own order gives it.
    private var places: [Int: Int] = [:]

    package init(
      _ path: String, _ entries: ArraySlice<VerifyData.Entry>, rows: Int, _ order: String
    ) throws(Failure) {
      self.path = path
      vectors = try Embeddings(numPy: path)
      if exists(path + ".ids") {
        try findRows(of: entries)
      } else {
        guard vectors.count == rows else {
          throw Failure(
            .malformed,
            "has \(vectors.count) rows, \(rows) are wanted: one for \(order), in order; or \(fileName(path)).ids "
              + "beside "
              + "it, with the id of each row", file: path)
        }
        for entry in entries { places[entry.row] = entry.row }
      }
      for entry in entries { try check(entry) }
    }

    private mutating func findRows(of entries: ArraySlice<VerifyData.Entry>) throws(Failure) {
      let file = path + ".ids"
      let lines = try InputFile(file).all(limit: 1 << 32, what: "ids").split(
        separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
      guard lines.last?.isEmpty ?? true, lines.count - 1 == vectors.count else {
        throw Failure(
          .malformed, "has \(lines.count - 1) whole lines, the array has \(vectors.count) rows", file: file)
      }
      // As bytes: two spellings of one letter are two ids.
      var rows: [ArraySlice<UInt8>: Int] = [:]
      for (row, line) in lines.dropLast().enumerated() {
        if let other = rows.updateValue(row, forKey: line) {
          throw Failure(
            .malformed, "the id \(Failure.quoted(Array(line))) stands in lines \(other + 1) and \(row + 1)", file: file)
        }
      }
      var missing: [VerifyData.Entry] = []
      for entry in entries {
        guard let row = entry.names.lazy.compactMap({ rows[Array($0.utf8)[...]] }).first else {
          missing.append(entry)
          continue
        }
        places[entry.row] = row
      }
      guard let first = missing.first else { return }
      throw Failure(
        .malformed,
        "has no line for \(missing.count) of \(entries.count) items; the first would be "
          + first.names.map { Failure.quoted($0) }.joined(separator: " or "), file: file)
    }

    private func check(_ entry: VerifyData.Entry) throws(Failure) {
      let place = try self.place(of: entry)
      let values = try vectors.rows(place..<place + 1)
      let problem =
        values.contains { !$0.isFinite }
        ? "holds a number that is not finite" : values.allSatisfy { $0 == 0 } ? "is zero, which has no direction" : nil
      if let problem {
        throw Failure(
          .malformed, "the vector of item \(Failure.quoted(entry.id)) \(problem)", file: path,
          place: "row \(place), counted from 0")
      }
    }

    private func place(of entry: VerifyData.Entry) throws(Failure) -> Int {
      guard let place = places[entry.row] else { throw Failure(.internal, "an item without a row", file: path) }
      return place
    }

    package func vectors(of entries: ArraySlice<VerifyData.Entry>) throws(Failure) -> Embeddings {
      Embeddings(
        width: vectors.width,
        values: try vectors.rows(at: try entries.map { (entry) throws(Failure) in try place(of: entry) }))
    }
  }
}
