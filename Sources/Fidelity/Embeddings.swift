import Bytes
import CKernels

/// What a search ranks by.
public enum Metric: String, Sendable, CaseIterable {
  case cosine
  case innerProduct = "ip"
  /// Euclidean distance, the nearest first.
  case l2
}

/// Vectors of one width, in memory or in a file that is read block by block.
public struct Embeddings: Sendable {
  /// Columns of the rows that are given out.
  public let width: Int
  public let count: Int
  private let storage: Storage
  private var coding: VectorCoding?
  private var form = Form.stored

  private enum Storage: Sendable {
    case memory([Float])
    /// Row-major.
    case file(ByteView, Element)
  }

  /// What a file holds.
  enum Element: Sendable, Equatable {
    case float32, float16, int8
    /// Bits as bytes; those that sentence-transformers calls binary have the highest one turned over.
    case bits(isTurned: Bool)
    /// A row of bits for 1, then one for -1.
    case ternary

    /// Bytes of a row of `width` columns.
    func bytes(_ width: Int) -> Int? {
      switch self {
      case .float32: Checked.product([width, 4])
      case .float16: Checked.product([width, 2])
      case .int8: width
      case .bits: width / 8
      case .ternary: width / 4
      }
    }
  }

  /// What is done to rows before they are given out, so that inner products rank as a metric does.
  private enum Form: Sendable, Equatable {
    case stored
    /// Length 1; zero stays zero.
    case unit
    /// One more column: `q·d - ‖d‖² / 2` falls as the distance rises.
    case query, document
  }

  /// - Parameter values: `[count, width]`.
  public init(width: Int, values: [Float]) {
    precondition(width > 0 && values.count % width == 0, "whole rows")
    self.width = width
    count = values.count / width
    storage = .memory(values)
  }

  /// - Parameter bytes: `[count, width]`; of bits, whole bytes of them.
  init(width: Int, count: Int, bytes: ByteView, element: Element) {
    precondition(element.bytes(width).map { bytes.count == count * $0 } ?? false, "whole rows")
    self.width = width
    self.count = count
    storage = .file(bytes, element)
  }

  /// Vectors of one width one after the other, in memory, as they are given out.
  init(joining all: [Embeddings]) throws(Failure) {
    var values: [Float] = []
    for vectors in all { values += try vectors.rows(0..<vectors.count) }
    self.init(width: all.first?.width ?? 1, values: values)
  }

  private init(_ other: Embeddings, _ form: Form) {
    (storage, count, coding, self.form) = (other.storage, other.count, other.coding, form)
    width = other.ownWidth + (form == .query || form == .document ? 1 : 0)
  }

  private init(_ other: Embeddings, _ coding: VectorCoding) {
    (storage, count, self.coding, width) = (other.storage, other.count, coding, coding.width)
  }

  /// The same vectors so that inner products rank them as `metric` does.
  public func ranked(by metric: Metric, isQuery: Bool) -> Embeddings {
    switch metric {
    case .innerProduct: self
    case .cosine: Embeddings(self, .unit)
    case .l2: Embeddings(self, isQuery ? .query : .document)
    }
  }

  /// The same vectors as an index of a form gives them out, coded when they are read; codes stay as they are.
  public func coded(by coding: VectorCoding) -> Embeddings { codes == nil ? Embeddings(self, coding) : self }

  /// What the vectors are codes of where a file holds no numbers.
  public var codes: VectorForm.Precision? {
    guard case .file(_, let element) = storage else { return nil }
    return switch element {
    case .float32, .float16: nil
    case .int8: .int8
    case .bits: .binary
    case .ternary: .ternary
    }
  }

  /// Whether every number is 1 or -1, so that products can be those of bits.
  var isBits: Bool { form == .stored && (codes ?? coding?.form.precision) == .binary }

  /// Rows before a metric's form.
  private var ownWidth: Int { form == .query || form == .document ? width - 1 : width }

