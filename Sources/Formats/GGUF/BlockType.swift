import Bytes
import CKernels
import Tensors

/// ggml's tensor types: what a block of each holds, and how the IR holds the same values exactly.
///
/// Layouts: `src/ggml-common.h` of ggml-org/ggml; Formats/gguf/spec.md has them as a table.
struct BlockType: Sendable, Equatable {
  let number: Int
  let name: String
  /// Elements and bytes of a block.
  let elements, bytes: Int
  let encoding: Encoding?

  private init(_ number: Int, _ name: String, _ elements: Int, _ bytes: Int, _ encoding: Encoding? = nil) {
    self.number = number
    self.name = name
    self.elements = elements
    self.bytes = bytes
    self.encoding = encoding
  }

  private static func grouped(_ bits: Int, _ group: Int, _ isAffine: Bool, _ scale: DType) -> Encoding? {
    GroupedInteger(bits: bits, groupSize: group, isAffine: isAffine, scaleType: scale).map { .grouped($0) }
  }

  /// Codes of more than four bits, and those of a code book, are held in eight. Types without an encoding are legal and
  /// not read.
  static let all: [BlockType] = [
    .init(0, "F32", 1, 4, .plain(.F32)), .init(1, "F16", 1, 2, .plain(.F16)), .init(30, "BF16", 1, 2, .plain(.BF16)),
    .init(28, "F64", 1, 8, .plain(.F64)), .init(24, "I8", 1, 1, .plain(.I8)), .init(25, "I16", 1, 2, .plain(.I16)),
    .init(26, "I32", 1, 4, .plain(.I32)), .init(27, "I64", 1, 8, .plain(.I64)),
    .init(9, "Q8_1", 32, 36, grouped(8, 32, false, .F16)), .init(15, "Q8_K", 256, 292, grouped(8, 256, false, .F32)),
    .init(23, "IQ4_XS", 256, 136, grouped(8, 32, false, .F32)),
    .init(39, "MXFP4", 32, 17, grouped(8, 32, false, .F32)),
    .init(16, "IQ2_XXS", 256, 66), .init(17, "IQ2_XS", 256, 74), .init(18, "IQ3_XXS", 256, 98),
    .init(19, "IQ1_S", 256, 50), .init(21, "IQ3_S", 256, 110), .init(22, "IQ2_S", 256, 82), .init(29, "IQ1_M", 256, 56),
    .init(34, "TQ1_0", 256, 54), .init(35, "TQ2_0", 256, 66), .init(40, "NVFP4", 64, 36),
  ] + BlockForm.allCases.map { .init($0.number, $0.rawValue, $0.elements, $0.bytes, $0.encoding) }

  private static let byNumber = Dictionary(uniqueKeysWithValues: all.map { ($0.number, $0) })

  /// Numbers that earlier versions of the format used.
  private static let removed: Set<UInt32> = [4, 5, 31, 32, 33, 36, 37, 38]

  /// - Throws: `unsupported` for removed and for unknown numbers, `malformed` for what can be no number at all.
  static func find(_ number: UInt32) throws(Failure) -> BlockType {
    if let type = byNumber[Int(number)] { return type }
    if removed.contains(number) { throw Failure(.unsupported, "type \(number) was removed from GGUF") }
    guard number < 1_000 else { throw Failure(.malformed, "type \(number) is none") }
    throw Failure(.unsupported, "type \(number) is unknown to this program")
  }

  /// - Precondition: `name` is one of the table's.
  static func named(_ name: String) -> BlockType? { all.first { $0.name == name.uppercased() } }

  /// Bytes of a tensor of `shape`, outermost dimension first.
  /// - Throws: `malformed` when rows are not whole blocks, or the sizes overflow, whatever their order.
  func byteCount(_ shape: [Int]) throws(Failure) -> Int {
    guard (shape.last ?? 1) % elements == 0 else {
      throw Failure(
        .malformed, "rows of \(shape.last ?? 1): not a multiple of \(elements), the elements of a \(name) block")
    }
    guard let count = Checked.product(shape), let total = Checked.multiply(count / elements, bytes) else {
      throw Failure(.malformed, "shape \(shape): too many elements")
    }
    return total
  }

  /// The tensor that `blocks` hold. Its bytes are taken apart when somebody asks for them.
  ///
  /// - Throws: `unsupported` for types that the IR has no encoding for.
  func tensor(_ name: TensorName, _ shape: [Int], _ blocks: ByteView, isBigEndian: Bool) throws(Failure) -> Tensor {
    guard let encoding else { throw Failure(.unsupported, "type \(self.name) (\(number)) is not read") }
    switch encoding {
    case .plain(let type):
      guard isBigEndian, bytes > 1 else {
        return Tensor(name, shape: shape, encoding: .plain(type), content: .bytes(blocks))
      }
      let width = bytes
      let swapped = Tensor.Computation { (_) throws(Failure) in (try BlockType.swapped(blocks, width), nil) }
      return Tensor(name, shape: shape, encoding: encoding, content: .computed(swapped))
    case .grouped(let integers):
      let type = self
      let computation = Tensor.Computation { (threads) throws(Failure) in
        (try type.unpacked(blocks, shape, integers, isBigEndian: isBigEndian, threads: threads), nil)
      }
      // An empty tensor has no groups.
      guard integers.layout(shape) != nil else {
        return Tensor(name, shape: shape, encoding: .plain(.F32), content: .bytes(blocks))
      }
      return Tensor(name, shape: shape, encoding: encoding, content: .computed(computation))
    }
  }

  private static func swapped(_ view: ByteView, _ width: Int) throws(Failure) -> Buffer {
    let result = try Buffer(count: view.count)
    try result.withMutableBytes { (bytes) throws(Failure) in
      try view.read(at: 0, into: bytes)
      for start in stride(from: 0, to: bytes.count, by: width) { bytes[start..<start + width].reverse() }
    }
    return result
  }

  private func unpacked(
    _ view: ByteView, _ shape: [Int], _ integers: GroupedInteger, isBigEndian: Bool, threads: Int
  ) throws(Failure) -> Buffer {
    guard let layout = integers.layout(shape) else { throw Failure(.internal, "no layout for \(shape)") }
    let writer = try GroupedWriter(integers, layout)
    let (elements, bytes, number, group) = (elements, bytes, Int32(number), integers.groupSize)
    try writer.forEachSpan(threads: threads) { (rows, part) throws(Failure) in
      let blocks = rows.count * layout.columns / elements
      let stored = try Buffer(count: blocks * bytes)
      try stored.withMutableBytes { (target) throws(Failure) in
        try view.read(at: rows.lowerBound * layout.columns / elements * bytes, into: target)
        llv_ggml_unpack(
          number, target.baseAddress, blocks, isBigEndian ? 1 : 0, elements, group, part.codes, part.scales, part.zeros)
      }
    }
    return writer.result
  }
}
