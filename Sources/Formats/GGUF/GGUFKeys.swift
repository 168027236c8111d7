import Bytes

/// The keys of a GGUF file with their values.
public struct GGUFKeys: Sendable {
  /// A value. Arrays stay as the file's bytes until somebody asks: a vocabulary has a million elements.
  public enum Value: Sendable {
    case integer(Int64)
    case real(Double)
    case bool(Bool)
    case string([UInt8])
    case array(GGUFArray)
  }

  enum Kind: UInt32 {
    case uint8, int8, uint16, int16, uint32, int32, float32, bool, string, array, uint64, int64, float64

    /// Bytes of an element; of a string, those of its length.
    var size: Int {
      switch self {
      case .uint8, .int8, .bool: 1
      case .uint16, .int16: 2
      case .uint32, .int32, .float32: 4
      case .string, .array, .uint64, .int64, .float64: 8
      }
    }
  }

  public let values: [(key: String, value: Value)]
  private let places: [String: Int]
  /// Keys that are unsigned 32-bit numbers, as the alignment must be.
  private let alignmentKind: Kind?

  public subscript(key: String) -> Value? { places[key].map { values[$0].value } }

  init(_ reader: inout ByteReader, _ header: GGUF.Header) throws(Failure) {
    var values: [(key: String, value: Value)] = []
    var places: [String: Int] = [:]
    var alignmentKind: Kind?
    values.reserveCapacity(header.keys)
    places.reserveCapacity(header.keys)
    for _ in 0..<header.keys {
      let at = reader.at
      let bytes = try reader.bytes(try header.length(&reader, "key length", limit: Limits.nameBytes), "key")
      if let problem = GGUFKeys.problem(bytes) { throw Failure(.malformed, problem, place: "byte \(at)") }
      let key = String(decoding: bytes, as: UTF8.self)
      do throws(Failure) {
        let kind = try GGUFKeys.kind(&reader)
        if key == GGUFKeys.alignmentKey { alignmentKind = kind }
        let value = kind == .array ? .array(try GGUFArray(&reader, header)) : try GGUFKeys.value(kind, &reader, header)
        guard places.updateValue(values.count, forKey: key) == nil else {
          throw Failure(.malformed, "duplicate: the key comes twice", place: "byte \(at)")
        }
        values.append((key, value))
      } catch { throw error.about("key \(Failure.quoted(bytes))") }
    }
    self.values = values
    self.places = places
    self.alignmentKind = alignmentKind
  }

  private static func problem(_ key: [UInt8]) -> String? {
    if key.isEmpty { return "an empty key" }
    if key.contains(where: { $0 >= 0x80 }) { return "key \(Failure.quoted(key)) must be ASCII" }
    if key.contains(where: { $0 < 0x20 || $0 == 0x7F }) { return "control character in key \(Failure.quoted(key))" }
    return nil
  }

  static func kind(_ reader: inout ByteReader) throws(Failure) -> Kind {
    let at = reader.at
    let number = try reader.integer(UInt32.self, "value type")
    guard let kind = Kind(rawValue: number) else {
      throw Failure(.malformed, "value type \(number) is none", place: "byte \(at)")
    }
    return kind
  }

  static func value(_ kind: Kind, _ reader: inout ByteReader, _ header: GGUF.Header) throws(Failure) -> Value {
    let at = reader.at
    switch kind {
    case .uint8: return .integer(Int64(try reader.integer(UInt8.self, "value")))
    case .int8: return .integer(Int64(try reader.integer(Int8.self, "value")))
    case .uint16: return .integer(Int64(try reader.integer(UInt16.self, "value")))
    case .int16: return .integer(Int64(try reader.integer(Int16.self, "value")))
    case .uint32: return .integer(Int64(try reader.integer(UInt32.self, "value")))
    case .int32: return .integer(Int64(try reader.integer(Int32.self, "value")))
    case .int64: return .integer(try reader.integer(Int64.self, "value"))
    case .float32: return .real(Double(Float(bitPattern: try reader.integer(UInt32.self, "value"))))
    case .float64: return .real(Double(bitPattern: try reader.integer(UInt64.self, "value")))
    case .uint64:
      guard let value = Int64(exactly: try reader.integer(UInt64.self, "value")) else {
        throw Failure(.unsupported, "a number above 2^63 - 1", place: "byte \(at)")
      }
      return .integer(value)
    case .bool:
      let byte = try reader.integer(UInt8.self, "value")
      guard byte <= 1 else { throw Failure(.malformed, "a bool of \(byte)", place: "byte \(at)") }
      return .bool(byte == 1)
    case .string:
      return .string(
        try reader.bytes(try header.length(&reader, "string length", limit: Limits.jsonString), "string"))
    case .array: throw Failure(.unsupported, "an array of arrays is not read", place: "byte \(at)")
    }
  }

