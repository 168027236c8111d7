import Bytes

/// Which items a file held, in a few numbers: the smallest hashes of its different items (Broder 1997), by which
/// another file's share of them can be told.
public struct ItemSketch: Sendable, Equatable {
  private static let size = 128

  /// Different items there were.
  public let count: Int
  private let hashes: [UInt64]

  public init(_ items: [Item]) {
    let all = Set(items.map(\.contentHash))
    count = all.count
    hashes = Array(all.sorted().prefix(ItemSketch.size))
  }

  /// How many of this sketch's items are among `others`, about.
  public func common(with others: [Item]) -> Int {
    let known = Set(others.map(\.contentHash))
    return hashes.isEmpty ? 0 : hashes.count { known.contains($0) } * count / hashes.count
  }

  public var json: JSONText {
    ["items": .int(count), "hashes": .array(hashes.map { .string(XXH64.text($0)) })]
  }

  public init(_ json: JSON) throws(Failure) {
    try json.refuseUnknownKeys(["items", "hashes"])
    count = try json.required("items").integer("items", in: 0...1 << 40)
    var hashes: [UInt64] = []
    for element in try json.required("hashes").elements("hashes") {
      guard let hash = UInt64(try element.string("hash"), radix: 16), hashes.count < ItemSketch.size else {
        throw element.failure("at most \(ItemSketch.size) hexadecimal hashes expected")
      }
      hashes.append(hash)
    }
    self.hashes = hashes
  }
}

extension Item {
  /// Of texts and of the names of files.
  fileprivate var contentHash: UInt64 {
    var hash = XXH64()
    for part in [text, instruction, video] + images {
      let bytes: [UInt8] = part.map { [1] + Array($0.utf8) } ?? [0]
      withUnsafeBytes(of: bytes.count) { hash.update($0) }
      bytes.withUnsafeBytes { hash.update($0) }
    }
    return hash.value()
  }
}
