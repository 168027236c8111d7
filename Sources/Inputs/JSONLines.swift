import Bytes

/// A file of JSON values, one a line; blank lines do not count, nor does a byte-order mark before the first.
public enum JSONLines {
  /// Kinds of bad lines that are told apart.
  private static let mostProblems = 20

  /// Calls `body` with each line's number and value.
  /// - Throws: `malformed` with a line for each kind of bad line, up to 20 of them: the first of its kind, and how many
  ///   there are.
  static func forEach(
    _ path: String, what: String, _ body: (_ number: Int, _ line: JSON) throws(Failure) -> Void
  ) throws(Failure) {
    var failures: [(first: Failure, count: Int)] = []
    var surplus = 0
    var number = 0
    for line in try InputFile(path).all(limit: 1 << 32, what: what).split(
      separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    {
      number += 1
      guard !isBlank(line) else { continue }
      do throws(Failure) {
        try body(number, try JSON.parse(Array(number == 1 ? withoutMark(line) : line), what: "line \(number)"))
      } catch {
        if let known = failures.firstIndex(where: { $0.first.problem == error.problem }) {
          failures[known].count += 1
        } else if failures.count < mostProblems {
          failures.append((error, 1))
        } else {
          surplus += 1
        }
      }
    }
    var all = failures.map { failure, count in
      var failure = failure.inFile(path)
      if count > 1 { failure.problem += " (\(count) lines like this)" }
      return failure
    }
    if surplus > 0 { all.append(Failure(.malformed, "and \(surplus) more bad lines", file: path)) }
    if let failure = Failure.all(all) { throw failure }
  }

  public static func isBlank(_ line: ArraySlice<UInt8>) -> Bool {
    line.allSatisfy { $0 == 0x20 || $0 == 0x0D || $0 == 0x09 }
  }

  /// A file's first bytes without UTF-8's byte-order mark, which other systems' editors write.
  public static func withoutMark(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? bytes.dropFirst(3) : bytes
  }
}
