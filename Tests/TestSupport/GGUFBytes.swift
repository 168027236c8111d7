/// A GGUF file, version 3: keys and tensors.
public struct GGUFBytes {
  private var keys = 0
  private var body: [UInt8] = []
  private var infos: [[UInt8]] = []
  private var data: [UInt8] = []

  public init() {}

  public static func le<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
  }
  private static func text(_ bytes: [UInt8]) -> [UInt8] { le(UInt64(bytes.count)) + bytes }

  public mutating func add(_ key: String, _ type: UInt32, _ value: [UInt8]) {
    keys += 1
    body += GGUFBytes.text(Array(key.utf8)) + GGUFBytes.le(type) + value
  }

  public mutating func add(_ key: String, string: [UInt8]) { add(key, 8, GGUFBytes.text(string)) }

  public mutating func add(_ key: String, strings: [[UInt8]]) {
    add(key, 9, GGUFBytes.le(UInt32(8)) + GGUFBytes.le(UInt64(strings.count)) + strings.flatMap(GGUFBytes.text))
  }

  public mutating func add(_ key: String, integers: [Int]) {
    add(
      key, 9,
      GGUFBytes.le(UInt32(5)) + GGUFBytes.le(UInt64(integers.count)) + integers.flatMap { GGUFBytes.le(Int32($0)) })
  }

  /// - Parameter dimensions: the fastest first, as the file has them.
  public mutating func add(tensor name: String, type: UInt32 = 0, dimensions: [Int], _ bytes: [UInt8]) {
    infos.append(
      GGUFBytes.text(Array(name.utf8)) + GGUFBytes.le(UInt32(dimensions.count))
        + dimensions.flatMap { GGUFBytes.le(UInt64($0)) } + GGUFBytes.le(type) + GGUFBytes.le(UInt64(data.count)))
    data += bytes + [UInt8](repeating: 0, count: (32 - bytes.count % 32) % 32)
  }

  public var bytes: [UInt8] {
    let head =
      Array("GGUF".utf8) + GGUFBytes.le(UInt32(3)) + GGUFBytes.le(UInt64(infos.count)) + GGUFBytes.le(UInt64(keys))
      + body + infos.flatMap { $0 }
    guard !infos.isEmpty else { return head }
    return head + [UInt8](repeating: 0, count: (32 - head.count % 32) % 32) + data
  }
}
