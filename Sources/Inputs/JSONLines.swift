import Bytes

/// A file of JSON values, one a line; blank lines do not count.
enum JSONLines {
  /// Calls `body` with each line's value.
  /// - Throws: `malformed` with every bad line, up to 20 of them, each with its number.
  static func forEach(_ path: String, what: String, _ body: (JSON) throws(Failure) -> Void) throws(Failure) {
    var failures: [Failure] = []
    var number = 0
    for line in try InputFile(path).all(limit: 1 << 32, what: what).split(
      separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    {
      number += 1
      guard !line.allSatisfy({ $0 == 0x20 || $0 == 0x0D || $0 == 0x09 }) else { continue }
      do throws(Failure) {
        try body(try JSON.parse(Array(line), what: "line \(number)"))
      } catch {
        guard failures.count < 20 else { break }
        failures.append(error.inFile(path))
      }
    }
    if let failure = Failure.all(failures) { throw failure }
  }
}
