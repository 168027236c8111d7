import Bytes
import Glibc

/// A tensor's rows as Float32, read or computed span by span, so that a large tensor is never in memory as a whole.
///
/// Every row is asked for exactly once. Several threads may ask at a time, for spans that are handed out in ascending
/// order: a span may wait for the one before it, whose bytes come first in a checksum.
public struct RowReader: Sendable {
  private let span: @Sendable (_ rows: Range<Int>, _ target: UnsafeMutablePointer<Float>) throws(Failure) -> Void
  private let end: @Sendable (_ isComplete: Bool) throws(Failure) -> Void

  /// - Parameters:
  ///   - span: fills `target`, `[rows.count, columns]`.
  ///   - end: called after the last row, holds what was read to the tensor's checksum; or called when something failed,
  ///     to let go of threads that wait for each other.
  public init(
    span: @escaping @Sendable (_ rows: Range<Int>, _ target: UnsafeMutablePointer<Float>) throws(Failure) -> Void,
    end: @escaping @Sendable (_ isComplete: Bool) throws(Failure) -> Void
  ) {
    self.span = span
    self.end = end
  }

  /// Fills `target`, `[rows.count, columns]`.
  public func read(_ rows: Range<Int>, into target: UnsafeMutablePointer<Float>) throws(Failure) {
    try span(rows, target)
  }

  public func finish(isComplete: Bool) throws(Failure) { try end(isComplete) }

  /// Calls `body` for spans of rows on all threads, each with its rows `[span.count, columns]` in memory that it may
  /// change, then holds them to the checksum.
  ///
  /// - Parameter body: gets the number of its span, from 0; spans are the same whatever the thread count.
  public func forEachSpan(
    rows: Int, columns: Int, threads: Int,
    _ body: @Sendable (_ number: Int, _ span: Range<Int>, _ values: UnsafeMutablePointer<Float>) throws(Failure) -> Void
  ) throws(Failure) {
    let step = RowReader.step(columns)
    try parallel(RowReader.spans(rows, columns), threads: threads) { (task) throws(Failure) in
      do throws(Failure) {
        let part = task * step..<min(rows, (task + 1) * step)
        let values = try Buffer(count: part.count * columns * 4)
        try values.with(Float.self) { (all) throws(Failure) in
          guard let start = all.baseAddress else { return }
          try read(part, into: start)
          try body(task, part, start)
        }
      } catch {
        try? finish(isComplete: false)
        throw error
      }
    }
    try finish(isComplete: true)
  }

  /// How many spans rows are read in; none without columns, when there can be any number of rows.
  public static func spans(_ rows: Int, _ columns: Int) -> Int {
    columns > 0 ? Checked.ceilDivide(rows, step(columns)) : 0
  }

  /// Rows of a span: enough to hide the start of a thread, few enough to stay in its cache.
  private static func step(_ columns: Int) -> Int { max(1, (1 << 15) / max(1, columns)) }
}

extension Tensor {
  /// - Throws: `unsupported` for element types that no weight has, sometimes only when rows are read.
  public func rowReader(threads: Int) throws(Failure) -> RowReader {
    switch content {
    case .rows(let open): return try open(threads)
    case .bytes(let view) where encoding.isPlain: return rowReader(view, nil)
    case .stored(let stored) where encoding.isPlain && stored.codec == .raw:
      return rowReader(stored.stored, stored.checksum)
    default:
      let all = try floats(threads: threads)
      let columns = columns
      return RowReader { rows, target in
        all.with(Float.self) { values in
          guard let from = values.baseAddress else { return }
          target.update(from: from + rows.lowerBound * columns, count: rows.count * columns)
        }
      } end: { _ in
      }
    }
  }

  /// - Parameter checksum: XXH64 of all bytes, when it is known.
  private func rowReader(_ bytes: ByteView, _ checksum: UInt64?) -> RowReader {
    let rowBytes = byteCount / max(1, rows)
    let hash = checksum.map { _ in HashInOrder() }
    let isFloat = encoding == .plain(.F32)
    return RowReader { (span, target) throws(Failure) in
      let (from, count) = (span.lowerBound * rowBytes, span.count * rowBytes)
      do throws(Failure) {
        if isFloat {
          let memory = UnsafeMutableRawBufferPointer(start: target, count: count)
          try bytes.read(at: from, into: memory)
          hash?.add(UnsafeRawBufferPointer(memory), from: from)
          return
        }
        try Buffer(count: count).withMutableBytes { (memory) throws(Failure) in
          try bytes.read(at: from, into: memory)
          hash?.add(UnsafeRawBufferPointer(memory), from: from)
          let floats = UnsafeMutableBufferPointer(start: target, count: span.count * columns)
          try decodeRows(0..<span.count, of: UnsafeRawBufferPointer(memory), into: floats)
        }
      } catch { throw error.about("tensor \(name.quoted)") }
    } end: { (isComplete) throws(Failure) in
      guard let hash, let checksum else { return }
      guard isComplete else { return hash.giveUp() }
      guard hash.value() == checksum else {
        throw Failure(
          .malformed, "checksum does not match: the file is damaged", file: bytes.file?.path,
          thing: "tensor \(name.quoted)")
      }
    }
  }
}

extension RowReader {
  /// All rows in memory.
  func all(rows: Int, columns: Int, threads: Int) throws(Failure) -> Buffer {
    guard let count = Checked.product([rows, columns, 4]) else {
      throw Failure(.limit, "a tensor of \(rows) × \(columns) is too large")
    }
    let result = try Buffer(count: count)
    try forEachSpan(rows: rows, columns: columns, threads: threads) { _, span, values in
      result.with(Float.self) { target in
        guard let target = target.baseAddress else { return }
        (target + span.lowerBound * columns).update(from: values, count: span.count * columns)
      }
    }
    return result
  }
}

/// A hash over parts that several threads bring, each waiting for the parts before its own.
private final class HashInOrder: Sendable {
  private struct State {
    var count = 0
    var hash = XXH64()
    var isGivenUp = false
  }

  private let state = Lock(State())

  func add(_ part: UnsafeRawBufferPointer, from offset: Int) {
    while true {
      let isDone = state.withLock { state in
        if state.count == offset, !state.isGivenUp {
          state.hash.update(part)
          state.count += part.count
          return true
        }
        return state.isGivenUp
      }
      if isDone { return }
      // The part before is being read by another thread, and will be here in microseconds.
      sched_yield()
    }
  }

  /// Nobody waits for a part that will not come.
  func giveUp() { state.withLock { $0.isGivenUp = true } }

  func value() -> UInt64 { state.withLock { $0.hash.value() } }
}
