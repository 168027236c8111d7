import Bytes
import CKernels
import Tensors

/// Turns one tensor into grouped integers, in parallel over spans of rows. Working memory is the result, and a span of
/// floats for each thread.
struct GroupQuantizer: Sendable {
  private let tensor: Tensor
  private let grid: Grid
  private var integers: GroupedInteger { grid.integers }

  init(_ tensor: Tensor, _ grid: Grid) {
    self.tensor = tensor
    self.grid = grid
  }

  /// - Throws: `malformed` naming the first NaN or infinity; `limit` when a scale is too large for half precision.
  func run(threads: Int) throws(Failure) -> (Buffer, TensorLoss?) {
    guard let layout = integers.layout(tensor.shape) else {
      throw Failure(.internal, "shape \(tensor.shape) does not fit \(integers.text)")
    }
    switch grid.steps {
    case .free: break
    case .levels: return try twoLevel(layout, threads: threads)
    case .blocks, .book, .wholeZeros: return try found(layout, threads: threads)
    }
    let result = try Buffer(count: layout.byteCount)
    result.withMutableBytes { bytes in
      // The gaps before scales and zeros; everything else is written below.
      for part in [layout.scalesAt, layout.zerosAt] where part >= 64 {
        bytes[(part - 64)..<part].initializeMemory(as: UInt8.self, repeating: 0)
      }
    }
    let losses = Lock([llv_loss](repeating: llv_loss(), count: RowReader.spans(layout.rows, layout.columns)))
    try tensor.rowReader(threads: threads).forEachSpan(rows: layout.rows, columns: layout.columns, threads: threads) {
      (number, span, values) throws(Failure) in
      let loss = try quantize(values, span, layout, result)
      losses.withLock { $0[number] = loss }
    }
    return (result, try TensorLoss(losses.withLock { $0 }))
  }

  /// Groups whose steps are found as GPTQ finds them, with all errors alike.
  private func found(_ layout: GroupedInteger.Layout, threads: Int) throws(Failure) -> (Buffer, TensorLoss?) {
    let writer = try GroupedWriter(integers, layout)
    let (columns, size) = (layout.columns, integers.groupSize)
    let even = [Float](repeating: 1, count: columns)
    let losses = Lock([llv_loss](repeating: llv_loss(), count: RowReader.spans(layout.rows, columns)))
    try tensor.rowReader(threads: threads).forEachSpan(rows: layout.rows, columns: columns, threads: threads) {
      (number, span, values) throws(Failure) in
      try checkFinite(values, span, columns)
      let finder = try StepFinder(grid, columns: columns, rows: span.count)
      var loss = llv_loss()
      try writer.write(span) { part in
        even.withUnsafeBufferPointer { even in
          guard let even = even.baseAddress else { return }
          for column in stride(from: 0, to: columns, by: size) {
            finder.find(at: column, in: values, rows: span.count, importance: even, changes: false, part)
          }
        }
        for row in 0..<span.count {
          let groups = row * layout.groups
          llv_encode_row(
            values + row * columns, columns, size, Int32(grid.bits), integers.isAffine ? 1 : 0, grid.isBook ? 1 : 0,
            part.scales + groups, part.zeros + groups, part.codes + row * columns, &loss)
        }
      }
      let result = loss
      losses.withLock { $0[number] = result }
    }
    return (writer.result, try TensorLoss(losses.withLock { $0 }))
  }

  /// Groups whose steps are whole multiples of a scale of their row.
  private func twoLevel(_ layout: GroupedInteger.Layout, threads: Int) throws(Failure) -> (Buffer, TensorLoss?) {
    let writer = try GroupedWriter(integers, layout)
    let (columns, size, groups) = (layout.columns, integers.groupSize, layout.groups)
    let losses = Lock([llv_loss](repeating: llv_loss(), count: RowReader.spans(layout.rows, columns)))
    try tensor.rowReader(threads: threads).forEachSpan(rows: layout.rows, columns: columns, threads: threads) {
      (number, span, values) throws(Failure) in
      try checkFinite(values, span, columns)
      let scratch = try Buffer(count: 9 * size * 4)
      var loss = llv_loss()
      try writer.write(span) { part in
        for row in 0..<span.count {
          let (w, scales, zeros) = (values + row * columns, part.scales + row * groups, part.zeros + row * groups)
          scratch.with(Float.self) { searchTwoLevels(w, columns, scales, zeros, part.rowScales + row, $0) }
          llv_encode_row(w, columns, size, Int32(grid.bits), 1, 0, scales, zeros, part.codes + row * columns, &loss)
        }
      }
      let found = loss
      losses.withLock { $0[number] = found }
    }
    return (writer.result, try TensorLoss(losses.withLock { $0 }))
  }

