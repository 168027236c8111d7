import CKernels

/// Cuts bytes that come in pieces into whole blocks, and keeps what waits for the next piece.
private struct Blocks: Sendable {
  let size: Int
  /// Less than a block.
  private(set) var tail: [UInt8] = []
  private(set) var total: UInt64 = 0

  init(of size: Int) { self.size = size }

  /// Calls `body` with runs of whole blocks, in order.
  mutating func add(_ bytes: UnsafeRawBufferPointer, _ body: (UnsafePointer<UInt8>, _ blocks: Int) -> Void) {
    total += UInt64(bytes.count)
    var rest = bytes[...]
    if !tail.isEmpty {
      let taken = rest.prefix(size - tail.count)
      tail += taken
      rest = rest.dropFirst(taken.count)
      guard tail.count == size else { return }
      tail.withUnsafeBufferPointer { if let base = $0.baseAddress { body(base, 1) } }
      tail.removeAll(keepingCapacity: true)
    }
    let whole = UnsafeRawBufferPointer(rebasing: rest.prefix(rest.count / size * size))
    if let base = whole.baseAddress { body(base.assumingMemoryBound(to: UInt8.self), whole.count / size) }
    tail += rest.dropFirst(whole.count)
  }
}

/// XXH64: finds accidental damage at memory speed. Every tensor and the manifest of a container carry one.
public struct XXH64: Sendable {
  private var state = llv_xxh64_state()
  private var blocks = Blocks(of: 32)

  public init() { llv_xxh64_start(&state, 0) }

  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    blocks.add(bytes) { llv_xxh64_stripes(&state, $0, $1) }
  }

  public func value() -> UInt64 {
    var state = state
    return llv_xxh64_finish(&state, 0, blocks.tail, blocks.total)
  }

  public static func hash(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    var state = llv_xxh64_state()
    llv_xxh64_start(&state, 0)
    guard let base = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self) else {
      return llv_xxh64_finish(&state, 0, [], 0)
    }
    let stripes = bytes.count / 32
    llv_xxh64_stripes(&state, base, stripes)
    return llv_xxh64_finish(&state, 0, base + stripes * 32, UInt64(bytes.count))
  }

  public static func hash(_ bytes: [UInt8]) -> UInt64 { bytes.withUnsafeBytes { hash($0) } }

  /// 16 hexadecimal digits.
  public static func text(_ value: UInt64) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }
}

/// SHA-256: names a source file, equal to what `sha256sum` and model hubs print.
public struct SHA256: Sendable {
  private var state: [UInt32] = [
    0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19,
  ]
  private var blocks = Blocks(of: 64)

  public init() {}

  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    blocks.add(bytes) { llv_sha256_blocks(&state, $0, $1) }
  }

  public mutating func update(_ text: String) { Array(text.utf8).withUnsafeBytes { update($0) } }

  /// 64 hexadecimal digits.
  public func text() -> String {
    var state = state
    var last = blocks.tail + [0x80]
    last += [UInt8](repeating: 0, count: (119 - blocks.tail.count) % 64)
    withUnsafeBytes(of: (blocks.total * 8).bigEndian) { last += $0 }
    llv_sha256_blocks(&state, last, last.count / 64)
    return state.map { word in
      let digits = String(word, radix: 16)
      return String(repeating: "0", count: 8 - digits.count) + digits
    }.joined()
  }

  /// The digest of a whole file, read in pieces.
  public static func text(of view: ByteView) throws(Failure) -> String {
    var hash = SHA256()
    try view.forEachChunk { (chunk) throws(Failure) in hash.update(chunk) }
    return hash.text()
  }
}
