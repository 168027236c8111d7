/// Some bytes, read-only, that stay where they are until they are asked for: a part of a file, a part of a buffer, or
/// several views one after the other.
public struct ByteView: Sendable {
  private enum Storage: Sendable {
    case file(InputFile, Int)
    case memory(Buffer, Int)
    case joined([ByteView])
  }

  private let storage: Storage
  public let count: Int

  /// `count` bytes of `file` from `offset`. The caller has compared both with `file.count`.
  public init(_ file: InputFile, _ offset: Int, _ count: Int) {
    precondition(offset >= 0 && count >= 0 && count <= file.count - offset, "a view inside its file")
    storage = .file(file, offset)
    self.count = count
  }

  public init(_ buffer: Buffer) {
    storage = .memory(buffer, 0)
    count = buffer.count
  }

  /// The views' bytes one after the other; nil when their lengths do not add up to an `Int`.
  public init?(joining views: [ByteView]) {
    var total = 0
    for view in views {
      guard let sum = Checked.add(total, view.count) else { return nil }
      total = sum
    }
    storage = .joined(views)
    count = total
  }

  /// The file this view reads from, nil for memory and joined views.
  public var file: InputFile? {
    if case .file(let file, _) = storage { file } else { nil }
  }

  /// Fills `target` with the bytes from `offset` on; the caller keeps the range inside `count`.
  public func read(at offset: Int, into target: UnsafeMutableRawBufferPointer) throws(Failure) {
    precondition(offset >= 0 && target.count <= count - offset, "a read inside its view")
    switch storage {
    case .file(let file, let start):
      try file.read(at: start + offset, into: target)
    case .memory(let buffer, let start):
      buffer.withBytes {
        target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[(start + offset)...].prefix(target.count)))
      }
    case .joined(let views):
      var start = 0
      for view in views {
        let from = max(offset, start)
        let to = min(offset + target.count, start + view.count)
        if from < to {
          try view.read(
            at: from - start, into: UnsafeMutableRawBufferPointer(rebasing: target[(from - offset)..<(to - offset)]))
        }
        start += view.count
      }
    }
  }

  /// Copies one piece into `target`.
  public func read(_ piece: (from: Int, count: Int, to: Int), into target: Buffer) throws(Failure) {
    try target.withMutableBytes { (bytes) throws(Failure) in
      try read(at: piece.from, into: UnsafeMutableRawBufferPointer(rebasing: bytes[piece.to..<piece.to + piece.count]))
    }
  }

  /// All bytes in memory of their own; the buffer itself when the view is exactly one.
  public func load() throws(Failure) -> Buffer {
    if case .memory(let buffer, 0) = storage, buffer.count == count { return buffer }
    let buffer = try Buffer(count: count)
    try buffer.withMutableBytes { (target) throws(Failure) in try read(at: 0, into: target) }
    return buffer
  }

  /// All bytes to be read alone, where they lie if this is a part of a file; small parts are copied.
  func mapped() throws(Failure) -> Buffer {
    if case .file(let file, let start) = storage, count >= ByteView.leastMapped,
      let buffer = file.map(at: start, count)
    {
      return buffer
    }
    return try load()
  }

  private static let leastMapped = 64 << 10

  public func bytes() throws(Failure) -> [UInt8] { try load().array(of: UInt8.self) }

  /// Calls `body` with the bytes in order, at most `size` at a time, in memory that is used again.
  public func forEachChunk(
    of size: Int = 1 << 18, _ body: (UnsafeRawBufferPointer) throws(Failure) -> Void
  ) throws(Failure) {
    if case .memory(let buffer, let start) = storage {
      let total = count
      try buffer.withBytes { (all) throws(Failure) in
        for offset in stride(from: 0, to: total, by: size) {
          let end = min(offset + size, total)
          try body(UnsafeRawBufferPointer(rebasing: all[(start + offset)..<(start + end)]))
        }
      }
      return
    }
    let scratch = try Buffer(count: min(size, count))
    for offset in stride(from: 0, to: count, by: size) {
      let length = min(size, count - offset)
      try scratch.withMutableBytes { (all) throws(Failure) in
        let part = UnsafeMutableRawBufferPointer(rebasing: all[..<length])
        try read(at: offset, into: part)
        try body(UnsafeRawBufferPointer(part))
      }
    }
  }
}
