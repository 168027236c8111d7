import Bytes
import Foundation
import Testing

/// A row of `Formats/*/cases.json`: how to make a file, and what must become of it.
public struct Case: Sendable, CustomTestStringConvertible {
  public let id: String
  /// nil where the file must be accepted.
  public let refusal: Failure.Kind?
  /// Words that the message, or a note, must hold.
  public let words: [String]
  public let json: JSON

  public var testDescription: String { id }

  /// All rows of a format's folder.
  public static func load(_ folder: String) throws -> [Case] {
    let json = try Repository.json("Formats/\(folder)/cases.json")
    return try json.required("cases").elements().map(Case.init)
  }

  private init(_ json: JSON) throws {
    self.json = json
    id = try json.required("id").string()
    let expect = try json.required("expect").string()
    refusal = Failure.Kind(rawValue: expect)
    precondition(refusal != nil || expect == "accept", "case \(id) expects \(expect)")
    words = try json.required("words").elements().map { try $0.string() }
  }

  /// What is wrong with an outcome, nil when it is the one asked for.
  public func complaint(_ outcome: Result<[String], Failure>) -> String? {
    switch (outcome, refusal) {
    case (.success(let notes), nil):
      let text = notes.joined(separator: "\n")
      return words.first { !text.contains($0) }.map { "\(id): accepted, but no note says \($0): \(text)" }
    case (.success, .some): return "\(id): accepted, must be refused"
    case (.failure(let failure), nil): return "\(id): must be accepted, but: \(failure)"
    case (.failure(let failure), .some(let kind)):
      if failure.kind != kind { return "\(id): \(failure.kind), \(kind) expected: \(failure)" }
      if let word = words.first(where: { !failure.description.contains($0) }) {
        return "\(id): no \(word) in: \(failure)"
      }
      let lines = failure.description.split(separator: "\n")
      if lines.contains(where: { $0.utf8.contains { $0 < 0x20 } }) { return "\(id): control characters in: \(failure)" }
      return nil
    }
  }

  /// The bytes that the parts of a recipe make, one after the other.
  public static func bytes(_ parts: JSON) throws -> [UInt8] {
    var result: [UInt8] = []
    for part in try parts.elements() {
      for (key, value) in try part.members() {
        switch String(decoding: key, as: UTF8.self) {
        case "text": result += try value.bytes()
        case "hex": result += try hex(try value.string())
        case "zeros": result += [UInt8](repeating: 0, count: try value.integer(in: 0...(1 << 30)))
        case "le64": withUnsafeBytes(of: try number(value).littleEndian) { result += $0 }
        case "be64": withUnsafeBytes(of: try number(value).bigEndian) { result += $0 }
        case "repeat":
          let parts = try value.elements()
          let text = try parts[0].bytes()
          for _ in 0..<(try parts[1].integer(in: 0...(1 << 30))) { result += text }
        case "repeat-hex":
          let parts = try value.elements()
          let bytes = try hex(try parts[0].string())
          for _ in 0..<(try parts[1].integer(in: 0...(1 << 30))) { result += bytes }
        case "counted":  // text with # for the number, how many, separator
          let parts = try value.elements()
          let pieces = try parts[0].string().split(separator: "#", omittingEmptySubsequences: false).map {
            Array($0.utf8)
          }
          let separator = try parts[2].bytes()
          for index in 0..<(try parts[1].integer(in: 0...(1 << 30))) {
            if index > 0 { result += separator }
            for (place, piece) in pieces.enumerated() {
              if place > 0 { result += String(index).utf8 }
              result += piece
            }
          }
        case "header":
          let header = value.kind == .string ? try value.bytes() : try bytes(value)
          withUnsafeBytes(of: UInt64(header.count).littleEndian) { result += $0 }
          result += header
        case let other: throw Failure(.malformed, "unknown part \(other)")
        }
      }
    }
    return result
  }

  private static func number(_ json: JSON) throws -> UInt64 {
    guard let value = UInt64(try json.string()) else { throw json.failure("not a number") }
    return value
  }

  private static func hex(_ text: String) throws -> [UInt8] {
    let digits = Array(text)
    return stride(from: 0, to: digits.count, by: 2).compactMap { UInt8(String(digits[$0...$0 + 1]), radix: 16) }
  }
}

/// Runs `body` and gives its failure as a value.
public func outcome<T>(_ body: () throws(Failure) -> T) -> Result<T, Failure> {
  do throws(Failure) { return .success(try body()) } catch { return .failure(error) }
}
