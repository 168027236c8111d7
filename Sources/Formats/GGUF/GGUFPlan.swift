import Bytes
import Tensors

/// A key of a GGUF file to be written, and its value.
struct GGUFKey {
  enum Value {
    case uint16(Int)
    case int32(Int)
    case uint32(Int)
    case float32(Double)
    case bool(Bool)
    case string(String)
    case strings([String])
    case int32s([Int])
    case float32s([Double])
    case uint8s([UInt8])
  }

  let name: String
  let value: Value

  init(_ name: String, _ value: Value) {
    self.name = name
    self.value = value
  }

  fileprivate var bytes: [UInt8] {
    func kind(_ kind: GGUFKeys.Kind) -> [UInt8] { kind.rawValue.bytes }
    let tail: [UInt8] =
      switch value {
      case .uint16(let number): kind(.uint16) + UInt16(number).bytes
      case .int32(let number): kind(.int32) + Int32(number).bytes
      case .uint32(let number): kind(.uint32) + UInt32(number).bytes
      case .float32(let number): kind(.float32) + Float(number).bitPattern.bytes
      case .bool(let truth): kind(.bool) + [truth ? 1 : 0]
      case .string(let text): kind(.string) + text.counted
      case .strings(let texts):
        kind(.array) + kind(.string) + UInt64(texts.count).bytes + texts.flatMap(\.counted)
      case .int32s(let numbers):
        kind(.array) + kind(.int32) + UInt64(numbers.count).bytes + numbers.flatMap { Int32($0).bytes }
      case .uint8s(let numbers): kind(.array) + kind(.uint8) + UInt64(numbers.count).bytes + numbers
      case .float32s(let numbers):
        kind(.array) + kind(.float32) + UInt64(numbers.count).bytes + numbers.flatMap { Float($0).bitPattern.bytes }
      }
    return name.counted + tail
  }
}

extension FixedWidthInteger {
  fileprivate var bytes: [UInt8] { withUnsafeBytes(of: littleEndian) { Array($0) } }
}

extension String {
  fileprivate var counted: [UInt8] { UInt64(utf8.count).bytes + Array(utf8) }
}

/// A GGUF file that is planned: what keys and tensors it will hold, under which names and types.
struct GGUFPlan {
  struct Entry {
    let name: String
    let tensor: Tensor
    let type: BlockType
    /// Whether the type holds the tensor as it is.
    var isKept = false
  }

  var path: String
  var keys: [GGUFKey]
  var entries: [Entry]

  static let alignment = 32

  /// Bytes of the entries' data.
  func dataBytes() throws(Failure) -> Int {
    var total = 0
    for entry in entries { total += try entry.type.byteCount(entry.tensor.shape) }
    return total
  }

  /// The plan cut into files of about `size` bytes of data, as `NAME-00001-of-0000N.gguf`; itself when one is enough.
  func split(size: Int) throws(Failure) -> [GGUFPlan] {
    var groups: [[Entry]] = [[]]
    var filled = 0
    for entry in entries {
      let bytes = try entry.type.byteCount(entry.tensor.shape)
      if filled > 0, filled + bytes > size {
        groups.append([])
        filled = 0
      }
      groups[groups.count - 1].append(entry)
      filled += bytes
    }
    guard groups.count > 1 else { return [self] }
    guard groups.count <= Limits.shards else {
      throw Failure(.usage, "--split would make \(groups.count) files, at most \(Limits.shards)")
    }
    let stem = path.hasSuffix(".gguf") ? String(path.dropLast(5)) : path
    return groups.enumerated().map { number, group in
      let own: [GGUFKey] = [
        .init("split.no", .uint16(number)), .init("split.count", .uint16(groups.count)),
        .init("split.tensors.count", .int32(entries.count)),
      ]
      return GGUFPlan(
        path: "\(stem)-\(GGUF.Parts.padded(number + 1))-of-\(GGUF.Parts.padded(groups.count)).gguf",
        keys: (number == 0 ? keys : []) + own, entries: group)
    }
  }

  /// Bytes of the whole file.
  func fileBytes() throws(Failure) -> Int {
    func padded(_ bytes: Int) -> Int { Checked.roundUp(bytes, to: GGUFPlan.alignment) ?? .max }
    var total = padded(try head().count)
    for entry in entries { total += padded(try entry.type.byteCount(entry.tensor.shape)) }
    return total
  }

  private func head() throws(Failure) -> [UInt8] {
    var head = Array("GGUF".utf8) + UInt32(3).bytes + UInt64(entries.count).bytes + UInt64(keys.count).bytes
    for key in keys { head += key.bytes }
    var offset = 0
    for entry in entries {
      let shape = entry.tensor.shape
      head += entry.name.counted + UInt32(shape.count).bytes
      for dimension in shape.reversed() { head += UInt64(dimension).bytes }
      head += UInt32(entry.type.number).bytes + UInt64(offset).bytes
      offset = Checked.roundUp(offset + (try entry.type.byteCount(shape)), to: GGUFPlan.alignment) ?? .max
    }
    return head
  }

  /// Writes header, keys, infos and data, tensor by tensor. Nothing is visible until the output is committed.
  ///
  /// - Parameter progress: called after each tensor with its bytes.
  func write(
    _ output: OutputFile, threads: Int, losses: inout [(name: String, loss: TensorLoss)], progress: (Int) -> Void
  ) throws(Failure) {
    try output.write(try head())
    try output.pad(to: GGUFPlan.alignment)
    for entry in entries {
      let (bytes, loss) = try BlockEncoder(
        tensor: entry.tensor, type: entry.type, isKept: entry.isKept
      ).run(threads: threads)
      if let loss { losses.append((entry.name, loss)) }
      try bytes.withBytes { (raw) throws(Failure) in try output.write(raw) }
      try output.pad(to: GGUFPlan.alignment)
      progress(bytes.count)
    }
  }
}
