import Bytes

/// The key-value part of a GGUF file (ggml's model format), versions 2 and 3, little endian.
public struct GGUF: Sendable {
  public enum Value: Sendable, Equatable {
    case integer(Int64)
    case real(Double)
    case bool(Bool)
    case string([UInt8])
    case array([Value])
  }

  public let values: [(key: String, value: Value)]
  private let places: [String: Int]

  public subscript(key: String) -> Value? { places[key].map { values[$0].value } }

  /// - Throws: `malformed` naming the key and the byte; `unsupported` for other versions and byte orders.
  public static func read(_ path: String) throws(Failure) -> GGUF {
    let file = try InputFile(path)
    do throws(Failure) { return try GGUF(ByteView(file, 0, file.count)) } catch { throw error.inFile(path) }
  }

  init(_ view: ByteView) throws(Failure) {
    var reader = ByteReader(view)
    guard try reader.bytes(4, "magic").elementsEqual("GGUF".utf8) else {
      throw Failure(.malformed, "magic is not GGUF", place: "byte 0")
    }
    let version = try reader.integer(UInt32.self, "version")
    guard version == 2 || version == 3 else {
      throw Failure(.unsupported, "GGUF version \(version) is not read; 2 and 3, little endian, are", place: "byte 4")
    }
    _ = try reader.count("tensor count", limit: Limits.tensors)
    // A key takes at least 13 bytes.
    let count = try reader.count("key count", limit: reader.left / 13)
    var values: [(key: String, value: Value)] = []
    var places: [String: Int] = [:]
    for _ in 0..<count {
      let at = reader.at
      let length = try reader.count("key length", limit: Limits.nameBytes)
      let bytes = try reader.bytes(length, "key")
      guard let key = String(validating: bytes, as: UTF8.self), !bytes.isEmpty else {
        throw Failure(.malformed, "key \(Failure.quoted(bytes)) is no text", place: "byte \(at)")
      }
      do throws(Failure) {
        let type = try reader.integer(UInt32.self, "value type")
        let value = try GGUF.value(type, &reader, isElement: false)
        guard places.updateValue(values.count, forKey: key) == nil else {
          throw Failure(.malformed, "the key comes twice", place: "byte \(at)")
        }
        values.append((key, value))
      } catch { throw error.about("key \(Failure.quoted(bytes))") }
    }
    self.values = values
    self.places = places
  }

  private static func value(_ type: UInt32, _ reader: inout ByteReader, isElement: Bool) throws(Failure) -> Value {
    switch type {
    case 0: return .integer(Int64(try reader.integer(UInt8.self, "value")))
    case 1: return .integer(Int64(try reader.integer(Int8.self, "value")))
    case 2: return .integer(Int64(try reader.integer(UInt16.self, "value")))
    case 3: return .integer(Int64(try reader.integer(Int16.self, "value")))
    case 4: return .integer(Int64(try reader.integer(UInt32.self, "value")))
    case 5: return .integer(Int64(try reader.integer(Int32.self, "value")))
    case 6: return .real(Double(Float(bitPattern: try reader.integer(UInt32.self, "value"))))
    case 7:
      let at = reader.at
      let byte = try reader.integer(UInt8.self, "value")
      guard byte <= 1 else { throw Failure(.malformed, "a bool of \(byte)", place: "byte \(at)") }
      return .bool(byte == 1)
    case 8: return .string(try reader.bytes(try reader.count("string length", limit: Limits.jsonString), "string"))
    case 9 where !isElement: return try array(&reader)
    case 10:
      let at = reader.at
      guard let value = Int64(exactly: try reader.integer(UInt64.self, "value")) else {
        throw Failure(.malformed, "a number above 2^63 - 1", place: "byte \(at)")
      }
      return .integer(value)
    case 11: return .integer(try reader.integer(Int64.self, "value"))
    case 12: return .real(Double(bitPattern: try reader.integer(UInt64.self, "value")))
    case 9: throw Failure(.unsupported, "an array of arrays is not read", place: "byte \(reader.at)")
    default: throw Failure(.malformed, "unknown value type \(type)", place: "byte \(reader.at - 4)")
    }
  }

  private static func array(_ reader: inout ByteReader) throws(Failure) -> Value {
    let type = try reader.integer(UInt32.self, "element type")
    let sizes: [UInt32: Int] = [0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 8: 8, 10: 8, 11: 8, 12: 8]
    guard let size = sizes[type] else {
      throw Failure(
        type == 9 ? .unsupported : .malformed, "an array of elements of type \(type)", place: "byte \(reader.at - 4)")
    }
    let count = try reader.count("array length", limit: min(Limits.arrayElements, (reader.left - 8) / size))
    var values: [Value] = []
    values.reserveCapacity(count)
    for _ in 0..<count { values.append(try value(type, &reader, isElement: true)) }
    return .array(values)
  }
}
