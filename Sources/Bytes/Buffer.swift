import Glibc

/// A block of owned memory, aligned to 64 bytes. Shared by reference; whoever fills it does so before sharing it.
public final class Buffer: @unchecked Sendable {
  private let base: UnsafeMutableRawPointer
  public let count: Int
  /// Bytes mapped; may be more than asked for.
  private let capacity: Int
  /// Where the pages of a file start; nil for memory of its own.
  private let pages: UnsafeMutableRawPointer?

  /// From this size on memory comes from the system and goes back to it: an allocator keeps what it was given back, a
  /// piece for each thread.
  private static let mapped = 64 << 10
  /// From this size on huge pages spare most of the page faults.
  private static let huge = 4 << 20

  /// Uninitialised memory of `count` bytes.
  /// - Throws: `limit` when the memory cannot be had, where Swift's own allocation would end the process.
  public init(count: Int) throws(Failure) {
    var pointer: UnsafeMutableRawPointer?
    var capacity = count
    if count >= Buffer.mapped {
      (pointer, capacity) = Kept.take(count)
      if pointer == nil {
        capacity = Kept.rounded(count)
        let start = mmap(nil, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        pointer = start == MAP_FAILED ? nil : start
        if let pointer, capacity >= Buffer.huge { madvise(pointer, capacity, MADV_HUGEPAGE) }
      }
    } else if count < 0 || posix_memalign(&pointer, 64, max(count, 64)) != 0 {
      pointer = nil
    }
    guard let pointer else { throw Failure(.limit, "cannot allocate \(count) bytes of memory") }
    base = pointer
    self.count = count
    self.capacity = capacity
    pages = nil
  }

  /// A part of an open file, `count` above 0, whose pages all processes share; what is written to it stays this
  /// process's own. nil where the system does not map it. Reading what a file has lost since it was opened is a SIGBUS,
  /// which the program makes an error of.
  init?(mapping descriptor: Int32, at offset: Int, count: Int) {
    let before = offset % Int(sysconf(Int32(_SC_PAGESIZE)))
    let flags = MAP_PRIVATE | MAP_NORESERVE
    // Without a byte there is nothing to map, and the system says so.
    let start = mmap(nil, before + count, PROT_READ | PROT_WRITE, flags, descriptor, offset - before)
    guard let start, start != MAP_FAILED else { return nil }
    (pages, capacity) = (start, before + count)
    (base, self.count) = (start + before, count)
  }

  public convenience init(_ bytes: [UInt8]) throws(Failure) {
    try self.init(count: bytes.count)
    bytes.withUnsafeBytes { source in
      withMutableBytes { $0.copyMemory(from: source) }
    }
  }

  deinit {
    if let pages {
      munmap(pages, capacity)
      return
    }
    if count >= Buffer.mapped { Kept.give(base, capacity) } else { free(base) }
  }

  /// Large blocks that were given back lately, for the next that need about as much: the system clears every page that
  /// it hands out, and a model's values come and go with each operation.
  private enum Kept {
    /// Up to an eighth more, so that blocks of nearly the same size can stand in for each other.
    static func rounded(_ count: Int) -> Int {
      let step = max(4096, 1 << (Int.bitWidth - 1 - count.leadingZeroBitCount - 3))
      return Checked.roundUp(count, to: step) ?? count
    }

    private static let most = 256 << 20
    private static let blocks = Lock<[(start: UInt, capacity: Int)]>([])

    static func take(_ count: Int) -> (UnsafeMutableRawPointer?, Int) {
      blocks.withLock { blocks in
        guard let place = blocks.firstIndex(where: { $0.capacity >= count && $0.capacity <= count + count / 4 }) else {
          return (nil, 0)
        }
        let block = blocks.remove(at: place)
        return (UnsafeMutableRawPointer(bitPattern: block.start), block.capacity)
      }
    }

    static func give(_ pointer: UnsafeMutableRawPointer, _ capacity: Int) {
      var out = [(start: UInt(bitPattern: pointer), capacity: capacity)]
      if capacity <= most {
        // The newest stay: they are in the cache.
        out = blocks.withLock { blocks in
          blocks.insert(out[0], at: 0)
          var total = 0
          let kept = blocks.prefix { block in
            total += block.capacity
            return total <= most
          }
          let rest = Array(blocks.dropFirst(kept.count))
          blocks = Array(kept)
          return rest
        }
      }
      for block in out { munmap(UnsafeMutableRawPointer(bitPattern: block.start), block.capacity) }
    }
  }

  /// The first byte, while this buffer lives.
  public var start: UnsafeMutableRawPointer { base }

  public func withBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    defer { withExtendedLifetime(self) {} }
    return try body(UnsafeRawBufferPointer(start: base, count: count))
  }

  public func withMutableBytes<R, E: Error>(_ body: (UnsafeMutableRawBufferPointer) throws(E) -> R) throws(E) -> R {
    defer { withExtendedLifetime(self) {} }
    return try body(UnsafeMutableRawBufferPointer(start: base, count: count))
  }

  /// The bytes as whole elements of `T`; a remainder is left out.
  public func with<T: BitwiseCopyable, R, E: Error>(
    _ type: T.Type, _ body: (UnsafeMutableBufferPointer<T>) throws(E) -> R
  ) throws(E) -> R {
    defer { withExtendedLifetime(self) {} }
    let elements = count / MemoryLayout<T>.stride
    return try body(
      UnsafeMutableBufferPointer(start: base.bindMemory(to: T.self, capacity: elements), count: elements))
  }

  public func array<T: BitwiseCopyable>(of type: T.Type) -> [T] { with(type) { Array($0) } }

  /// Fills the memory with zero bytes.
  public func clear() { memset(base, 0, count) }
}