  // MARK: Typed access

  static func wrong(_ key: String, _ what: String, _ kind: Failure.Kind = .malformed) -> Failure {
    Failure(kind, what, thing: "key \(Failure.quoted(key))")
  }

  private static let alignmentKey = "general.alignment"

  /// Of tensor data, in bytes.
  func alignment() throws(Failure) -> Int {
    guard let value = self[GGUFKeys.alignmentKey] else { return 32 }
    guard alignmentKind == .uint32, case .integer(let number) = value else {
      throw GGUFKeys.wrong(GGUFKeys.alignmentKey, "must be u32")
    }
    guard number > 0, number & (number - 1) == 0 else {
      throw GGUFKeys.wrong(GGUFKeys.alignmentKey, "\(number) is no power of two")
    }
    guard number <= Limits.alignment else {
      throw Failure(
        .limit, "\(number), at most \(Limits.alignment)", thing: "key \(Failure.quoted(GGUFKeys.alignmentKey))")
    }
    return Int(number)
  }

  func integer(_ key: String, in range: ClosedRange<Int>) throws(Failure) -> Int? {
    guard let value = self[key] else { return nil }
    guard case .integer(let number) = value else { throw GGUFKeys.wrong(key, "must be a whole number") }
    guard range.contains(Int(number)) else {
      throw GGUFKeys.wrong(key, "\(number) is not in \(range.lowerBound)...\(range.upperBound)")
    }
    return Int(number)
  }

  func real(_ key: String) throws(Failure) -> Double? {
    guard let value = self[key] else { return nil }
    guard case .real(let number) = value, number.isFinite else { throw GGUFKeys.wrong(key, "must be a number") }
    return number
  }

  func bool(_ key: String) throws(Failure) -> Bool? {
    guard let value = self[key] else { return nil }
    guard case .bool(let truth) = value else { throw GGUFKeys.wrong(key, "must be a bool") }
    return truth
  }

  func text(_ key: String) throws(Failure) -> String? {
    guard let value = self[key] else { return nil }
    guard case .string(let bytes) = value, let text = String(validating: bytes, as: UTF8.self) else {
      throw GGUFKeys.wrong(key, "must be UTF-8 text")
    }
    return text
  }

  func array(_ key: String) throws(Failure) -> GGUFArray? {
    guard let value = self[key] else { return nil }
    guard case .array(let array) = value else { throw GGUFKeys.wrong(key, "must be an array") }
    return array
  }

  /// The value of a key that must be there.
  func required<T>(_ key: String, _ value: T?) throws(Failure) -> T {
    guard let value else { throw GGUFKeys.wrong(key, "is missing") }
    return value
  }

  func requiredText(_ key: String) throws(Failure) -> String { try required(key, try text(key)) }

  func requiredInteger(_ key: String, in range: ClosedRange<Int>) throws(Failure) -> Int {
    try required(key, try integer(key, in: range))
  }

  func texts(_ key: String) throws(Failure) -> [String] {
    let array = try required(key, try array(key))
    do throws(Failure) { return try array.texts() } catch { throw error.about("key \(Failure.quoted(key))") }
  }

