import Bytes

extension Tensor {
  /// The same tensor with the given rows alone, in that order.
  ///
  /// - Parameter rows: ascending, each once, inside the tensor, which is a matrix.
  /// - Cost: raw bytes are read once in small pieces (their checksum covers all of them); only the result is in memory.
  public func gathered(rows: [Int]) throws(Failure) -> Tensor {
    var pieces: [(from: Int, count: Int, to: Int)] = []
    let shape = [rows.count, columns]
    switch encoding {
    case .plain(let type):
      let width = columns * type.bits / 8
      for (index, row) in rows.enumerated() { pieces.append((row * width, width, index * width)) }
    case .grouped(let integers):
      guard let old = integers.layout(self.shape), let new = integers.layout(shape) else {
        throw Failure(.internal, "no layout for \(shape)")
      }
      func add(_ from: Int, _ to: Int, _ width: Int) {
        for (index, row) in rows.enumerated() { pieces.append((from + row * width, width, to + index * width)) }
      }
      add(0, 0, old.rowBytes)
      add(old.scalesAt, new.scalesAt, old.scaleBytes)
      if integers.isAffine { add(old.zerosAt, new.zerosAt, old.zeroBytes) }
    }
    let result = try Buffer(count: encoding.byteCount(shape) ?? 0)
    result.clear()
    do throws(Failure) {
      switch content {
      case .stored(let stored): try stored.copy(pieces, into: result)
      default:
        let view = ByteView(try load())
        for piece in pieces { try view.read(piece, into: result) }
      }
    } catch { throw error.about("tensor \(name.quoted)") }
    return Tensor(name, shape: shape, encoding: encoding, content: .bytes(ByteView(result)))
  }
}
