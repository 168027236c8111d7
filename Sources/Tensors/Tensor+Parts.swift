import Bytes

extension Tensor {
  /// The rows of a matrix, or the elements of a vector, in `range` alone, taken when they are asked for: codes, scales
  /// and zeros as they are.
  ///
  /// - Parameter range: inside the tensor, not empty.
  public func part(_ range: Range<Int>, named name: TensorName) throws(Failure) -> Tensor {
    // [count] of a vector, [count, …] of anything else.
    let wanted = [range.count] + shape.dropFirst()
    guard let first = shape.first, range.lowerBound >= 0, range.upperBound <= first, !range.isEmpty,
      let size = encoding.byteCount(wanted), let pieces = pieces(range, wanted)
    else { throw Failure(.malformed, "has no part \(range) of \(shape)", thing: "tensor \(self.name.quoted)") }
    return Tensor(name, shape: wanted, encoding: encoding, content: copied(pieces, size))
  }

  /// The matrix without the columns from `width` on: codes, scales and zeros of the others as they are. A group that is
  /// cut becomes a short one.
  public func cut(columns width: Int) throws(Failure) -> Tensor {
    let refusal = Failure(
      .unsupported, "\(encoding.text) cannot be cut to \(width) columns", thing: "tensor \(name.quoted)")
    guard shape.count == 2, width > 0, width <= columns else { throw refusal }
    let wanted = [rows, width]
    var (result, pieces) = (encoding, [(from: Int, count: Int, to: Int)]())
    func add(_ from: Int, _ old: Int, _ to: Int, _ new: Int) {
      for row in 0..<rows { pieces.append((from + row * old, new, to + row * new)) }
    }
    switch encoding {
    case .plain(let type): add(0, columns * type.bits / 8, 0, width * type.bits / 8)
    case .grouped(let integers):
      // One group a row stays one.
      guard integers.bits == 8 || width % 2 == 0,
        let short = GroupedInteger(
          bits: integers.bits, groupSize: min(integers.groupSize, width), form: integers.form,
          scaleType: integers.scaleType), let old = integers.layout(shape), let new = short.layout(wanted)
      else { throw refusal }
      result = .grouped(short)
      add(0, old.rowBytes, 0, new.rowBytes)
      add(old.scalesAt, old.scaleBytes, new.scalesAt, new.scaleBytes)
      if short.isAffine { add(old.zerosAt, old.zeroBytes, new.zerosAt, new.zeroBytes) }
    }
    guard let size = result.byteCount(wanted) else { throw refusal }
    return Tensor(name, shape: wanted, encoding: result, content: copied(pieces, size))
  }

  /// Content made of pieces of this tensor's bytes, with zeros between them.
  private func copied(_ pieces: [(from: Int, count: Int, to: Int)], _ size: Int) -> Content {
    .computed(
      Computation { (threads) throws(Failure) in
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
      })
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
