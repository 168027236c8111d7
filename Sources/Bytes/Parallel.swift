import Glibc
import Synchronization

/// How many threads to use when nobody says: the processors that are switched on.
public let availableThreads = max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))

/// Runs `body` for every task from 0 to `tasks - 1`, on up to `threads` threads at once. The only place that starts
/// threads for arithmetic.
///
/// Tasks are claimed in order by whoever is free, so the caller's tasks must not depend on each other, and a result
/// must depend on the task alone. When several tasks throw, the failure of the lowest numbered one is thrown, so that
/// errors do not depend on timing either; tasks above a failed one may be left out.
public func parallel(
  _ tasks: Int, threads: Int, _ body: @Sendable (Int) throws(Failure) -> Void
) throws(Failure) {
  try parallel(tasks, threads: threads) { (task, _) throws(Failure) in try body(task) }
}

/// The same, for bodies that also want to know which thread they run on, `0 ..< threads`: for scratch memory alone.
public func parallel(
  _ tasks: Int, threads: Int, _ body: @Sendable (_ task: Int, _ thread: Int) throws(Failure) -> Void
) throws(Failure) {
  let workers = min(threads, tasks)
  if workers <= 1 {
    for task in 0..<max(tasks, 0) { try body(task, 0) }
    return
  }
  let next = Atomic<Int>(0)
  /// The lowest task that failed.
  let failed = Atomic<Int>(.max)
  let first = Lock<(task: Int, failure: Failure)?>(nil)
  ThreadPool.shared.run(helpers: workers - 1) { thread in
    while true {
      let task = next.wrappingAdd(1, ordering: .relaxed).oldValue
      guard task < tasks, task < failed.load(ordering: .relaxed) else { return }
      do throws(Failure) {
        try body(task, thread)
      } catch {
        failed.min(task, ordering: .relaxed)
        first.withLock { if task < $0?.task ?? .max { $0 = (task, error) } }
      }
    }
  }
  if let failure = first.withLock({ $0?.failure }) { throw failure }
}

/// A pointer for tasks of `parallel`, each of which reads and writes elements of its own.
public struct SharedPointer<Element>: @unchecked Sendable {
  public let pointer: UnsafeMutablePointer<Element>
  public init(_ pointer: UnsafeMutablePointer<Element>) { self.pointer = pointer }
}
