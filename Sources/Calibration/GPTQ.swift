import Bytes
import CKernels
import COpenBLAS
import Passes
import Tensors

/// GPTQ (Frantar et al. 2023, arXiv 2210.17323): a weight's columns become integers one after the other, and what
/// rounding one of them loses is made up for in those that follow, by the second moments of the input. Groups stay in
/// their natural order; a group's step is searched when its turn comes, each squared error weighted by what it will
/// cost then (`1 / U[j, j]²`).
///
/// What the mean input loses, `(W - Ŵ) μ`, is the same for every token and goes into the bias; moments are then those
/// around the mean. Where there is no bias they are those around zero.
public final class GPTQ: Sendable {
  /// What is added to the diagonal, relative to its mean.
  static let damping = 0.01
  private static let columnsAtATime = 128

  private let tensor: Tensor
  private let grid: Grid
  private var integers: GroupedInteger { grid.integers }
  private let moments: Tensor
  private let mean: Tensor?
  private let propagates: Bool
  private let refinement: Refinement
  /// `(W - Ŵ) μ`, once it is known.
  private let shift = Lock<[Float]?>(nil)

  /// - Parameters:
  ///   - moments: `[columns, block]`, as `SecondMoments` makes them; or `[columns]`, mean squares alone, which nothing
  ///     propagates by.
  ///   - mean: `[columns]`; nil where no bias can make up for what it loses.
  ///   - propagates: whether later columns make up for earlier ones; without, errors are weighted by the diagonal
  ///     alone.
  ///   - refinement: how what results is made better.
  /// - Throws: `malformed` when they are not of this weight's inputs.
  public init(
    _ tensor: Tensor, _ grid: Grid, moments: Tensor, mean: Tensor?, propagates: Bool = true,
    refinement: Refinement = .none
  ) throws(Failure) {
    let isWhole = moments.shape == [tensor.columns, SecondMoments.block(tensor.columns)]
    guard isWhole || moments.shape == [tensor.columns] && !propagates, moments.encoding == .plain(.F32),
      mean.map({ $0.shape == [tensor.columns] && $0.encoding == .plain(.F32) }) ?? true
    else {
      throw Failure(
        .malformed, "second moments of \(moments.shape) for a weight of \(tensor.columns) columns",
        thing: "tensor \(tensor.name.quoted)")
    }
    self.tensor = tensor
    self.grid = grid
    self.moments = moments
    self.mean = mean
    (self.propagates, self.refinement) = (propagates, refinement)
  }

  /// What is to be added to the bias, `[rows]`.
  public func biasShift(threads: Int) throws(Failure) -> [Float] {
    if let shift = shift.withLock({ $0 }) { return shift }
    _ = try run(threads: threads)
    return shift.withLock { $0 ?? [] }
  }

  public func run(threads: Int) throws(Failure) -> (Buffer, TensorLoss?) {
    guard let layout = integers.layout(tensor.shape) else {
      throw Failure(.internal, "shape \(tensor.shape) does not fit \(integers.text)")
    }
    let weights = try tensor.floats(threads: threads)
    let (columns, count) = (layout.columns, layout.rows * layout.columns)
    let bad = llv_first_nonfinite(weights.pointer, count)
    guard bad == count else {
      throw Failure(
        .malformed, "holds \(weights.pointer[bad]) at [\(bad / columns), \(bad % columns)]; cannot be quantized")
    }
    let factors = try factors(threads: threads)
    let better = try refinement == .none ? nil : dampedMoments(threads: threads)
    let importance = try Buffer(count: columns * 4)
    let block = self.block
    for column in 0..<columns {
      let diagonal = factors.pointer[column * block + column % block]
      importance.pointer[column] = 1 / (diagonal * diagonal)
    }
    let writer = try GroupedWriter(integers, layout)
    let means = try self.means()
    let losses = Lock<[(row: Int, loss: llv_loss)]>([])
    let shifts = Lock([Float](repeating: 0, count: layout.rows))
    openblas_set_num_threads(1)
    try writer.forEachSpan(threads: threads) { (rows, part) throws(Failure) in
      let original = weights.pointer + rows.lowerBound * columns
      let w = try Buffer(count: rows.count * columns * 4)
      w.pointer.update(from: original, count: rows.count * columns)
      let clamped = try quantize(w.pointer, rows.count, layout, factors.pointer, importance.pointer, part)
      if let better { try refine(part, of: original, rows.count, layout, by: better) }
      var (loss, shift) = loss(original, rows.count, layout, part, means.pointer)
      loss.clamped = clamped
      losses.withLock { $0.append((rows.lowerBound, loss)) }
      shifts.withLock { $0.replaceSubrange(rows, with: shift) }
    }
    let all = shifts.withLock { $0 }
    shift.withLock { $0 = all }
    let ordered = losses.withLock { $0.sorted { $0.row < $1.row }.map(\.loss) }
    return (writer.result, try TensorLoss(ordered))
  }

