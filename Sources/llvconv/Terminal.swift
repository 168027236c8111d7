import Bytes
import Glibc
import LLVConv

/// Standard error, for people: notes, and a line that says how far work is, where a terminal shows it and after the
/// first second.
enum Terminal {
  private static let isTerminal = isatty(2) == 1

  private struct Line {
    var what = ""
    var started = ContinuousClock.now
    var isShown = false
  }
  private static let line = Lock(Line())

  static let listener = Listener(
    note: { text in
      guard !Output.isQuiet.load(ordering: .relaxed) else { return }
      write(isTerminal ? text.wrapped(Command.columns) : text)
    },
    warning: write, progress: show, finished: clear)

  private static func write(_ text: String) { Output.write(Array((text + "\n").utf8), to: 2) }

  private static func show(_ what: String, _ share: Double) {
    guard isTerminal, !Output.isQuiet.load(ordering: .relaxed) else { return }
    let elapsed = line.withLock { line in
      if line.what != what { (line.what, line.started) = (what, .now) }
      let elapsed = ContinuousClock.now - line.started
      line.isShown = line.isShown || elapsed > .seconds(1)
      return elapsed
    }
    guard elapsed > .seconds(1) else { return }
    let seconds = Double(elapsed.components.seconds)
    let left = share > 0.02 ? ", about \(Int(seconds / share * (1 - share)) + 1) s left" : ""
    let bar = String(repeating: "█", count: Int(share * 30)).padded(30)
    Output.write(Array("\r\u{1B}[K\(what) [\(bar)] \(Int(share * 100)) %\(left)".utf8), to: 2)
  }

  /// Takes the line away.
  private static func clear() {
    let wasShown = line.withLock { line in
      defer { line = Line() }
      return line.isShown
    }
    if wasShown { Output.write(Array("\r\u{1B}[K".utf8), to: 2) }
  }
}
