import Bytes
import CKernels

extension Tensor {
  /// Whether both are integers of one width with the same codes, scales and zeros, in whatever types and groups these
  /// are stored. A symmetric code is the same as an affine one whose zero is what offset binary adds.
  ///
  /// - Cost: both tensors in memory.
  public func hasSameCodes(as other: Tensor, threads: Int) throws(Failure) -> Bool {
    guard shape == other.shape, case .grouped(let a) = encoding, case .grouped(let b) = other.encoding,
      a.bits == b.bits, let first = a.layout(shape), let second = b.layout(shape)
    else { return false }
    let (x, y) = (try load(threads: threads), try other.load(threads: threads))
    let memory = [try Row(first), try Row(second)]
    for row in 0..<first.rows {
      memory[0].read(row, x, a, first)
      memory[1].read(row, y, b, second)
      guard memory[0].isEqual(memory[1], a.groupSize, b.groupSize) else { return false }
    }
    return true
  }

  /// Codes of a row as unsigned numbers, and scales and zeros of its groups.
  private struct Row {
    let codes, scales, zeros: Buffer

    init(_ layout: GroupedInteger.Layout) throws(Failure) {
      codes = try Buffer(count: layout.columns)
      (scales, zeros) = (try Buffer(count: layout.groups * 4), try Buffer(count: layout.groups * 4))
    }

    func read(_ row: Int, _ bytes: Buffer, _ integers: GroupedInteger, _ layout: GroupedInteger.Layout) {
      let half = UInt8(1 << (integers.bits - 1))
      bytes.withBytes { bytes in
        guard let base = bytes.baseAddress else { return }
        codes.with(UInt8.self) { codes in
          llv_unpack_bytes(
            base + row * layout.rowBytes, layout.columns, Int32(integers.bits), integers.isAffine ? 1 : 0,
            codes.baseAddress)
          if !integers.isAffine { for index in codes.indices { codes[index] &+= half } }
        }
        scales.with(Float.self) { scales in
          zeros.with(Float.self) { zeros in
            integers.decodeSteps(of: row, base, layout, scales: scales, zeros: zeros)
            if !integers.isAffine { for index in zeros.indices { zeros[index] = -Float(half) * scales[index] } }
          }
        }
      }
    }

    func isEqual(_ other: Row, _ size: Int, _ otherSize: Int) -> Bool {
      let isSame = codes.withBytes { a in other.codes.withBytes { b in a.elementsEqual(b) } }
      return isSame
        && [(scales, other.scales), (zeros, other.zeros)].allSatisfy { a, b in
          a.with(Float.self) { a in
            b.with(Float.self) { b in
              (0..<codes.count).allSatisfy { a[$0 / size] == b[$0 / otherSize] }
            }
          }
        }
    }
  }
}