  /// The row's scale, and its groups' steps and zeros.
  private func searchTwoLevels(
    _ w: UnsafePointer<Float>, _ columns: Int, _ scales: UnsafeMutablePointer<Float>,
    _ zeros: UnsafeMutablePointer<Float>, _ rowScale: UnsafeMutablePointer<Float>,
    _ memory: UnsafeMutableBufferPointer<Float>
  ) {
    guard let scratch = memory.baseAddress else { return }
    let size = integers.groupSize
    let (whole, even) = (columns / size, scratch + 8 * size)
    even.update(repeating: 1, count: size)
    // Whole groups side by side, then the short last one.
    let parts = [(0, whole, size), (whole, columns % size > 0 ? 1 : 0, columns % size)]
    for (first, count, n) in parts where count > 0 {
      llv_search_steps(
        w + first * size, size, count, n, Int32(grid.bits), 1, even, scratch, scales + first, zeros + first, 1)
    }
    rowScale.pointee = llv_row_scale(
      scales, zeros, Checked.ceilDivide(columns, size), Int32(grid.bits), w, columns)
    for (first, count, n) in parts where count > 0 {
      llv_snap_steps(
        w + first * size, size, count, n, even, rowScale, 0, Int32(grid.bits), scratch, scales + first, zeros + first, 1
      )
    }
  }

  private func checkFinite(_ w: UnsafePointer<Float>, _ rows: Range<Int>, _ columns: Int) throws(Failure) {
    let bad = llv_first_nonfinite(w, rows.count * columns)
    guard bad == rows.count * columns else {
      throw Failure(
        .malformed, "holds \(w[bad]) at [\(rows.lowerBound + bad / columns), \(bad % columns)]; cannot be quantized")
    }
  }

  private func quantize(
    _ w: UnsafePointer<Float>, _ span: Range<Int>, _ layout: GroupedInteger.Layout, _ result: Buffer
  ) throws(Failure) -> llv_loss {
    let columns = layout.columns
    let codes = try Buffer(count: span.count * columns)
    let scratch = try Buffer(count: 8 * integers.groupSize * 4)
    var loss = llv_loss()
    try checkFinite(w, span, columns)
    result.withMutableBytes { target in
      codes.with(UInt8.self) { codes in
        scratch.with(Float.self) { scratch in
          guard let codes = codes.baseAddress, let base = target.baseAddress, let scratch = scratch.baseAddress else {
            return
          }
          let scales = (base + layout.scalesAt).assumingMemoryBound(to: UInt16.self) + span.lowerBound * layout.groups
          let zeros = (base + layout.zerosAt).assumingMemoryBound(to: UInt16.self) + span.lowerBound * layout.groups
          search(w, rows: span.count, layout, scratch, codes, scales, zeros, &loss)
          let out = (base + span.lowerBound * layout.rowBytes).assumingMemoryBound(to: UInt8.self)
          for row in 0..<span.count {
            llv_pack_codes(codes + row * columns, columns, Int32(integers.bits), out + row * layout.rowBytes)
          }
        }
      }
    }
    return loss
  }

  /// Groups that follow each other go to the search together; the short last groups of all rows make a call of their
  /// own.
  private func search(
    _ w: UnsafePointer<Float>, rows: Int, _ layout: GroupedInteger.Layout, _ scratch: UnsafeMutablePointer<Float>,
    _ codes: UnsafeMutablePointer<UInt8>, _ scales: UnsafeMutablePointer<UInt16>, _ zeros: UnsafeMutablePointer<UInt16>,
    _ loss: inout llv_loss
  ) {
    let (size, columns, groups) = (integers.groupSize, layout.columns, layout.groups)
    let (bits, isAffine) = (Int32(grid.bits), Int32(integers.isAffine ? 1 : 0))
    let whole = columns / size
    if whole == groups {
      llv_quantize_groups(w, size, rows * groups, size, bits, isAffine, scratch, codes, scales, zeros, 1, &loss)
      return
    }
    for row in 0..<rows {
      llv_quantize_groups(
        w + row * columns, size, whole, size, bits, isAffine, scratch, codes + row * columns, scales + row * groups,
        zeros + row * groups, 1, &loss)
    }
    llv_quantize_groups(
      w + whole * size, columns, rows, columns - whole * size, bits, isAffine, scratch, codes + whole * size,
      scales + whole,
      zeros + whole, groups, &loss)
  }
}
