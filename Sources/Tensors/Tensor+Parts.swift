import Bytes

extension Tensor {
  /// The rows of a matrix, or the elements of a vector, in `range` alone, taken when they are asked for: codes, scales
  /// and zeros as they are.
  ///
  /// - Parameter range: inside the tensor, not empty.
  public func part(_ range: Range<Int>, named name: TensorName) throws(Failure) -> Tensor {
    // [count] of a vector, [count, …] of anything else
    let wanted = [range.count] + shape.dropFirst()
    guard let first = shape.first, range.lowerBound >= 0, range.upperBound <= first, !range.isEmpty,
      let size = encoding.byteCount(wanted), let pieces = pieces(range, wanted)
    else { throw Failure(.malformed, "has no part \(range) of \(shape)", thing: "tensor \(self.name.quoted)") }
    let computation = Computation { (threads) throws(Failure) in
      let result = try Buffer(count: size)
      result.clear()
      if case .stored(let stored) = content {
        do throws(Failure) { try stored.copy(pieces, into: result) } catch {
          throw error.about("tensor \(self.name.quoted)")
        }
      } else {
        let view = ByteView(try load(threads: threads))
        for piece in pieces { try view.read(piece, into: result) }
      }
      return (result, nil)
    }
    return Tensor(name, shape: wanted, encoding: encoding, content: .computed(computation))
  }

  /// Where the parts of a range's bytes lie, and where they go.
  private func pieces(_ range: Range<Int>, _ wanted: [Int]) -> [(from: Int, count: Int, to: Int)]? {
    switch encoding {
    case .plain:
      guard let size = encoding.byteCount(wanted), size % range.count == 0 else { return nil }
      return [(range.lowerBound * (size / range.count), size, 0)]
    case .grouped(let integers):
      guard shape.count == 2, let old = integers.layout(shape), let new = integers.layout(wanted) else { return nil }
      func piece(_ from: Int, _ to: Int, _ width: Int) -> (from: Int, count: Int, to: Int) {
        (from + range.lowerBound * width, range.count * width, to)
      }
      let codes = [piece(0, 0, old.rowBytes), piece(old.scalesAt, new.scalesAt, old.scaleBytes)]
      return integers.isAffine ? codes + [piece(old.zerosAt, new.zerosAt, old.zeroBytes)] : codes
    }
  }
}
