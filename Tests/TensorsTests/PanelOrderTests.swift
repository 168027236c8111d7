import Bytes
import Tensors
import TestSupport
import Testing

struct PanelOrderTests {
  static let encodings: [Encoding] =
    [DType.F32, .F16, .BF16].map { .plain($0) }
    + [
      (8, 32, .symmetric, .F16), (8, 7, .affine, .F32), (4, 20, .symmetric, .F16), (4, 33, .affine, .BF16),
      (4, 5, .affine, .F16), (4, 16, .twoLevel, .BF16), (4, 40, .twoLevel, .F16), (3, 32, .affine, .F16),
      (3, 21, .symmetric, .F16), (3, 24, .twoLevel, .BF16), (2, 32, .affine, .F32), (2, 21, .symmetric, .F16),
      (2, 40, .twoLevel, .BF16),
    ].compactMap { (bits: Int, group: Int, form: GroupedInteger.Form, scale: DType) in
      GroupedInteger(bits: bits, groupSize: group, form: form, scaleType: scale).map { .grouped($0) }
    }

  /// Random bytes; what no tensor has in the gaps between its parts and after the last code of a row, zero.
  static func bytes(_ encoding: Encoding, _ shape: [Int]) throws -> Buffer {
    var random = Random(seed: 11)
    let buffer = try Buffer(count: try #require(encoding.byteCount(shape)))
    buffer.with(UInt8.self) { for index in $0.indices { $0[index] = UInt8(random.below(256)) } }
    guard case .grouped(let integers) = encoding else { return buffer }
    let layout = try #require(integers.layout(shape))
    buffer.withMutableBytes { bytes in
      let codes = layout.rows * layout.rowBytes
      let scales = layout.scalesAt + layout.rows * layout.scaleBytes
      for index in codes..<layout.scalesAt { bytes[index] = 0 }
      if integers.isAffine { for index in scales..<layout.zerosAt { bytes[index] = 0 } }
      let rest = layout.columns * integers.bits % 8
      guard rest > 0 else { return }
      for row in 0..<layout.rows { bytes[(row + 1) * layout.rowBytes - 1] &= UInt8(1 << rest) - 1 }
    }
    return buffer
  }

  @Test("what is put into panels comes back", arguments: encodings.indices)
  func whatIsPutIntoPanelsComesBack(_ index: Int) throws {
    let encoding = PanelOrderTests.encodings[index]
    for shape in [[1, 40], [16, 64], [37, 47], [50, 96]] {
      let order = try #require(PanelOrder(encoding, shape))
      let bytes = try PanelOrderTests.bytes(encoding, shape)
      let packed = try order.pack(bytes, threads: 3)
      #expect(packed.count == order.byteCount)
      #expect(try order.unpack(packed, threads: 2).array(of: UInt8.self) == bytes.array(of: UInt8.self), "\(shape)")
    }
  }

  @Test("whole panels of F32 are columns of sixteen rows side by side")
  func wholePanelsAreColumnsSideBySide() throws {
    let tensor = try Tensor("w", floats: (0..<34).map(Float.init), shape: [17, 2])
    let (order, bytes) = try tensor.panels(threads: 1)
    #expect(order.panels == 2 && order.rows(1) == 16..<17)
    let found = bytes.array(of: Float.self)
    #expect(found[0..<16].elementsEqual((0..<16).map { Float(2 * $0) }))
    #expect(found[16..<32].elementsEqual((0..<16).map { Float(2 * $0 + 1) }))
    #expect(found[32] == 32 && found[48] == 33 && found[33..<48].allSatisfy { $0 == 0 })
  }

  @Test("only matrices of types that kernels take have panels")
  func onlyMatricesHavePanels() throws {
    #expect(PanelOrder(.plain(.F64), [4, 4]) == nil && PanelOrder(.plain(.F32), [4]) == nil)
    #expect(PanelOrder(.plain(.F32), [.max, 16]) == nil && PanelOrder(.plain(.F32), [4, 0]) == nil)
    for encoding in PanelOrderTests.encodings {
      for columns in [Int.max, Int.max / 4, 1 << 60, 1 << 54] { #expect(PanelOrder(encoding, [0, columns]) == nil) }
    }
    #expect(throws: Failure.self) {
      try Tensor("w", shape: [2], encoding: .plain(.I32), content: .bytes(ByteView(try Buffer(count: 8)))).panels(
        threads: 1)
    }
  }
}
