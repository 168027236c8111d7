import Bytes
import CKernels
import Tensors

/// A tensor's numbers that training moves: scales and zeros of integers, and their codes where asked; or the values
/// themselves.
///
/// Each number moves in units of its own: a scale in parts of itself, a zero in steps of its group, a value in parts of
/// the tensor's root mean square. So one learning rate suits them all. What the model is given is rounded to the type
/// in which it is stored; gradients go straight through that rounding.
package struct Tunable: Sendable {
  /// As it was, but for codes, which are what they are now.
  private let tensor: Tensor
  private let bytes: Buffer
  private let form: Form
  private var latents: Latents?
  /// As it was given last, with scales as they are now.
  private var given: Buffer
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
  package init(_ original: Tensor, threads: Int) throws(Failure) {
    bytes = try Tunable.copy(original.load(threads: threads))
    given = bytes
    tensor = Tensor(
      original.name, shape: original.shape, encoding: original.encoding, content: .bytes(ByteView(bytes)))
    switch original.encoding {
    case .plain:
      form = .values
      starts = try tensor.floats(threads: threads).array(of: Float.self)
      let square = starts.reduce(0) { $0 + Double($1) * Double($1) } / Double(max(1, starts.count))
      // Numbers that are all zero have no size to go by.
      units = [Float](repeating: square > 0 ? Float(square.squareRoot()) : 0.01, count: starts.count)
    case .grouped(let integers):
      guard let layout = integers.layout(original.shape) else { throw Failure(.internal, "a weight without layout") }
      form = .integers(integers, layout)
      (starts, units) = Tunable.steps(bytes, integers, layout)
    }
    moves = [Float](repeating: 0, count: starts.count)
    (gradient, means, squares) = (moves, moves, moves)
  }

  private static func copy(_ bytes: Buffer, _ count: Int? = nil) throws(Failure) -> Buffer {
    let result = try Buffer(count: count ?? bytes.count)
    result.start.copyMemory(from: bytes.start, byteCount: result.count)
    return result
  }

  /// Lets the codes of integers move, too.
  ///
  /// - Parameter reference: the tensor as it was before it was rounded; nil where that is not known.
  package mutating func freeCodes(towards reference: Tensor?, threads: Int) throws(Failure) {
    guard case .integers(let integers, let layout) = form else { return }
    var wanted: Floats?
    if let reference, reference.shape == tensor.shape {
      wanted = Floats(rows: layout.rows, columns: layout.columns, try reference.floats(threads: threads))
    }
    latents = try Latents(bytes, integers, layout, wanted: wanted, threads: threads)
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

  /// What a tunable has come to.
  package struct Place: Sendable {
    package let moves: [Float]
    /// Where codes move, as they are stored.
    package let codes: Buffer?

    package init(moves: [Float], codes: Buffer?) { (self.moves, self.codes) = (moves, codes) }
  }

  /// Bytes of a place's codes; 0 where these stay.
  package var codeBytes: Int {
    if latents != nil, case .integers(_, let layout) = form { layout.rows * layout.rowBytes } else { 0 }
  }

  /// The tensor as it is now, to be run: gradients that are added are those that this one gives.
  package mutating func next() throws(Failure) -> Tensor {
    let tensor = try current()
    given = try tensor.load()
    return tensor
  }

  package func place() throws(Failure) -> Place {
    Place(moves: moves, codes: latents == nil ? nil : try Tunable.copy(bytes, codeBytes))
  }

  /// The tensor as it is now, or was at a place, rounded as it is stored.
  package func current(_ place: Place? = nil) throws(Failure) -> Tensor {
    let moves = place?.moves ?? moves
    var numbers = zip(zip(starts, units), moves).map { $0.0 + $0.1 * $1 }
    // A scale that grows takes its zero along, so that it moves elements in proportion and not all the same way.
    if case .integers(let integers, _) = form, integers.form == .affine {
      let groups = count / 2
      for group in 0..<groups { numbers[groups + group] += starts[groups + group] * moves[group] }
    }
    let bytes = try Tunable.copy(bytes)
    if let codes = place?.codes { bytes.start.copyMemory(from: codes.start, byteCount: codes.count) }
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
      let (tensor, original) = (tensor, bytes)
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
      try latents?.add(own, given, threads: threads)
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

  package mutating func clearGradient() {
    for index in gradient.indices { gradient[index] = 0 }
    latents?.clearGradient()
  }

  // MARK: Codes

  package func moveCodes(_ adam: llv_adam, threads: Int) throws(Failure) {
    try latents?.move(adam, bytes, threads: threads)
  }

  /// What a run keeps of codes that move: latents, and running means of gradients and of their squares; empty where
  /// they stay.
  package var kept: [Floats] { latents.map { [$0.values, $0.means, $0.squares] } ?? [] }

  /// Takes the codes of latents that were put into `kept`.
  package func roundKept(threads: Int) throws(Failure) {
    try moveCodes(llv_adam(mean: 1, square: 1, factor: 0, root: 0, least: 1), threads: threads)
  }
}

extension Tensor {
  /// Floats in this tensor's own plain type.
  fileprivate func encode(_ values: UnsafeBufferPointer<Float>, into bytes: Buffer) {
    guard case .plain(let type) = encoding else { return }
    guard type == .F64 else { return type.encode(values, into: bytes.start) }
    bytes.with(Double.self) { target in for (index, value) in values.enumerated() { target[index] = Double(value) } }
  }
}
