import Bytes
import Inputs

/// Items that could not be read or embedded, and are left out of what is measured.
package struct SkippedItems: Sendable {
  private static let shown = 10
  /// Above this share of all items what is left may be other data.
  private static let mostShare = 0.05

  /// Whether the first bad item ends the run.
  package let isStrict: Bool
  /// Of how many.
  package let total: Int
  package private(set) var items: [(name: String, failure: Failure)] = []
  /// Pairs that need one of them, and of how many.
  package var pairs: (lost: Int, total: Int) = (0, 0)

  package init(of total: Int, isStrict: Bool) {
    self.total = total
    self.isStrict = isStrict
  }

  /// - Throws: `failure` itself when strict.
  package mutating func add(_ name: String, _ failure: Failure) throws(Failure) {
    guard !isStrict else { throw failure.about("item \(Failure.quoted(name))") }
    items.append((name, failure))
  }

  /// - Parameter left: how much there is without them.
  /// - Throws: the first failure when nothing is left.
  package func check(left: Int) throws(Failure) {
    guard left == 0, let first = items.first else { return }
    var failure = first.failure.about("item \(Failure.quoted(first.name))")
    failure.problem += " (nothing is left: \(items.count) of \(total) items are bad)"
    throw failure
  }

  /// The first of them on standard error.
  package func complain() {
    guard !items.isEmpty else { return }
    Output.note("note: \(count) are bad and left out; --strict stops at the first:")
    for item in items.prefix(SkippedItems.shown) {
      Output.note("  item \(Failure.quoted(item.name)): \(item.failure.line)")
    }
    if items.count > SkippedItems.shown { Output.note("  and \(items.count - SkippedItems.shown) more") }
  }

  /// What a report has to say of them.
  package var notes: [String] {
    let share = max(
      Double(items.count) / Double(max(1, total)), Double(pairs.lost) / Double(max(1, pairs.total)))
    guard share > SkippedItems.mostShare else { return [] }
    return ["\(count) are bad and left out: what is left may be other data than you mean"]
  }

  private var count: String {
    let lost = pairs.lost > 0 ? ", and with them \(pairs.lost) of \(pairs.total) pairs," : ""
    return "\(items.count) of \(total) items\(lost)"
  }

  package var json: JSONText {
    [
      "count": .int(items.count), "of": .int(total), "pairs": .int(pairs.lost),
      "items": .array(
        items.prefix(SkippedItems.shown).map {
          ["id": .string($0.name), "code": .string($0.failure.kind.rawValue), "message": .string($0.failure.line)]
        }),
    ]
  }
}

extension Item {
  /// What to call it.
  package var name: String { id ?? text ?? images.first ?? video ?? "" }
}

extension Failure {
  /// The failure without what else is wrong.
  fileprivate var line: String {
    var first = self
    first.others = []
    return first.description
  }
}

extension JSONText {
  /// An object with more members at its end.
  package func adding(_ members: [(String, JSONText)]) -> JSONText {
    guard case .object(let own) = self else { return self }
    return .object(own + members)
  }
}