  /// How codes that are there are made better.
  public enum Refinement: Sendable {
    case none, descent, signs

    init(_ rounding: Calibration.Method.Rounding) {
      self = rounding == .descent ? .descent : rounding == .signround ? .signs : .none
    }
  }

  private func refine(
    _ part: GroupedWriter.Part, of original: UnsafePointer<Float>, _ rows: Int, _ layout: GroupedInteger.Layout,
    by moments: Buffer
  ) throws(Failure) {
    for first in stride(from: 0, to: layout.columns, by: block) {
      let columns = first..<min(layout.columns, first + block)
      switch refinement {
      case .none: break
      case .descent:
        try Descent(grid: grid, layout: layout, moments: moments, block: block).improve(
          part, of: original, rows, columns)
      case .signs:
        try SignRound(grid: grid, layout: layout, moments: moments, block: block)
          .improve(part, of: original, rows, columns)
      }
    }
  }

  /// Columns of a block of moments; 1 where there are mean squares alone.
  private var block: Int { moments.shape.count == 1 ? 1 : moments.columns }

  /// The mean input, zeros where none counts.
  private func means() throws(Failure) -> Buffer {
    if let mean { return try mean.floats() }
    let zeros = try Buffer(count: tensor.columns * 4)
    zeros.clear()
    return zeros
  }

  /// What is added to variances, so that a column that no input reaches may become anything. Where all inputs are one,
  /// as those of a learned query are, what is left of their squares is rounding, and errors are made up for nowhere.
  private static func least(_ variance: Double, of squares: Double) -> Double {
    variance > squares * 1e-5 ? variance * damping : squares > 0 ? squares : 1
  }

  /// For each block of columns the upper factor U of the inverse of its moments, `(H + λI)⁻¹ = UᵀU`, `[columns,
  /// block]`.
  private func factors(threads: Int) throws(Failure) -> Buffer {
    let (source, means) = (try moments.floats(threads: threads), try means())
    let (columns, block) = (tensor.columns, block)
    let result = try Buffer(count: columns * block * 4)
    result.clear()
    guard propagates else {
      let variances = (0..<columns).map { column in
        let mean = Double(means.pointer[column])
        return Double(source.pointer[column * block + column % block]) - mean * mean
      }
      let squares = (0..<columns).map { Double(source.pointer[$0 * block + $0 % block]) }
      let least = GPTQ.least(variances.reduce(0, +) / Double(columns), of: squares.reduce(0, +) / Double(columns))
      guard variances.allSatisfy({ $0 + least > 0 && $0.isFinite }) else {
        throw Failure(.malformed, "second moments are not those of any inputs", thing: "tensor \(tensor.name.quoted)")
      }
      for (column, variance) in variances.enumerated() {
        result.pointer[column * block + column % block] = Float(1 / (variance + least).squareRoot())
      }
      return result
    }
    try forEachBlock(threads: threads) { (first, size, a) throws(Failure) in
      var (n, info) = (Int32(size), Int32(0))
      dpotrf_("U", &n, a.baseAddress, &n, &info)
      if info == 0 { dpotri_("U", &n, a.baseAddress, &n, &info) }
      if info == 0 { dpotrf_("U", &n, a.baseAddress, &n, &info) }
      guard info == 0, a.allSatisfy(\.isFinite) else {
        throw Failure(.malformed, "second moments are not those of any inputs", thing: "tensor \(tensor.name.quoted)")
      }
      for row in 0..<size {
        for column in row..<size { result.pointer[(first + row) * block + column] = Float(a[row + column * size]) }
      }
    }
    return result
  }

  /// The moments that errors are weighed by, `[columns, block]`.
  private func dampedMoments(threads: Int) throws(Failure) -> Buffer {
    let (result, block) = (try Buffer(count: tensor.columns * block * 4), block)
    result.clear()
    try forEachBlock(threads: threads) { (first, size, a) throws(Failure) in
      for row in 0..<size {
        for column in 0..<size { result.pointer[(first + row) * block + column] = Float(a[row * size + column]) }
      }
    }
    return result
  }

