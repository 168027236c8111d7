/// What went wrong, with what, where, and what was expected. The only error type of the program.
///
/// A failure prints as one line, `file: thing, place: problem`; a file with several faults carries the others in
/// `others` and prints a line for each. Texts that come from a file are escaped and cut by `quoted`.
public struct Failure: Error, Sendable, Equatable {
  /// The kind decides the exit code; Docs/reference/errors.md has the table.
  public enum Kind: String, Sendable, CaseIterable {
    case usage, malformed, missing, unsupported, `internal`, cannotCreate, io, limit
  }

  public var kind: Kind
  public var file: String?
  public var thing: String?
  public var place: String?
  public var problem: String
  public var others: [Failure] = []

  public init(
    _ kind: Kind, _ problem: String, file: String? = nil, thing: String? = nil, place: String? = nil
  ) {
    self.kind = kind
    self.problem = problem
    self.file = file
    self.thing = thing
    self.place = place
  }

  /// The same failure with the file named, unless an inner layer already named one.
  public func inFile(_ name: String) -> Failure {
    var copy = self
    copy.file = copy.file ?? name
    copy.others = copy.others.map { $0.inFile(name) }
    return copy
  }

  /// The same failure with the thing (a tensor, a key) named, unless an inner layer already did.
  public func about(_ thing: String) -> Failure {
    var copy = self
    copy.thing = copy.thing ?? thing
    return copy
  }

  /// One failure that carries all of `failures`, nil when there are none. The first one's kind decides.
  public static func all(_ failures: [Failure]) -> Failure? {
    guard var first = failures.first else { return nil }
    first.others += failures.dropFirst()
    return first
  }

  public var exitCode: Int32 {
    switch kind {
    case .usage: 64
    case .malformed: 65
    case .missing: 66
    case .unsupported: 69
    case .internal: 70
    case .cannotCreate: 73
    case .io: 74
    case .limit: 75
    }
  }

  /// One line per fault, without a final newline. `file: thing, place: problem`.
  public var description: String {
    let where_ = [thing, place].compactMap { $0 }.joined(separator: ", ")
    let line = [file.map { Failure.escaped(Array($0.utf8), limit: 300) }, where_.isEmpty ? nil : where_, problem]
      .compactMap { $0 }.joined(separator: ": ")
    return ([line] + others.map(\.description)).joined(separator: "\n")
  }
}

extension Failure: CustomStringConvertible {
  /// `bytes` in double quotes, control characters and bad UTF-8 escaped, cut at 80 characters.
  public static func quoted(_ bytes: some Sequence<UInt8>) -> String { "\"" + escaped(Array(bytes), limit: 80) + "\"" }

  public static func quoted(_ text: String) -> String { quoted(Array(text.utf8)) }

  /// Control characters and bad UTF-8 escaped, cut at `limit` characters.
  package static func escaped(_ bytes: [UInt8], limit: Int) -> String {
    var result = ""
    var length = 0
    // Only the head is looked at, so that a hostile name of a gigabyte costs nothing.
    for scalar in String(decoding: bytes.prefix(limit * 4), as: UTF8.self).unicodeScalars {
      if length >= limit { return result + "…" }
      let piece = visible(scalar)
      result += piece
      length += piece.unicodeScalars.count
    }
    return bytes.count > limit * 4 ? result + "…" : result
  }

  private static func visible(_ scalar: Unicode.Scalar) -> String {
    switch scalar.properties.generalCategory {
    case .control, .format, .surrogate, .lineSeparator, .paragraphSeparator, .unassigned:
      "\\u{" + String(scalar.value, radix: 16) + "}"
    default:
      String(scalar)
    }
  }
}
