import Bytes

extension Tensor {
  /// The mean square error, summed over each row, that rounding to this tensor's own encoding explains: `step² / 12` an
  /// element for integers, whose rounding errors are uniform; nil for F32, which rounds nothing.
  ///
  /// - Parameter squares: of each row the sum of its squares, which the errors of floats of 16 bits go by: their steps
  ///   are 2⁻⁸ to 2⁻⁷ (BF16) or 2⁻¹¹ to 2⁻¹⁰ (F16) of a value, and `step² / 12` half of the larger's.
  public func roundingErrors(squares: [Double], threads: Int) throws(Failure) -> [Double]? {
    precondition(squares.count == rows, "a sum for each row")
    switch encoding {
    case .plain(.BF16): return squares.map { $0 * 0x1p-14 / 24 }
    case .plain(.F16): return squares.map { $0 * 0x1p-20 / 24 }
    case .plain: return nil
    case .grouped(let integers):
      guard let layout = integers.layout(shape) else { throw Failure(.internal, "no layout for \(shape)") }
      let bytes = try load(threads: threads)
      let scales = try Buffer(count: layout.groups * 4)
      let zeros = try Buffer(count: layout.groups * 4)
      var result: [Double] = []
      result.reserveCapacity(layout.rows)
      bytes.withBytes { bytes in
        guard let base = bytes.baseAddress else { return }
        scales.with(Float.self) { scales in
          zeros.with(Float.self) { zeros in
            for row in 0..<layout.rows {
              integers.decodeSteps(of: row, base, layout, scales: scales, zeros: zeros)
              result.append(integers.roundingError(scales, layout))
            }
          }
        }
      }
      return result
    }
  }
}

extension GroupedInteger {
  /// `Σ step² / 12` over the elements of a row.
  fileprivate func roundingError(_ steps: UnsafeMutableBufferPointer<Float>, _ layout: Layout) -> Double {
    var sum = 0.0
    for (group, step) in steps.enumerated() {
      let count = min(groupSize, layout.columns - group * groupSize)
      sum += Double(step) * Double(step) * Double(count) / 12
    }
    return sum
  }
}