  /// Calls `body` with each block of the moments around the mean, `[size, size]`, and what is added to their diagonal.
  private func forEachBlock(
    threads: Int,
    _ body: (_ first: Int, _ size: Int, _ a: UnsafeMutableBufferPointer<Double>) throws(Failure) -> Void
  ) throws(Failure) {
    let (source, means) = (try moments.floats(threads: threads), try means())
    let (columns, block) = (tensor.columns, block)
    for first in stride(from: 0, to: columns, by: block) {
      let size = min(block, columns - first)
      let matrix = try Buffer(count: size * size * 8)
      try matrix.with(Double.self) { (a) throws(Failure) in
        var (mean, squares) = (0.0, 0.0)
        for row in 0..<size {
          for column in 0..<size {
            a[row * size + column] =
              Double(source.pointer[(first + row) * block + column])
              - Double(means.pointer[first + row]) * Double(means.pointer[first + column])
          }
          mean += a[row * size + row] / Double(size)
          squares += Double(source.pointer[(first + row) * block + row]) / Double(size)
        }
        let least = GPTQ.least(mean, of: squares)
        for row in 0..<size { a[row * size + row] += least }
        try body(first, size, a)
      }
    }
  }

  /// - Returns: elements that were outside the codes when their turn came.
  private func quantize(
    _ w: UnsafeMutablePointer<Float>, _ rows: Int, _ layout: GroupedInteger.Layout,
    _ factors: UnsafeMutablePointer<Float>, _ importance: UnsafeMutablePointer<Float>, _ part: GroupedWriter.Part
  ) throws(Failure) -> UInt64 {
    var clamped: UInt64 = 0
    let (columns, group, block) = (layout.columns, integers.groupSize, block)
    let (bits, isAffine) = (Int32(grid.bits), Int32(integers.isAffine ? 1 : 0))
    let step = GPTQ.columnsAtATime
    let errors = try Buffer(count: rows * step * 4)
    let finder = try StepFinder(grid, columns: columns, rows: rows)
    for first in stride(from: 0, to: columns, by: block) {
      let end = min(columns, first + block)
      for start in stride(from: first, to: end, by: step) {
        let stop = min(end, start + step)
        var column = start
        while column < stop {
          let place = column / group
          let next = min(stop, (place + 1) * group)
          if column % group == 0 {
            finder.find(at: column, in: w, rows: rows, importance: importance, changes: true, part)
          }
          llv_gptq_columns(
            w + column, columns, rows, next - column, factors + (column * block + column - first), block, stop - column,
            bits, isAffine, grid.isBook ? 1 : 0, part.scales + place, part.zeros + place, layout.groups,
            part.codes + column, columns, errors.pointer + (column - start), step, &clamped)
          column = next
        }
        guard stop < end else { continue }
        cblas_sgemm(
          CblasRowMajor, CblasNoTrans, CblasNoTrans, Int32(rows), Int32(end - stop), Int32(stop - start), -1,
          errors.pointer, Int32(step), factors + (start * block + stop - first), Int32(block), 1, w + stop,
          Int32(columns))
      }
    }
    return clamped
  }

  /// What some rows lost, and what that makes of the mean input.
  private func loss(
    _ original: UnsafePointer<Float>, _ rows: Int, _ layout: GroupedInteger.Layout, _ part: GroupedWriter.Part,
    _ mean: UnsafePointer<Float>
  ) -> (llv_loss, [Float]) {
    var loss = llv_loss()
    var shifts: [Float] = []
    for row in 0..<rows {
      var shift = 0.0
      for column in 0..<layout.columns {
        let (at, group) = (row * layout.columns + column, row * layout.groups + column / integers.groupSize)
        let code = part.codes[at]
        let value = Float(integers.isAffine ? Int(code) : Int(Int8(bitPattern: code))) * part.scales[group]
        let difference = Double(original[at] - (integers.isAffine ? value + part.zeros[group] : value))
        shift += difference * Double(mean[column])
        loss.error += difference * difference
        loss.largest = max(loss.largest, abs(difference))
        loss.squares += Double(original[at]) * Double(original[at])
      }
      for group in 0..<layout.groups {
        let scale = part.scales[row * layout.groups + group]
        if !scale.isFinite { loss.overflowed += 1 }
        guard scale == 0 else { continue }
        // Lost is what one value, or zero, cannot stand for.
        let columns = group * integers.groupSize..<min((group + 1) * integers.groupSize, layout.columns)
        let values = columns.map { original[row * layout.columns + $0] }
        let constant = integers.isAffine ? values[0] : 0
        if values.contains(where: { $0 != constant }) { loss.vanished += 1 }
      }
      shifts.append(Float(shift))
    }
    return (loss, shifts)
  }
}

extension Buffer {
  /// The memory as floats, while this buffer lives.
  var pointer: UnsafeMutablePointer<Float> { start.assumingMemoryBound(to: Float.self) }
}