  /// Some rows, `[rows.count, width]`.
  public func rows(_ rows: Range<Int>) throws(Failure) -> [Float] {
    var stored = try storedRows(rows)
    if let coding { stored = coding.coded(stored) }
    guard form != .stored else { return stored }
    let own = ownWidth
    if form == .unit {
      stored.withUnsafeMutableBufferPointer { values in
        guard let start = values.baseAddress else { return }
        for row in 0..<rows.count { llv_normalize_row(start + row * own, own, start + row * own) }
      }
      return stored
    }
    var result: [Float] = []
    result.reserveCapacity(rows.count * width)
    for row in 0..<rows.count {
      let values = stored[row * own..<(row + 1) * own]
      let squares = values.reduce(0.0) { $0 + Double($1) * Double($1) }
      switch form {
      case .stored, .unit: result += values
      case .query: result += values + [1]
      case .document: result += values + [Float(-squares / 2)]
      }
    }
    return result
  }

  /// Rows as bits, of `isBits` alone: `[rows.count, ceil(width / 8)]` bytes, the first column in the highest bit.
  func bits(_ rows: Range<Int>) throws(Failure) -> [UInt8] {
    if let coding { return coding.signs(try storedRows(rows)) }
    guard case .file(let bytes, .bits(let isTurned)) = storage else {
      throw Failure(.internal, "these vectors are no bits")
    }
    let part = try Embeddings.read(bytes, rows, width / 8).array(of: UInt8.self)
    return isTurned ? part.map { $0 ^ 0x80 } : part
  }

  private func storedRows(_ rows: Range<Int>) throws(Failure) -> [Float] {
    let width = coding?.columns ?? ownWidth
    switch storage {
    case .memory(let values): return Array(values[rows.lowerBound * width..<rows.upperBound * width])
    case .file(let bytes, let element):
      let part = try Embeddings.read(bytes, rows, element.bytes(width) ?? 0)
      switch element {
      case .float32: return part.array(of: Float.self)
      case .float16:
        var values = [Float](repeating: 0, count: rows.count * width)
        values.withUnsafeMutableBufferPointer { target in
          if let to = target.baseAddress { llv_f16_to_f32(part.start, to, target.count) }
        }
        return values
      case .int8: return part.array(of: Int8.self).map(Float.init)
      case .bits(let isTurned):
        let turn: UInt8 = isTurned ? 0x80 : 0
        return part.array(of: UInt8.self).flatMap { byte in
          (0..<8).map { (byte ^ turn) << UInt8($0) & 0x80 > 0 ? 1 : -1 }
        }
      case .ternary:
        let (bytes, size) = (part.array(of: UInt8.self), width / 8)
        func bit(_ place: Int, _ column: Int) -> Float {
          bytes[place + column / 8] << UInt8(column % 8) & 0x80 > 0 ? 1 : 0
        }
        return (0..<rows.count).flatMap { row in
          (0..<width).map { bit(row * 2 * size, $0) - bit((row * 2 + 1) * size, $0) }
        }
      }
    }
  }

  private static func read(_ bytes: ByteView, _ rows: Range<Int>, _ size: Int) throws(Failure) -> Buffer {
    let part = try Buffer(count: rows.count * size)
    try part.withMutableBytes { (target) throws(Failure) in try bytes.read(at: rows.lowerBound * size, into: target) }
    return part
  }

  /// Single rows, in the order asked for, `[places.count, width]`.
  public func rows(at places: [Int]) throws(Failure) -> [Float] {
    var result: [Float] = []
    result.reserveCapacity(places.count * width)
    for place in places { result += try rows(place..<place + 1) }
    return result
  }

  /// At most `most` rows, evenly spread.
  public func sample(_ most: Int) throws(Failure) -> Embeddings {
    count <= most ? self : Embeddings(width: width, values: try rows(at: Embeddings.spread(count, most)))
  }

  /// At most `most` of `count` places, evenly spread.
  static func spread(_ count: Int, _ most: Int) -> [Int] {
    count <= most ? Array(0..<count) : (0..<most).map { $0 * count / most }
  }
}
