import Bytes

/// Who is told, while a call runs, what is good to know and how far the work is.
///
/// A listener may be called from any thread, never from two at once by one call.
public struct Listener: Sendable {
  /// A remark on the input, in a line.
  public var note: @Sendable (_ text: String) -> Void
  /// Something that makes a result doubtful.
  public var warning: @Sendable (_ text: String) -> Void
  /// What is being done, and which share of it is; a call may do several things one after the other.
  public var progress: @Sendable (_ work: String, _ share: Double) -> Void
  /// Called when nothing is under way any more.
  public var finished: @Sendable () -> Void

  public init(
    note: @escaping @Sendable (_ text: String) -> Void = { _ in },
    warning: @escaping @Sendable (_ text: String) -> Void = { _ in },
    progress: @escaping @Sendable (_ work: String, _ share: Double) -> Void = { _, _ in },
    finished: @escaping @Sendable () -> Void = {}
  ) {
    (self.note, self.warning, self.progress, self.finished) = (note, warning, progress, finished)
  }

  /// Of the call that is running. Bound for its time and in its thread alone, so that calls do not hear each other.
  @TaskLocal static var current = Listener()

  /// Runs `body` with this listener.
  package func hearing<R>(_ body: () throws(Failure) -> R) throws(Failure) -> R {
    try Listener.$current.withValue(self) {
      Result { () throws(Failure) -> R in try body() }
    }.get()
  }
}

/// How far a piece of work is.
package struct Progress: Sendable {
  private let what: String
  private let total: Int
  private let listener = Listener.current

  package init(_ what: String, of total: Int) {
    self.what = what
    self.total = total
  }

  package func show(_ done: Int) {
    guard total > 0 else { return }
    listener.progress(what, min(1, Double(done) / Double(total)))
  }

  /// Says that nothing is under way.
  package static func clear() { Listener.current.finished() }
}
