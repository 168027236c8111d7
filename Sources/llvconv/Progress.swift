import Glibc
import Synchronization

/// A line on standard error that says how far work is, for people: silent unless a terminal shows it, and for the first
/// second.
struct Progress: Sendable {
  private let what: String
  private let total: Int
  private let started = ContinuousClock.now
  private static let isShown = Mutex(false)
  private static let isTerminal = isatty(2) == 1

  init(_ what: String, of total: Int) {
    self.what = what
    self.total = total
  }

  func show(_ done: Int) {
    guard Progress.isTerminal, !Output.isQuiet.load(ordering: .relaxed), ContinuousClock.now - started > .seconds(1),
      total > 0
    else { return }
    let share = min(1, Double(done) / Double(total))
    let elapsed = Double((ContinuousClock.now - started).components.seconds)
    let left = share > 0.02 ? ", about \(Int(elapsed / share * (1 - share)) + 1) s left" : ""
    let bar = String(repeating: "█", count: Int(share * 30)).padded(30)
    Output.write(Array("\r\u{1B}[K\(what) [\(bar)] \(Int(share * 100)) %\(left)".utf8), to: 2)
    Progress.isShown.withLock { $0 = true }
  }

  /// Takes the line away.
  static func clear() {
    let wasShown = isShown.withLock { shown in
      defer { shown = false }
      return shown
    }
    if wasShown { Output.write(Array("\r\u{1B}[K".utf8), to: 2) }
  }
}
