import Bytes

extension Tensor {
  /// The same elements, in as many dimensions of other sizes; the last is that of the old where it is quantized.
  public func reshaped(_ shape: [Int]) -> Tensor { Tensor(name, shape: shape, encoding: encoding, content: content) }

  /// Matrices of one width and encoding, one below the other: codes, scales and zeros as they are.
  ///
  /// - Throws: `unsupported` where encodings differ.
  public static func stacked(_ parts: [Tensor], named name: TensorName) throws(Failure) -> Tensor {
    let (first, rows) = (parts[0], parts.reduce(0) { $0 + $1.rows })
    let shape = [rows, first.columns]
    if let other = parts.first(where: { $0.encoding != first.encoding || $0.columns != first.columns }) {
      throw Failure(
        .unsupported,
        "is \(other.encoding.text) and \(first.name.quoted) is \(first.encoding.text), but both have to "
          + "be in one tensor", thing: "tensor \(other.name.quoted)")
    }
    guard let size = first.encoding.byteCount(shape) else {
      throw Failure(.limit, "shape \(shape)", thing: "tensor \(name.quoted)")
    }
    let computation = Computation { (threads) throws(Failure) in
      let result = try Buffer(count: size)
      result.clear()
      var done = 0
      for part in parts {
        let view = ByteView(try part.load(threads: threads))
        for section in try first.sections(part.shape, shape) {
          try view.read((section.from, part.rows * section.width, section.to + done * section.width), into: result)
        }
        done += part.rows
      }
      return (result, nil)
    }
    return Tensor(name, shape: shape, encoding: first.encoding, content: .computed(computation))
  }

  /// Where codes, scales and zeros start in a matrix of one shape and of another, and bytes of each row.
  private func sections(_ old: [Int], _ new: [Int]) throws(Failure) -> [(from: Int, to: Int, width: Int)] {
    guard case .grouped(let integers) = encoding else { return [(0, 0, encoding.byteCount([1, new[1]]) ?? 0)] }
    guard let old = integers.layout(old), let new = integers.layout(new) else {
      throw Failure(.internal, "no layout for \(new)")
    }
    let all = [
      (0, 0, old.rowBytes), (old.scalesAt, new.scalesAt, old.scaleBytes), (old.zerosAt, new.zerosAt, old.zeroBytes),
    ]
    return integers.isAffine ? all : Array(all.prefix(2))
  }

  /// The matrix with its rows in another order: codes, scales and zeros as they are. A vector with its elements so.
  ///
  /// - Parameter rows: each once.
  public func reordered(rows: [Int]) -> Tensor {
    let matrix = shape.count == 1 ? reshaped([shape[0], 1]) : self
    let computation = Computation { (threads) throws(Failure) in
      let view = ByteView(try load(threads: threads))
      let result = try Buffer(count: byteCount)
      result.clear()
      for section in try matrix.sections(matrix.shape, matrix.shape) {
        for (to, from) in rows.enumerated() {
          try view.read(
            (section.from + from * section.width, section.width, section.to + to * section.width), into: result)
        }
      }
      return (result, nil)
    }
    return Tensor(name, shape: shape, encoding: encoding, content: .computed(computation))
  }

  /// The matrix with rows and columns exchanged: plain elements as they are, grouped integers as Float32.
  public func transposed() -> Tensor {
    let (rows, columns) = (rows, columns)
    guard case .plain(let type) = encoding else {
      let floats = Computation { (threads) throws(Failure) in (try self.floats(threads: threads), nil) }
      return Tensor(name, shape: shape, encoding: .plain(.F32), content: .computed(floats)).transposed()
    }
    let width = type.bits / 8
    let computation = Computation { (threads) throws(Failure) in
      let (source, result) = (try load(threads: threads), try Buffer(count: byteCount))
      for row in 0..<rows {
        for column in 0..<columns {
          (result.start + (column * rows + row) * width).copyMemory(
            from: source.start + (row * columns + column) * width, byteCount: width)
        }
      }
      return (result, nil)
    }
    return Tensor(name, shape: [columns, rows], encoding: encoding, content: .computed(computation))
  }
}
