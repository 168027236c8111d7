import Bytes
import CKernels
import Tensors

/// A tensor's numbers that training moves: scales and zeros of integers, whose codes stay, or the values themselves.
///
/// Each number moves in units of its own: a scale in parts of itself, a zero in steps of its group, a value in parts of
/// the tensor's root mean square. So one learning rate suits them all. What the model is given is rounded to the type
/// in which it is stored; gradients go straight through that rounding.
package struct Tunable: Sendable {
  /// As it was.
  private let tensor: Tensor
  private let form: Form
  private let starts, units: [Float]
  /// How far each number has come, in units.
  package var moves: [Float]
  /// By the moves, added up over batches.
  package private(set) var gradient: [Float]
  /// Running means of the gradient and of its square.
  package var means, squares: [Float]

  private enum Form {
    case values
    /// Scales, then zeros; with two levels scales of rows, then steps.
    case integers(GroupedInteger, GroupedInteger.Layout)
  }

  package var name: TensorName { tensor.name }
  package var count: Int { moves.count }

  /// - Throws: `unsupported` for types that no weight has.
  package init(_ given: Tensor, threads: Int) throws(Failure) {
    let bytes = try given.load(threads: threads)
    tensor = Tensor(given.name, shape: given.shape, encoding: given.encoding, content: .bytes(ByteView(bytes)))
    switch given.encoding {
    case .plain:
      form = .values
      starts = try tensor.floats(threads: threads).array(of: Float.self)
      let square = starts.reduce(0) { $0 + Double($1) * Double($1) } / Double(max(1, starts.count))
      // Numbers that are all zero have no size to go by.
      units = [Float](repeating: square > 0 ? Float(square.squareRoot()) : 0.01, count: starts.count)
    case .grouped(let integers):
      guard let layout = integers.layout(given.shape) else { throw Failure(.internal, "a weight without layout") }
      form = .integers(integers, layout)
      (starts, units) = Tunable.steps(bytes, integers, layout)
    }
    moves = [Float](repeating: 0, count: starts.count)
    (gradient, means, squares) = (moves, moves, moves)
  }

  private static func steps(
    _ bytes: Buffer, _ integers: GroupedInteger, _ layout: GroupedInteger.Layout
  ) -> (starts: [Float], units: [Float]) {
    let count = layout.rows * layout.groups
    func scales(_ at: Int, _ count: Int) -> [Float] {
      [Float](unsafeUninitializedCapacity: count) { target, filled in
        integers.decodeScales(bytes.start + at, into: UnsafeMutableBufferPointer(rebasing: target[..<count]))
        filled = count
      }
    }
    switch integers.form {
    case .symmetric:
      let own = scales(layout.scalesAt, count)
      return (own, own)
    case .affine:
      let own = scales(layout.scalesAt, count)
      return (own + scales(layout.zerosAt, count), own + own)
    case .twoLevel:
      let own = scales(layout.scalesAt, layout.rows)
      let steps = bytes.withBytes { bytes in (0..<count).map { Float(bytes[layout.zerosAt + $0] % 16 + 1) } }
      return (own + steps, own + steps)
    }
  }

  // MARK: What it has become

  /// The tensor as it is now, rounded as it is stored.
  package func current() throws(Failure) -> Tensor {
    var numbers = zip(zip(starts, units), moves).map { $0.0 + $0.1 * $1 }
    // A scale that grows takes its zero along, so that it moves elements in proportion and not all the same way.
    if case .integers(let integers, _) = form, integers.form == .affine {
      let groups = count / 2
      for group in 0..<groups { numbers[groups + group] += starts[groups + group] * moves[group] }
    }
    let original = try tensor.load()
    let bytes = try Buffer(count: original.count)
    bytes.start.copyMemory(from: original.start, byteCount: original.count)
    numbers.withUnsafeBufferPointer { numbers in
      switch form {
      case .values: tensor.encode(numbers, into: bytes)
      case .integers(let integers, let layout):
        let scales = integers.form == .twoLevel ? layout.rows : layout.rows * layout.groups
        integers.encodeScales(UnsafeBufferPointer(rebasing: numbers[..<scales]), into: bytes.start + layout.scalesAt)
        let rest = UnsafeBufferPointer(rebasing: numbers[scales...])
        switch integers.form {
        case .symmetric: break
        case .affine: integers.encodeScales(rest, into: bytes.start + layout.zerosAt)
        case .twoLevel:
          bytes.withMutableBytes { bytes in
            for (group, step) in rest.enumerated() {
              let zero = Int(bytes[layout.zerosAt + group] / 16)
              bytes[layout.zerosAt + group] = UInt8(Tunable.step(step, zero: zero) - 1 + 16 * zero)
            }
          }
        }
      }
    }
    return Tensor(name, shape: tensor.shape, encoding: tensor.encoding, content: .bytes(ByteView(bytes)))
  }

  /// The nearest step that keeps products of codes, less the zero, within eight bits.
  private static func step(_ wanted: Float, zero: Int) -> Int {
    let most = min(16, zero > 0 ? 128 / zero : 16, zero < 15 ? 127 / (15 - zero) : 16)
    return max(1, min(most, wanted.isFinite ? Int(wanted.rounded(.toNearestOrEven)) : 1))
  }

  // MARK: Gradients

  /// Adds the gradient by the tensor's elements, of its shape as a matrix.
  package mutating func add(_ own: Floats, threads: Int) throws(Failure) {
    switch form {
    case .values: for index in 0..<count { gradient[index] += own[0][index] * units[index] }
    case .integers(let integers, let layout):
      let (sums, products) = (try Floats(layout.rows, layout.groups), try Floats(layout.rows, layout.groups))
      let (tensor, original) = (tensor, try tensor.load())
      let step = max(1, (1 << 16) / layout.columns)
      try parallel(Checked.ceilDivide(layout.rows, step), threads: threads) { (task) throws(Failure) in
        let rows = task * step..<min(layout.rows, (task + 1) * step)
        let decoded = try Floats(rows.count, layout.columns)
        try original.withBytes { (bytes) throws(Failure) in
          try tensor.decodeRows(
            rows, of: bytes, into: UnsafeMutableBufferPointer(start: decoded[0], count: decoded.count))
        }
        for row in rows {
          llv_group_sums(
            own[row], decoded[row - rows.lowerBound], layout.columns, integers.groupSize, sums[row], products[row])
        }
      }
      add(sums, products, integers.form, layout)
    }
  }

  /// - Parameters:
  ///   - sums: of each group, of the gradient by its elements.
  ///   - products: of that with the elements as they were.
  private mutating func add(
    _ sums: Floats, _ products: Floats, _ form: GroupedInteger.Form, _ layout: GroupedInteger.Layout
  ) {
    let groups = layout.rows * layout.groups
    let (sums, products) = (sums[0], products[0])
    switch form {
    case .symmetric: for group in 0..<groups { gradient[group] += products[group] }
    case .affine:
      for group in 0..<groups {
        gradient[group] += products[group]
        gradient[groups + group] += units[groups + group] * sums[group]
      }
    case .twoLevel:
      for group in 0..<groups {
        let row = group / layout.groups
        gradient[row] += (1 + moves[layout.rows + group]) * products[group]
        gradient[layout.rows + group] += (1 + moves[row]) * products[group]
      }
    }
  }

  package mutating func clearGradient() { for index in gradient.indices { gradient[index] = 0 } }
}

extension Tensor {
  /// Floats in this tensor's own plain type.
  fileprivate func encode(_ values: UnsafeBufferPointer<Float>, into bytes: Buffer) {
    guard case .plain(let type) = encoding else { return }
    guard type == .F64 else { return type.encode(values, into: bytes.start) }
    bytes.with(Double.self) { target in for (index, value) in values.enumerated() { target[index] = Double(value) } }
  }
}
