import Bytes

/// Places that tasks take and give back, first come, first served.
final class Room: Sendable {
  private struct State {
    var free: Int
    var tickets = 0
    var waiting: [(ticket: Int, continuation: CheckedContinuation<Void, any Error>)] = []
    var cancelled: Set<Int> = []
  }

  private let state: Lock<State>

  init(_ places: Int) { state = Lock(State(free: max(1, places))) }

  func takeIfFree() -> Bool {
    state.withLock { state in
      guard state.free > 0 else { return false }
      state.free -= 1
      return true
    }
  }

  /// - Throws: `CancellationError`; no place is taken then.
  func take() async throws {
    let ticket = state.withLock { state in
      state.tickets += 1
      return state.tickets
    }
    // A cancellation that came too late leaves its ticket.
    defer { state.withLock { _ = $0.cancelled.remove(ticket) } }
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
        let outcome = state.withLock { state -> Result<Void, any Error>? in
          if state.cancelled.remove(ticket) != nil { return .failure(CancellationError()) }
          guard state.free == 0 else {
            state.free -= 1
            return .success(())
          }
          state.waiting.append((ticket, continuation))
          return nil
        }
        if let outcome { continuation.resume(with: outcome) }
      }
    } onCancel: {
      let waiting = state.withLock { state -> CheckedContinuation<Void, any Error>? in
        guard let place = state.waiting.firstIndex(where: { $0.ticket == ticket }) else {
          // Has a place already, or is not here yet.
          state.cancelled.insert(ticket)
          return nil
        }
        return state.waiting.remove(at: place).continuation
      }
      waiting?.resume(throwing: CancellationError())
    }
  }

  func give() {
    let next = state.withLock { state in
      guard !state.waiting.isEmpty else {
        state.free += 1
        return nil as CheckedContinuation<Void, any Error>?
      }
      return state.waiting.removeFirst().continuation
    }
    next?.resume()
  }
}
