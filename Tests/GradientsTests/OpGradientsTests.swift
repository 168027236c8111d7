import Bytes
import Gradients
import Inference
import Tensors
import TestSupport
import Testing

/// Gradients of every operation, held to PyTorch's and to differences of the double-precision reference.
struct OpGradientsTests {
  /// By place, of those that are wanted.
  private static func gradients(
    _ one: GradientCase, _ golden: [String: Tensor], threads: Int = 2
  ) throws -> (inputs: [GradientCase.Input], up: [Float], found: [Floats?]) {
    let device = CPUDevice(threads: threads)
    let inputs = try one.inputs(golden)
    let up = try #require(golden["\(one.name)/up"])
    let buffers = try one.upload(inputs, to: device)
    let values = try up.floats().array(of: Float.self)
    let dense = OpGradients.Inputs(buffers) { (place) throws(Failure) in
      guard let own = inputs.first(where: { $0.place == place }) else { throw Failure(.internal, "no input \(place)") }
      return try Floats(own.values, columns: own.shape.last ?? 1)
    }
    let wanted = buffers.indices.map { one.indices[$0] == nil && !one.unwanted.contains($0) }
    let found = try OpGradients(device).gradients(
      of: one.op, dense, upstream: try Floats(values, columns: up.columns), wanted: wanted)
    return (inputs, values, found)
  }

  /// The largest difference, in parts of the largest number.
  ///
  /// - Parameter least: what that number counts at least.
  static func error(_ found: [Float], _ expected: [Double], least: Double = 1e-30) -> Double {
    guard found.count == expected.count else { return .infinity }
    let size = max(expected.map(abs).max() ?? 0, least)
    return zip(found, expected).reduce(0) { most, pair in
      let difference = abs(Double(pair.0) - pair.1) / size
      return difference > most || difference.isNaN ? difference : most
    }
  }

  @Test("gradients by every input are PyTorch's to 1e-5")
  func gradientsArePyTorchs() throws {
    let golden = try GradientCase.golden("operations")
    let names = Set(golden.keys.map { String($0.prefix(upTo: $0.lastIndex(of: "/") ?? $0.endIndex)) })
    #expect(names == Set(GradientCase.all.map(\.name)))
    for one in GradientCase.all {
      let (inputs, _, found) = try OpGradientsTests.gradients(one, golden)
      for input in inputs where !one.unwanted.contains(input.place) {
        let number = try #require(input.number)
        let expected = try #require(golden["\(one.name)/\(number)'"]).floats().array(of: Float.self).map(Double.init)
        let error = OpGradientsTests.error(try #require(found[input.place]).values, expected)
        #expect(error <= 1e-5, "\(one.name), input \(number): \(error)")
      }
    }
  }

  @Test("gradients by every input are differences of the reference in double precision")
  func gradientsAreDifferences() throws {
    let golden = try GradientCase.golden("operations")
    let (reference, step) = (ReferenceDevice(), 1e-4)
    for one in GradientCase.all {
      let (inputs, up, found) = try OpGradientsTests.gradients(one, golden)
      func value(_ place: Int, _ values: [Double]) throws -> Double {
        let result = try reference.run(one.op, try one.upload(inputs, changed: (place, values), to: reference))
        return zip(try reference.doubles(result), up).reduce(0) { $0 + $1.0 * Double($1.1) }
      }
      for input in inputs where !one.unwanted.contains(input.place) {
        let start = input.values.map(Double.init)
        let differences = try start.indices.map { index in
          func moved(_ by: Double) throws -> Double {
            var values = start
            values[index] += by
            return try value(input.place, values)
          }
          // To the fourth order.
          return try (8 * (moved(step) - moved(-step)) - (moved(2 * step) - moved(-2 * step))) / (12 * step)
        }
        let error = OpGradientsTests.error(try #require(found[input.place]).values, differences)
        #expect(error <= 1e-5, "\(one.name), input \(input.place): \(error)")
      }
    }
  }

  @Test("every operation is in the table, and no bit depends on the thread count")
  func everyOperationIsInTheTable() throws {
    let golden = try GradientCase.golden("operations")
    #expect(Set(GradientCase.all.map(\.op.name)).count == 18)
    for one in GradientCase.all {
      let alone = try OpGradientsTests.gradients(one, golden, threads: 1).found
      let together = try OpGradientsTests.gradients(one, golden, threads: 5).found
      #expect(
        alone.map { $0?.values.map(\.bitPattern) } == together.map { $0?.values.map(\.bitPattern) }, "\(one.name)")
    }
  }
}
