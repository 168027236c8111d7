import Glibc
import Synchronization

/// How many threads to use when nobody says: the processors that are switched on.
public let availableThreads = max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))

/// Runs `body` for every task from 0 to `tasks - 1`, on up to `threads` threads at once. The only place that starts
/// threads for arithmetic.
///
/// Each thread begins with a stretch of its own, in order, and helps the others when it is done: what a thread made in
/// one operation, it finds in its caches in the next. So the caller's tasks must not depend on each other, and a result
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
  // The next task of each stretch, far enough apart that threads do not wait for each other's.
  let apart = 8
  let next = SharedPointer(UnsafeMutablePointer<Atomic<Int>>.allocate(capacity: workers * apart))
  @Sendable func start(_ worker: Int) -> Int { worker * tasks / workers }
  for worker in 0..<workers { (next.pointer + worker * apart).initialize(to: Atomic(start(worker))) }
  defer { next.pointer.deallocate() }
  /// The lowest task that failed.
  let failed = Atomic<Int>(.max)
  let first = Lock<(task: Int, failure: Failure)?>(nil)
  ThreadPool.shared.run(helpers: workers - 1) { thread in
    for worker in 0..<workers {
      let worker = (thread + worker) % workers
      while true {
        let task = next.pointer[worker * apart].wrappingAdd(1, ordering: .relaxed).oldValue
        guard task < start(worker + 1), task < failed.load(ordering: .relaxed) else { break }
        do throws(Failure) {
          try body(task, thread)
        } catch {
          failed.min(task, ordering: .relaxed)
          first.withLock { if task < $0?.task ?? .max { $0 = (task, error) } }
        }
      }
    }
  }
  if let failure = first.withLock({ $0?.failure }) { throw failure }
}

/// A pointer for tasks of `parallel`, each of which reads and writes elements of its own.
public struct SharedPointer<Element: ~Copyable>: @unchecked Sendable {
  public let pointer: UnsafeMutablePointer<Element>
  public init(_ pointer: UnsafeMutablePointer<Element>) { self.pointer = pointer }
}
