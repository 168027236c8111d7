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

  /// The matrix without the columns from `width` on: codes, scales and zeros of the others as they are. Where a group
  /// is cut, all become as many smaller ones as it takes to have whole groups, each with the scale of the one it was
  /// in: other programs know no short groups.
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
      guard width * integers.bits % 8 == 0,
        let short = GroupedInteger(
          bits: integers.bits, groupSize: integers.size(dividing: width), form: integers.form,
          scaleType: integers.scaleType), let old = integers.layout(shape), let new = short.layout(wanted)
      else { throw refusal }
      result = .grouped(short)
      add(0, old.rowBytes, 0, new.rowBytes)
      func addGroups(_ from: Int, _ old: Int, _ to: Int, _ new: Int, _ size: Int) {
        for row in 0..<rows {
          for group in 0..<new / size {
            let source = old == size ? 0 : group * short.groupSize / integers.groupSize
            pieces.append((from + row * old + source * size, size, to + row * new + group * size))
          }
        }
      }
      let size = integers.scaleType.bits / 8
      addGroups(old.scalesAt, old.scaleBytes, new.scalesAt, new.scaleBytes, size)
      if short.isAffine {
        addGroups(old.zerosAt, old.zeroBytes, new.zerosAt, new.zeroBytes, short.form == .twoLevel ? 1 : size)
      }
    }
    guard let size = result.byteCount(wanted) else { throw refusal }
    let content = Content.computed(
      Computation { [pieces] (threads) throws(Failure) in
        let (view, made) = (ByteView(try load(threads: threads)), try Buffer(count: size))
        made.clear()
        for piece in pieces { try view.read(piece, into: made) }
        return (made, nil)
      })
    return Tensor(name, shape: wanted, encoding: result, content: content)
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

extension GroupedInteger {
  /// Groups that rows of `width` are whole ones of: the largest that this one's groups are, too. Its own where these
  /// would have fewer than eight elements; the last one of a row is then short.
  fileprivate func size(dividing width: Int) -> Int {
    guard groupSize < width else { return width }
    var (a, b) = (groupSize, width)
    while b > 0 { (a, b) = (b, a % b) }
    return a >= 8 ? a : groupSize
  }
}
