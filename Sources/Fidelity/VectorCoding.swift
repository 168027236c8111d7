import Bytes
import CKernels

/// A form for vectors of one width, with all that it takes to make codes of them.
///
/// Codes are those of sentence-transformers' `quantize_embeddings`, to the bit: int8 is
/// `floor((x - low) / ((high - low) / 255))` cut to 0...255, less 128; binary is whether a value is above zero.
public struct VectorCoding: Sendable {
  public let form: VectorForm
  /// Of the vectors that are coded.
  public let columns: Int
  /// Of these the first.
  public let kept: Int
  /// Columns of codes: as many as are kept, filled up to a whole byte where they are bits, with what is not above zero.
  public let width: Int
  /// Of 8-bit codes alone.
  public let ranges: ColumnRanges?
  private let steps: [Float]

  /// - Throws: `usage` where a form has more columns than the vectors, or ranges are missing or of another width.
  public init(_ form: VectorForm, columns: Int, ranges: ColumnRanges? = nil) throws(Failure) {
    try form.check(columns: columns)
    let kept = form.width ?? columns
    (self.form, self.columns, self.kept) = (form, columns, kept)
    width = form.precision.isBits ? Checked.ceilDivide(kept, 8) * 8 : kept
    self.ranges = form.precision == .int8 ? ranges : nil
    guard form.precision == .int8 else {
      steps = []
      return
    }
    guard let ranges else { throw Failure(.usage, "8-bit codes of vectors need the ranges of their columns") }
    guard ranges.width == kept else {
      throw Failure(.usage, "the ranges are of \(ranges.width) columns, \(kept) are kept")
    }
    steps = (0..<kept).map(ranges.step)
  }

  /// The columns that are kept, `[rows, kept]` of `[rows, columns]`.
  func cut(_ values: [Float]) -> [Float] {
    guard form.width != nil else { return values }
    let rows = values.count / columns
    return [Float](unsafeUninitializedCapacity: rows * kept) { target, count in
      values.withUnsafeBufferPointer { values in
        guard let from = values.baseAddress, let to = target.baseAddress else { return }
        for row in 0..<rows { llv_normalize_row(from + row * columns, kept, to + row * kept) }
      }
      count = rows * kept
    }
  }

  /// Rows as an index of this form gives them out, codes as numbers: `[rows, width]` of `[rows, columns]`. What is not
  /// a number stays that, but for bits, which have no such value.
  public func coded(_ values: [Float]) -> [Float] {
    let values = cut(values)
    if form.precision == .float32 { return values }
    let rows = values.count / kept
    return [Float](unsafeUninitializedCapacity: rows * width) { target, count in
      values.withUnsafeBufferPointer { values in
        for row in 0..<rows {
          code(
            UnsafeBufferPointer(rebasing: values[row * kept..<(row + 1) * kept]),
            UnsafeMutableBufferPointer(rebasing: target[row * width..<(row + 1) * width]))
        }
      }
      count = rows * width
    }
  }

  private func code(_ x: UnsafeBufferPointer<Float>, _ y: UnsafeMutableBufferPointer<Float>) {
    switch form.precision {
    case .float32: _ = y.update(from: x)
    case .float16: for place in 0..<kept { y[place] = llv_half_to_float(llv_half_from_float(x[place])) }
    case .int8:
      for place in 0..<kept {
        let code = ((x[place] - (ranges?.low[place] ?? 0)) / steps[place]).rounded(.down)
        y[place] = code.isNaN ? code : min(max(code, 0), 255) - 128
      }
    case .binary:
      for place in 0..<width { y[place] = place < kept && x[place] > 0 ? 1 : -1 }
    case .ternary:
      let bound = 0.7 * x.reduce(0.0) { $0 + Double(abs($1)) } / Double(kept)
      for place in 0..<width {
        let value = place < kept ? Double(x[place]) : 0
        y[place] = value > bound ? 1 : value < -bound ? -1 : 0
      }
    }
  }

  /// The bytes of some vectors as indexes hold them, finite `[rows, columns]`: little-endian floats, signed bytes, bits
  /// with the first column in a byte's highest; of ternary codes first the bits of 1, then those of -1.
  public func bytes(_ values: [Float]) -> [UInt8] {
    let coded = coded(values)
    switch form.precision {
    case .float32: return coded.withUnsafeBytes { Array($0) }
    case .float16: return coded.map(llv_half_from_float).withUnsafeBytes { Array($0) }
    case .int8: return coded.map { UInt8(bitPattern: Int8($0)) }
    case .binary: return VectorCoding.bits(coded) { $0 > 0 }
    case .ternary:
      return stride(from: 0, to: coded.count, by: width).flatMap { row in
        let codes = Array(coded[row..<row + width])
        return VectorCoding.bits(codes) { $0 > 0 } + VectorCoding.bits(codes) { $0 < 0 }
      }
    }
  }

  /// A bit for each value, whole bytes of them.
  static func bits(_ values: [Float], _ isSet: (Float) -> Bool) -> [UInt8] {
    stride(from: 0, to: values.count, by: 8).map { first in
      (0..<8).reduce(UInt8(0)) { $0 << 1 | (isSet(values[first + $1]) ? 1 : 0) }
    }
  }

  /// Whether each value is above zero, `[rows, width / 8]` bytes of `[rows, columns]`: the codes of a binary form.
  func signs(_ values: [Float]) -> [UInt8] {
    let (rows, size) = (values.count / columns, width / 8)
    return [UInt8](unsafeUninitializedCapacity: rows * size) { target, count in
      values.withUnsafeBufferPointer { values in
        for row in 0..<rows {
          let from = row * columns
          for byte in 0..<size {
            var bits: UInt8 = 0
            let (first, end) = (byte * 8, min(kept, byte * 8 + 8))
            for column in first..<end { bits |= (values[from + column] > 0 ? 0x80 : 0) >> UInt8(column - first) }
            target[row * size + byte] = bits
          }
        }
      }
      count = rows * size
    }
  }

  /// What a float query says of a document's codes: their product, 8-bit codes as the values that they stand for.
  ///
  /// - Parameters:
  ///   - query: `[kept]`.
  ///   - codes: `[width]`.
  func score(_ query: ArraySlice<Float>, _ codes: ArraySlice<Float>) -> Double {
    var sum = 0.0
    for column in 0..<kept {
      var value = Double(codes[codes.startIndex + column])
      if let ranges { value = (value + 128) * Double(steps[column]) + Double(ranges.low[column]) }
      sum += Double(query[query.startIndex + column]) * value
    }
    return sum
  }
}
