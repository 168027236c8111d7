import Bytes

/// How a tensor's elements are written as bytes.
public enum Encoding: Sendable, Hashable {
  /// One element after the other, row-major, little endian.
  case plain(DType)
  /// Integer codes with one scale, and where affine one zero, for each group of a row.
  case grouped(GroupedInteger)

  public var isPlain: Bool {
    if case .plain = self { true } else { false }
  }

  /// Bytes for a tensor of `shape`; nil when that overflows or is no whole number of bytes.
  public func byteCount(_ shape: [Int]) -> Int? {
    switch self {
    case .plain(let type):
      guard let elements = Checked.product(shape), let bits = Checked.multiply(elements, type.bits), bits % 8 == 0
      else {
        return nil
      }
      return bits / 8
    case .grouped(let integers):
      return integers.layout(shape)?.byteCount
    }
  }

  /// `F32`, `int4 g32 affine`: for people.
  public var text: String {
    switch self {
    case .plain(let type): type.rawValue
    case .grouped(let integers): integers.text
    }
  }
}

/// Integers of 8 or 4 bits in groups along the rows (the last dimension) of a tensor.
///
/// - Value of code `q`: `q · scale` (symmetric) or `q · scale + zero` (affine), computed in Float32.
/// - Codes: symmetric -128…127 (of which we choose -127…127) or -8…7, two's complement; affine 0…255 or 0…15.
/// - Groups: `groupSize` elements from the start of each row; the last group of a row may be short.
/// - Bytes: codes `[rows, ceil(columns · bits / 8)]`, of two 4-bit codes the earlier in the low half of the byte; then
///   scales `[rows, groups]`; then, where affine, zeros `[rows, groups]`. Scales and zeros start at multiples of 64 bytes.
public struct GroupedInteger: Sendable, Hashable {
  public let bits: Int
  public let groupSize: Int
  public let isAffine: Bool
  /// Type of scales and zeros: F16, BF16 or F32.
  public let scaleType: DType

  /// nil when the numbers name no encoding we have.
  public init?(bits: Int, groupSize: Int, isAffine: Bool, scaleType: DType = .F16) {
    guard bits == 4 || bits == 8, groupSize > 0, [.F16, .BF16, .F32].contains(scaleType) else { return nil }
    self.bits = bits
    self.groupSize = groupSize
    self.isAffine = isAffine
    self.scaleType = scaleType
  }

  public var text: String {
    "int\(bits) g\(groupSize)\(isAffine ? " affine" : "")\(scaleType == .F16 ? "" : " \(scaleType.rawValue)")"
  }

  /// Where the parts of a tensor lie. Offsets and lengths in bytes.
  public struct Layout: Sendable {
    public let rows, columns, groups: Int
    public let rowBytes, scalesAt, zerosAt, byteCount: Int
  }

  /// The layout for `shape`; nil when it overflows, has no columns, or a group is longer than the row.
  public func layout(_ shape: [Int]) -> Layout? {
    guard let columns = shape.last, columns > 0, groupSize <= columns,
      let rows = Checked.product(Array(shape.dropLast())),
      let codeBits = Checked.multiply(columns, bits),
      let codes = Checked.multiply(rows, Checked.ceilDivide(codeBits, 8)),
      let scalesAt = Checked.roundUp(codes, to: 64)
    else { return nil }
    let groups = Checked.ceilDivide(columns, groupSize)
    guard let scales = Checked.multiply(rows, groups * scaleType.bits / 8), let end = Checked.add(scalesAt, scales),
      let zerosAt = Checked.roundUp(end, to: 64), let zerosEnd = Checked.add(zerosAt, scales)
    else { return nil }
    return Layout(
      rows: rows, columns: columns, groups: groups, rowBytes: Checked.ceilDivide(codeBits, 8), scalesAt: scalesAt,
      zerosAt: isAffine ? zerosAt : end, byteCount: isAffine ? zerosEnd : end)
  }
}