  func integers(_ key: String, count: Int? = nil) throws(Failure) -> [Int64] {
    let array = try required(key, try array(key))
    guard count ?? array.count == array.count else {
      throw GGUFKeys.wrong(key, "has \(array.count) elements, must have equal length to the tokens: \(count ?? 0)")
    }
    do throws(Failure) { return try array.integers() } catch { throw error.about("key \(Failure.quoted(key))") }
  }

  func reals(_ key: String) throws(Failure) -> [Double]? {
    guard let array = try array(key) else { return nil }
    do throws(Failure) { return try array.reals() } catch { throw error.about("key \(Failure.quoted(key))") }
  }
}

/// An array of a GGUF file, as its bytes.
public struct GGUFArray: Sendable {
  private let kind: GGUFKeys.Kind
  private let bytes: [UInt8]
  /// Where each string ends; empty for numbers.
  private let ends: [Int]
  private let isBigEndian: Bool
  public let count: Int

  init(_ reader: inout ByteReader, _ header: GGUF.Header) throws(Failure) {
    let at = reader.at
    kind = try GGUFKeys.kind(&reader)
    guard kind != .array else { throw Failure(.unsupported, "an array of arrays is not read", place: "byte \(at)") }
    let size = kind == .string && header.version == 1 ? 4 : kind.size
    let widthOfCount = header.version == 1 ? 4 : 8
    let room = max(0, reader.left - widthOfCount) / size
    count = try header.length(&reader, "array length", limit: min(Limits.arrayElements, room))
    isBigEndian = reader.isBigEndian
    guard kind == .string else {
      bytes = try reader.bytes(count * size, "array")
      ends = []
      if kind == .bool, let place = bytes.firstIndex(where: { $0 > 1 }) {
        throw Failure(.malformed, "a bool of \(bytes[place])", place: "byte \(reader.at - bytes.count + place)")
      }
      return
    }
    var all: [UInt8] = []
    var ends: [Int] = []
    ends.reserveCapacity(count)
    for _ in 0..<count {
      all += try reader.bytes(try header.length(&reader, "string length", limit: Limits.jsonString), "string")
      ends.append(all.count)
    }
    (bytes, self.ends) = (all, ends)
  }

  func texts() throws(Failure) -> [String] {
    guard kind == .string else { throw Failure(.malformed, "must be an array of texts") }
    var result: [String] = []
    result.reserveCapacity(count)
    var start = 0
    for (index, end) in ends.enumerated() {
      guard let text = String(validating: bytes[start..<end], as: UTF8.self) else {
        throw Failure(.malformed, "element \(index) is no UTF-8 text")
      }
      result.append(text)
      start = end
    }
    return result
  }

  func integers() throws(Failure) -> [Int64] {
    switch kind {
    case .uint8: elements(UInt8.self).map(Int64.init)
    case .int8: elements(Int8.self).map(Int64.init)
    case .uint16: elements(UInt16.self).map(Int64.init)
    case .int16: elements(Int16.self).map(Int64.init)
    case .uint32: elements(UInt32.self).map(Int64.init)
    case .int32: elements(Int32.self).map(Int64.init)
    case .uint64: elements(UInt64.self).map { Int64(clamping: $0) }
    case .int64: elements(Int64.self)
    case .bool, .float32, .float64, .string, .array: throw Failure(.malformed, "must be an array of whole numbers")
    }
  }

  func reals() throws(Failure) -> [Double] {
    switch kind {
    case .float32: elements(UInt32.self).map { Double(Float(bitPattern: $0)) }
    case .float64: elements(UInt64.self).map { Double(bitPattern: $0) }
    default: throw Failure(.malformed, "must be an array of float32")
    }
  }

  private func elements<T: FixedWidthInteger>(_ type: T.Type) -> [T] {
    bytes.withUnsafeBytes { bytes in
      (0..<count).map {
        let value = bytes.loadUnaligned(fromByteOffset: $0 * MemoryLayout<T>.size, as: T.self)
        return isBigEndian ? T(bigEndian: value) : T(littleEndian: value)
      }
    }
  }
}
