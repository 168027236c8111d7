import Bytes
import Dispatch
import Inputs

/// Items of many callers, embedded together.
///
/// While the model works on a batch, what callers ask for waits; the next batch is made of it. So a busy queue makes
/// large batches and an idle one answers at once. A call that is cancelled leaves the queue, or its result is dropped.
/// At most ``Options/capacity`` items wait; further callers wait for room, or are refused.
public final class EmbeddingQueue: Sendable {
  public struct Options: Sendable {
    /// Items that are embedded together, at most.
    public var largestBatch = 64
    /// Items that wait, at most.
    public var capacity = 1_024
    /// Whether a full queue refuses further items, with a failure of the kind `limit`; otherwise their callers wait.
    public var refusesWhenFull = false

    public init() {}
  }

  private struct Entry {
    let ticket: Int
    let item: Item
    let continuation: CheckedContinuation<[Float], any Error>
  }

  private struct State {
    var tickets = 0
    var waiting: [Entry] = []
    var isRunning = false
    /// Tickets cancelled before their entry came.
    var cancelled: Set<Int> = []
  }

  public let model: EmbeddingModel
  private let options: Options
  private let state = Lock(State())
  /// Embedding takes a thread for itself, so that it keeps none of those from working that tasks share.
  private let worker = DispatchQueue(label: "llvconv.EmbeddingQueue")
  /// Callers that wait for room.
  private let room: Room

  public init(_ model: EmbeddingModel, options: Options = .init()) {
    self.model = model
    self.options = options
    room = Room(options.capacity)
  }

  /// The vector of a text.
  public func embed(_ text: String, prompt: String? = nil) async throws -> [Float] {
    try await embed(Item(text: text), prompt: prompt)
  }

  /// The vector of an item, whose paths are absolute or start at the working folder.
  ///
  /// - Throws: a `Failure`, or `CancellationError`.
  public func embed(_ item: Item, prompt: String? = nil) async throws -> [Float] {
    var item = item
    item.instruction = try item.instruction ?? model.instruction(of: prompt)
    if options.refusesWhenFull {
      guard room.takeIfFree() else { throw Failure(.limit, "\(options.capacity) items wait already") }
    } else {
      try await room.take()
    }
    defer { room.give() }
    let ticket = state.withLock { state in
      state.tickets += 1
      return state.tickets
    }
    // A cancellation that came too late leaves its ticket.
    defer { state.withLock { _ = $0.cancelled.remove(ticket) } }
    let own = item
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        add(Entry(ticket: ticket, item: own, continuation: continuation))
      }
    } onCancel: {
      cancel(ticket)
    }
  }

  private func add(_ entry: Entry) {
    let (isCancelled, starts) = state.withLock { state in
      if state.cancelled.remove(entry.ticket) != nil { return (true, false) }
      state.waiting.append(entry)
      defer { state.isRunning = true }
      return (false, !state.isRunning)
    }
    if isCancelled { entry.continuation.resume(throwing: CancellationError()) }
    if starts { worker.async { self.run() } }
  }

  private func cancel(_ ticket: Int) {
    let entry = state.withLock { state -> Entry? in
      guard let place = state.waiting.firstIndex(where: { $0.ticket == ticket }) else {
        // Not here yet, or at work: the result of what is at work is taken, and its caller's task sees that it was
        // cancelled.
        state.cancelled.insert(ticket)
        return nil
      }
      return state.waiting.remove(at: place)
    }
    entry?.continuation.resume(throwing: CancellationError())
  }

  /// Embeds batches until nothing waits.
  private func run() {
    while true {
      // Nothing that shares memory with what waits leaves the lock.
      let next = state.withLock { state -> [Entry]? in
        state.isRunning = !state.waiting.isEmpty
        guard state.isRunning else { return nil }
        let batch = Array(state.waiting.prefix(options.largestBatch))
        state.waiting.removeFirst(batch.count)
        return batch
      }
      guard let batch = next else { return }
      var results: [Result<[Float], Failure>]
      do throws(Failure) {
        results = try model.embed(batch.map(\.item))
      } catch { results = batch.map { _ in .failure(error) } }
      let cancelled = state.withLock { state in
        batch.map { state.cancelled.remove($0.ticket) != nil }
      }
      for ((entry, result), isCancelled) in zip(zip(batch, results), cancelled) {
        if isCancelled {
          entry.continuation.resume(throwing: CancellationError())
        } else {
          entry.continuation.resume(with: result.mapError { $0 as any Error })
        }
      }
    }
  }
}
