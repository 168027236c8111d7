import Bytes
import Calibration
import Passes
import Tensors
import TestSupport
import Testing

struct GPTQTests {
  /// Inputs whose columns go together, so that errors can make up for each other.
  static func inputs(_ rows: Int, _ columns: Int, _ random: inout Random) -> [Float] {
    var values: [Float] = []
    for _ in 0..<rows {
      let common = 0.5 + random.normal()
      for column in 0..<columns { values.append(common + (column % 7 == 0 ? 3 : 0.5) * random.normal()) }
    }
    return values
  }

  static func decoded(_ buffer: Buffer, _ integers: GroupedInteger, _ shape: [Int]) throws -> [Float] {
    let tensor = Tensor("w", shape: shape, encoding: .grouped(integers), content: .bytes(ByteView(buffer)))
    return try tensor.floats().array(of: Float.self)
  }

  @Test("second moments are those of the inputs, whatever the threads")
  func secondMomentsAreThoseOfTheInputs() throws {
    var random = Random(seed: 3)
    let (rows, columns) = (50, 300)
    let (first, second) = (GPTQTests.inputs(rows, columns, &random), GPTQTests.inputs(rows, columns, &random))
    var found: [[Float]] = []
    for threads in [1, 3] {
      let moments = SecondMoments(threads: threads)
      for values in [first, second] { try moments.sees("w", values, rows: rows, columns: columns, isPicture: []) }
      let tensors = try moments.tensors()
      let (tensor, mean) = (tensors[0], try tensors[1].floats().array(of: Float.self))
      #expect(tensors.map(\.name.text) == ["w", "w+mean", "w+channels"] && tensor.shape == [columns, columns])
      let exact = stride(from: 5, to: rows * columns, by: columns).reduce(0.0) { $0 + Double(first[$1] + second[$1]) }
      #expect(abs(Double(mean[5]) - exact / Double(2 * rows)) < 1e-5)
      found.append(try tensor.floats().array(of: Float.self))
    }
    #expect(found[0] == found[1])
    let all = first + second
    for (a, b) in [(0, 0), (3, 299), (299, 3), (256, 255), (17, 280)] {
      let exact = (0..<2 * rows).reduce(0.0) { $0 + Double(all[$1 * columns + a]) * Double(all[$1 * columns + b]) }
      #expect(abs(Double(found[0][a * columns + b]) - exact / Double(2 * rows)) < 1e-4)
    }
  }

  @Test("wide inputs are kept in blocks of equal width")
  func wideInputsAreKeptInBlocks() {
    #expect(SecondMoments.block(896) == 896)
    #expect(SecondMoments.block(2_560) == 2_560)
    #expect(SecondMoments.block(4_864) == 2_432)
    #expect(SecondMoments.block(18_944) == 2_432)
  }

  static let choices =
    ["4:g32:affine", "4:g64:symmetric", "8:g96:symmetric", "4:g96:affine", "4:g16:two-level", "4:g64:asymmetric"]
    + [
      "3:g24:two-level", "3:g32:symmetric", "2:g32:two-level", "2:g64:affine", "3:g32:affine", "5:g64:affine",
      "6:g128:affine",
    ] + BlockForm.allCases.map(\.rawValue)

