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

/// Integers of 8, 4, 3 or 2 bits in groups along the rows (the last dimension) of a tensor.
///
/// - Value of code `q`: `q · scale` (symmetric) or `q · scale + zero` (affine), computed in Float32; or, with two
///   levels, `scale · (step · (q · unit - zero))`, where the scale is the row's and step and zero are the group's and
///   whole: exact in Float32.
/// - Codes: symmetric -128…127 (of which we choose -127…127), -8…7, -4…3 or -2…1, two's complement; otherwise 0…255,
///   0…15, 0…7 or 0…3.
/// - Groups: `groupSize` elements from the start of each row; the last group of a row may be short.
/// - Bytes: codes `[rows, ceil(columns · bits / 8)]`, one after the other, earlier ones in lower bits; then scales
///   `[rows, groups]`; then, where affine, zeros `[rows, groups]`. With two levels scales `[rows]`, then a byte for
///   each group `[rows, groups]`, `step - 1` in its low half and the zero in the high half. Each part starts at a
///   multiple of 64 bytes.
public struct GroupedInteger: Sendable, Hashable {
  public enum Form: String, Sendable {
    case symmetric, affine
    /// At most 4 bits, groups of a multiple of eight: products of a whole row are then sums of integers, `step · (q ·
    /// unit - zero)`.
    case twoLevel = "two-level"
  }

  /// Bits that codes are stored with.
  public static let widths = [2, 3, 4, 8]

  /// The fewest of these that hold codes of `bits`, 2 to 8.
  public static func room(_ bits: Int) -> Int { bits > 4 ? 8 : bits }

  public let bits: Int
  public let groupSize: Int
  public let form: Form
  /// Type of scales and zeros: F16, BF16 or F32; F16 or BF16 with two levels.
  public let scaleType: DType

  /// Whether codes are unsigned and a zero is added to their multiples of the scale.
  public var isAffine: Bool { form != .symmetric }

  /// With two levels what codes are multiplied with, so that the zeros of few codes may lie between them: 1, 2 or 4.
  public var unit: Int { form == .twoLevel ? 16 >> bits : 1 }

  /// nil when the numbers name no encoding we have.
  public init?(bits: Int, groupSize: Int, form: Form, scaleType: DType = .F16) {
    guard GroupedInteger.widths.contains(bits), groupSize > 0, [.F16, .BF16, .F32].contains(scaleType) else {
      return nil
    }
    if form == .twoLevel { guard bits <= 4, groupSize % 8 == 0, scaleType != .F32 else { return nil } }
    self.bits = bits
    self.groupSize = groupSize
    self.form = form
    self.scaleType = scaleType
  }

  public init?(bits: Int, groupSize: Int, isAffine: Bool, scaleType: DType = .F16) {
    self.init(bits: bits, groupSize: groupSize, form: isAffine ? .affine : .symmetric, scaleType: scaleType)
  }

  public var text: String {
    let usual: DType = form == .twoLevel ? .BF16 : .F16
    return "int\(bits) g\(groupSize)\(form == .symmetric ? "" : " \(form.rawValue)")"
      + (scaleType == usual ? "" : " \(scaleType.rawValue)")
  }

  /// Where the parts of a tensor lie. Offsets and lengths in bytes.
  public struct Layout: Sendable {
    public let rows, columns, groups: Int
    public let rowBytes, scalesAt, zerosAt, byteCount: Int
    /// Bytes of a row's scales, and of its zeros or its steps.
    public let scaleBytes, zeroBytes: Int
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
    guard let scaleBytes = Checked.multiply(form == .twoLevel ? 1 : groups, scaleType.bits / 8) else { return nil }
    let zeroBytes = form == .symmetric ? 0 : form == .twoLevel ? groups : scaleBytes
    guard let scales = Checked.multiply(rows, scaleBytes), let end = Checked.add(scalesAt, scales),
      let zerosAt = Checked.roundUp(end, to: 64), let zeros = Checked.multiply(rows, zeroBytes),
      let zerosEnd = Checked.add(zerosAt, zeros)
    else { return nil }
    return Layout(
      rows: rows, columns: columns, groups: groups, rowBytes: Checked.ceilDivide(codeBits, 8), scalesAt: scalesAt,
      zerosAt: isAffine ? zerosAt : end, byteCount: isAffine ? zerosEnd : end, scaleBytes: scaleBytes,
      zeroBytes: zeroBytes)
  }
}
