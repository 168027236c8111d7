import Glibc
import Synchronization

/// Threads that wait for work of `parallel`.
///
/// A model is hundreds of short pieces of work a batch, and waking a thread takes as long as many of them. So a thread
/// that is done looks out for the next piece a moment before it sleeps; and who has work does not wait for helpers that
/// have not come by the time it is done.
final class ThreadPool: @unchecked Sendable {
  static let shared = ThreadPool()

  /// Work of one caller. All but `active` is guarded by the pool's lock.
  private final class Job: @unchecked Sendable {
    /// Of the caller, who waits.
    let body: UnsafePointer<(_ thread: Int) -> Void>
    /// Helpers that may still come, and those that came.
    var wanted: Int
    var joined = 0
    /// Helpers at work. Changed under the lock, read without it.
    let active = Atomic<Int>(0)
    var hasSleeper = false

    init(wanted: Int, body: UnsafePointer<(Int) -> Void>) {
      self.wanted = wanted
      self.body = body
    }
  }

  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let posted = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private let done = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var jobs: [Job] = []
  private var threads = 0
  private var busy = 0
  private var sleeping = 0
  /// Helpers that jobs want, for those who look out without the lock.
  private let wanted = Atomic<Int>(0)

  private init() {
    reset()
    // A child of fork has its parent's memory and none of its threads.
    pthread_atfork(nil, nil) { ThreadPool.shared.reset() }
  }

  private func reset() {
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(posted, nil)
    pthread_cond_init(done, nil)
    jobs = []
    (threads, busy, sleeping) = (0, 0, 0)
    wanted.store(0, ordering: .relaxed)
  }

  private func locked<R>(_ body: () -> R) -> R {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return body()
  }

  /// Calls `body` here as thread 0 and, as threads come, on up to `helpers` others as 1, 2, …; returns when all have
  /// returned. A body must do all that is left to do, as others may never come.
  func run(helpers: Int, _ body: @Sendable (_ thread: Int) -> Void) {
    withoutActuallyEscaping(body) { body in
      var kept: (Int) -> Void = body
      withUnsafePointer(to: &kept) { run(helpers: helpers, $0) }
    }
  }

  private func run(helpers: Int, _ body: UnsafePointer<(Int) -> Void>) {
    let job = Job(wanted: helpers, body: body)
    locked {
      while threads - busy < helpers, threads < max(availableThreads, helpers), startThread() {}
      jobs.append(job)
      wanted.add(helpers, ordering: .relaxed)
      if sleeping > helpers {
        for _ in 0..<helpers { pthread_cond_signal(posted) }
      } else if sleeping > 0 {
        pthread_cond_broadcast(posted)
      }
    }
    body.pointee(0)
    locked {
      wanted.subtract(job.wanted, ordering: .relaxed)
      job.wanted = 0
      jobs.removeAll { $0 === job }
    }
    if lookOut(until: { job.active.load(ordering: .acquiring) == 0 }) { return }
    locked {
      job.hasSleeper = true
      while job.active.load(ordering: .acquiring) > 0 { pthread_cond_wait(done, mutex) }
    }
  }

  /// What a thread of the pool does.
  private func help() {
    while true {
      _ = lookOut(until: { wanted.load(ordering: .relaxed) > 0 })
      let (job, number) = next()
      work(on: job, number)
      locked {
        busy -= 1
        if job.active.subtract(1, ordering: .releasing).newValue == 0, job.hasSleeper { pthread_cond_broadcast(done) }
      }
    }
  }

  /// A function of its own, after which nothing holds the body any more.
  @inline(never)
  private func work(on job: Job, _ thread: Int) { job.body.pointee(thread) }

  private func next() -> (Job, number: Int) {
    locked {
      while true {
        if let job = jobs.first(where: { $0.wanted > 0 }) {
          job.wanted -= 1
          job.joined += 1
          job.active.add(1, ordering: .relaxed)
          wanted.subtract(1, ordering: .relaxed)
          busy += 1
          return (job, job.joined)
        }
        sleeping += 1
        pthread_cond_wait(posted, mutex)
        sleeping -= 1
      }
    }
  }

  /// Looks for a moment whether something has come about. Who else has work for the processor gets it.
  private func lookOut(until isSo: () -> Bool) -> Bool {
    let end = now() + 100_000
    repeat {
      for _ in 0..<64 { if isSo() { return true } }
      sched_yield()
    } while now() < end
    return isSo()
  }

  private func now() -> Int {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec * 1_000_000_000 + time.tv_nsec
  }

  /// Under the lock. False where the system gives no more: the work is then done by fewer.
  private func startThread() -> Bool {
    // What is sent to the process goes to threads that were there before; what a thread brings about itself does not.
    var (all, before) = (sigset_t(), sigset_t())
    sigfillset(&all)
    for signal in [SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGPIPE] { sigdelset(&all, signal) }
    pthread_sigmask(SIG_SETMASK, &all, &before)
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
    var thread = pthread_t()
    let code = pthread_create(
      &thread, nil,
      { _ in
        ThreadPool.shared.help(); return nil
      }, nil)
    guard code == 0 else { return false }
    pthread_detach(thread)
    threads += 1
    return true
  }
}