  @Test("what a product loses is less than rounding loses", arguments: GPTQTests.choices)
  func whatAProductLosesIsLess(_ what: String) throws {
    var random = Random(seed: 5)
    let (rows, columns, outputs) = (400, 256, 40)
    let grid = try #require(WeightChoice(what)?.grid(columns: columns))
    let (integers, group) = (grid.integers, grid.integers.groupSize)
    let x = GPTQTests.inputs(rows, columns, &random)
    let w = (0..<outputs * columns).map { _ in random.normal() }
    let tensor = try Tensor("w", floats: w, shape: [outputs, columns])
    let moments = SecondMoments(threads: 2)
    try moments.sees("w", x, rows: rows, columns: columns, isPicture: [])
    let measured = try moments.tensors()
    let gptq = try GPTQ(tensor, grid, moments: measured[0], mean: measured[1])
    let shift = try GPTQ(tensor, grid, moments: measured[0], mean: measured[1]).biasShift(threads: 2)
    let (bytes, loss) = try gptq.run(threads: 2)
    #expect(try gptq.run(threads: 1).0.array(of: UInt8.self) == bytes.array(of: UInt8.self))
    let found = try GPTQTests.decoded(bytes, integers, [outputs, columns])

    let half = Float(1 << (grid.bits - 1))
    let codes: [Float] =
      grid.isBook
      ? [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]
      : Array(
        stride(
          from: integers.isAffine ? 0 : grid.bits == 8 ? -127 : -half, to: integers.isAffine ? 2 * half : half, by: 1))
    /// The same error without compensation: nearest codes under the same scales.
    var plain = [Float](repeating: 0, count: w.count)
    let layout = try #require(integers.layout([outputs, columns]))
    for row in 0..<outputs {
      let (scales, zeros) = (try Buffer(count: layout.groups * 4), try Buffer(count: layout.groups * 4))
      zeros.clear()
      scales.with(Float.self) { scales in
        zeros.with(Float.self) { integers.decodeSteps(of: row, bytes.start, layout, scales: scales, zeros: $0) }
      }
      for column in 0..<columns {
        let (scale, zero) = (
          scales.array(of: Float.self)[column / group], zeros.array(of: Float.self)[column / group]
        )
        let exact = scale == 0 ? 0 : (w[row * columns + column] - zero) / scale
        let code = try #require(codes.min { abs($0 - exact) < abs($1 - exact) })
        plain[row * columns + column] = code * scale + zero
      }
    }
    func error(_ other: [Float], _ shift: [Float]? = nil) -> Double {
      var sum = 0.0
      for token in 0..<rows {
        for output in 0..<outputs {
          var y = -Double(shift?[output] ?? 0)
          for column in 0..<columns {
            y +=
              Double(x[token * columns + column])
              * Double(w[output * columns + column] - other[output * columns + column])
          }
          sum += y * y
        }
      }
      return sum
    }
    #expect(try gptq.biasShift(threads: 1) == shift)
    #expect(error(found, shift) < 0.6 * error(plain), "\(error(found, shift)), \(error(plain))")
    #expect(error(found, shift) < error(found))
    for (refinement, propagates) in [(GPTQ.Refinement.descent, true), (.signs, false)] {
      func quantizer(_ refinement: GPTQ.Refinement) throws -> GPTQ {
        try GPTQ(
          tensor, grid, moments: measured[0], mean: measured[1], propagates: propagates, refinement: refinement)
      }
      let (before, after) = (try quantizer(.none), try quantizer(refinement))
      let better = try after.run(threads: 2).0
      #expect(try after.run(threads: 1).0.array(of: UInt8.self) == better.array(of: UInt8.self))
      let errors = try [before, after].map {
        error(try GPTQTests.decoded($0.run(threads: 2).0, integers, [outputs, columns]), try $0.biasShift(threads: 1))
      }
      #expect(errors[1] < 0.995 * errors[0], "\(refinement): \(errors)")
    }
    let lost = try #require(loss)
    #expect(lost.relativeError > 0 && lost.vanishedGroups == 0, "\(lost)")
    #expect(grid.isBook || (1..<w.count).contains(lost.clamped), "\(lost)")
  }

  @Test("moments of other inputs are refused")
  func momentsOfOtherInputsAreRefused() throws {
    let integers = try #require(GroupedInteger(bits: 4, groupSize: 8, isAffine: true))
    let tensor = try Tensor("w", floats: [Float](repeating: 1, count: 32), shape: [2, 16])
    let other = try Tensor("w", floats: [Float](repeating: 1, count: 64), shape: [8, 8])
    let mean = try Tensor("w+mean", floats: [Float](repeating: 0, count: 16), shape: [16])
    #expect(throws: Failure.self) { try GPTQ(tensor, Grid(integers), moments: other, mean: mean) }
    #expect(throws: Failure.self) { try GPTQ(tensor, Grid(integers), moments: other, mean: other) }
    // A matrix that no inputs have: an entry off the diagonal larger than both on it.
    var odd = [Float](repeating: 0, count: 256)
    for i in 0..<16 { odd[i * 17] = 1 }
    odd[1] = 5
    odd[16] = 5
    let gptq = try GPTQ(tensor, Grid(integers), moments: try Tensor("w", floats: odd, shape: [16, 16]), mean: mean)
    #expect(throws: Failure.self) { _ = try gptq.run(threads: 1) }
  }
}
