import Bytes
import CKernels
import Foundation
import Inference
import Passes
import Tensors
import TestSupport
import Testing

struct QuantizeTests {
  /// A model with the one weight `w`, quantized by `choice`.
  static func quantized(
    _ values: [Float], _ shape: [Int], _ choice: String, type: DType = .F32, input: Op.LinearInput = .float,
    threads: Int = 2
  ) throws -> (tensor: Tensor, bytes: [UInt8], loss: TensorLoss) {
    var model = Model(
      configuration: Configuration(architecture: "test", width: shape[0], vocabulary: 1, maximumTokens: 1))
    model.set(try Tensor("table", floats: [Float](repeating: 1, count: shape[1]), shape: [1, shape[1]]))
    model.set(try Tensor("w", floats: values, shape: shape))
    var graph = Graph()
    let x = graph.append(.embedding(), .tensor("table"), .input(.tokens))
    graph.append(.pool(.mean), graph.append(.linear(.float), x, .tensor("w")), .input(.starts))
    model.graphs = [("text", graph)]
    var notes: [String] = []
    let recipe = QuantizeRecipe(linear: try #require(WeightChoice(choice)), table: .keep, input: input)
    try Pass.run([.quantize(recipe)], on: &model, notes: &notes)
    let tensor = try #require(model["w"])
    let (bytes, loss) = try tensor.evaluate(threads: threads)
    return (tensor, bytes.array(of: UInt8.self), try #require(loss))
  }

  static func decoded(_ result: (tensor: Tensor, bytes: [UInt8], loss: TensorLoss)) throws -> [Float] {
    let tensor = Tensor(
      "w", shape: result.tensor.shape, encoding: result.tensor.encoding,
      content: .bytes(ByteView(try Buffer(result.bytes))))
    return try tensor.floats().array(of: Float.self)
  }

  /// `[rows, groups]`.
  private static func scales(
    _ bytes: [UInt8], _ integers: GroupedInteger, _ layout: GroupedInteger.Layout
  ) -> [Float] {
    (0..<layout.rows).flatMap { row -> [Float] in
      var (scales, zeros) = ([Float](repeating: 0, count: layout.groups), [Float](repeating: 0, count: layout.groups))
      bytes.withUnsafeBytes { bytes in
        scales.withUnsafeMutableBufferPointer { scales in
          zeros.withUnsafeMutableBufferPointer { zeros in
            guard let start = bytes.baseAddress else { return }
            integers.decodeSteps(of: row, start, layout, scales: scales, zeros: zeros)
          }
        }
      }
      return scales
    }
  }

  static func random(_ count: Int, seed: UInt64 = 41) -> [Float] {
    var random = Random(seed: seed)
    return (0..<count).map { _ in random.normal() * (random.below(40) == 0 ? 5 : 1) * 0.05 }
  }

  static let choices = [
    "8", "8:channel", "8:g64", "8:affine", "4:affine", "4:symmetric", "4:g64:affine", "4:g128:affine", "4:g20",
    "4:channel", "8:g33:symmetric", "4", "4:g32", "4:g48", "3", "3:g24", "3:affine", "3:g33:symmetric", "2", "2:g16",
    "2:affine", "2:g20:symmetric",
  ]

  @Test("no element is further from its code than half a step, unless it is counted as clamped", arguments: choices)
  func noElementIsFurtherFromItsCodeThanHalfAStepUnlessItIsCountedAsClamped(_ choice: String) throws {
    let values = QuantizeTests.random(9 * 160)
    let result = try QuantizeTests.quantized(values, [9, 160], choice)
    let found = try QuantizeTests.decoded(result)
    guard case .grouped(let integers) = result.tensor.encoding else { return }
    let layout = try #require(integers.layout([9, 160]))
    let scales = QuantizeTests.scales(result.bytes, integers, layout)
    var beyond = 0
    for (index, (x, y)) in zip(values, found).enumerated() {
      let group = index / 160 * layout.groups + index % 160 / integers.groupSize
      if abs(x - y) > abs(scales[group]) / 2 * 1.0001 { beyond += 1 }
    }
    #expect(beyond <= result.loss.clamped, "\(choice): \(beyond) beyond, \(result.loss.clamped) counted")
    let error = zip(values, found).reduce(0.0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
    let squares = values.reduce(0.0) { $0 + Double($1) * Double($1) }
    #expect(abs((error / squares).squareRoot() - result.loss.relativeError) < 1e-6 + result.loss.relativeError * 1e-3)
    let worst = zip(values, found).map { abs(Double($0) - Double($1)) }.max() ?? 0
    #expect(abs(worst - result.loss.largestError) < 1e-6)
  }

  @Test("the search is better than rounding to the largest value", arguments: choices)
  func theSearchIsBetterThanRoundingToTheLargestValue(_ choice: String) throws {
    let values = QuantizeTests.random(64 * 160)
    let result = try QuantizeTests.quantized(values, [64, 160], choice)
    guard case .grouped(let integers) = result.tensor.encoding else { return }
    var plain = 0.0
    for row in 0..<64 {
      for start in stride(from: 0, to: 160, by: integers.groupSize) {
        let group = values[(row * 160 + start)..<(row * 160 + min(start + integers.groupSize, 160))]
        // The range of the group, spread over all codes.
        let (least, most) = (group.min() ?? 0, group.max() ?? 0)
        let levels = Float(1 << (integers.isAffine ? integers.bits : integers.bits - 1)) - 1
        let scale = (integers.isAffine ? most - least : max(most, -least)) / levels
        let zero = integers.isAffine ? least : 0
        for x in group { plain += pow(Double(x - (((x - zero) / scale).rounded(.toNearestOrEven) * scale + zero)), 2) }
      }
    }
    let squares = values.reduce(0.0) { $0 + Double($1) * Double($1) }
    // Whole steps and zeros cost what the search gains, and more in small groups; they take half the bytes.
    let bound = integers.bits < 4 ? 0.97 : integers.form == .twoLevel ? 1.2 : integers.bits == 4 ? 0.97 : 1.0
    #expect(result.loss.relativeError < (plain / squares).squareRoot() * bound)
  }

  @Test("the bytes do not depend on threads", arguments: choices)
  func theBytesDoNotDependOnThreads(_ choice: String) throws {
    let values = QuantizeTests.random(700 * 160)
    let one = try QuantizeTests.quantized(values, [700, 160], choice, threads: 1)
    for threads in [2, 3, 7] {
      let other = try QuantizeTests.quantized(values, [700, 160], choice, threads: threads)
      #expect(other.bytes == one.bytes && other.loss == one.loss)
    }
  }

  @Test("degenerate groups decode to what they were")
  func degenerateGroupsDecodeToWhatTheyWere() throws {
    for choice in QuantizeTests.choices {
      let zeros = try QuantizeTests.quantized(
        [Float](repeating: 0, count: 64), [2, 32],
        choice.replacing("g64", with: "g32").replacing("g128", with: "g32").replacing("g48", with: "g24"))
      #expect(try QuantizeTests.decoded(zeros).allSatisfy { $0 == 0 }, "\(choice)")
      #expect(zeros.loss.vanishedGroups == 0)
      for constant: Float in [0.37, -0.37, 1e-3, 100] {
        let result = try QuantizeTests.quantized([Float](repeating: constant, count: 64), [2, 32], choice)
        // Scales in half precision: within 2^-11, or 127 times half the smallest half; two levels have 127 multiples.
        guard case .grouped(let integers) = result.tensor.encoding else { continue }
        // Of few codes only multiples of 4 are a step's whole multiples.
        let part: Float = integers.bits == 2 ? 15 : integers.bits == 3 ? 40 : 100
        let bound = integers.form == .twoLevel ? abs(constant) / part : max(abs(constant) * 0.0005, 127 * 0x1p-25)
        #expect(try QuantizeTests.decoded(result).allSatisfy { abs($0 - constant) <= bound }, "\(choice) \(constant)")
      }
    }
    let outlier = try QuantizeTests.quantized([1000] + [Float](repeating: 0.001, count: 31), [1, 32], "8")
    #expect(abs(try QuantizeTests.decoded(outlier)[0] - 1000) < 4)
  }

  @Test("scales that do not fit half precision are refused or counted")
  func scalesThatDoNotFitHalfPrecisionAreRefusedOrCounted() throws {
    #expect(throws: Failure.self) { try QuantizeTests.quantized([Float](repeating: 1e9, count: 32), [1, 32], "8") }
    var tiny = [Float](repeating: 1e-8, count: 32)
    tiny[0] = -1e-8
    #expect(try QuantizeTests.quantized(tiny, [1, 32], "8").loss.vanishedGroups == 1)
    // Two levels have the range of BF16; such small steps are not found as well, since the search keeps half precision.
    let small = try QuantizeTests.quantized(tiny, [1, 32], "4")
    #expect(small.loss.vanishedGroups == 0 && small.loss.relativeError < 0.12)
    let large = try QuantizeTests.quantized([Float](repeating: 1e9, count: 32), [1, 32], "4")
    #expect(large.loss.relativeError < 0.02)
    #expect(throws: Failure.self) {
      try QuantizeTests.quantized((0..<32).map { $0 % 2 == 0 ? 3e38 : -3e38 }, [1, 32], "4")
    }
  }

  @Test("a weight that is no number is refused by its place", arguments: [Float.nan, .infinity, -.infinity])
  func aWeightThatIsNoNumberIsRefusedByItsPlace(_ bad: Float) throws {
    var values = QuantizeTests.random(320)
    values[3 * 32 + 7] = bad
    let message = outcome { () throws(Failure) in
      do { _ = try QuantizeTests.quantized(values, [10, 32], "4") } catch let failure as Failure { throw failure } catch
      {}
    }
    guard case .failure(let failure) = message else {
      Issue.record("accepted")
      return
    }
    #expect(
      failure.kind == .malformed && failure.description.contains("[3, 7]") && failure.description.contains("\"w\""))
  }

  /// q → x → q, for every code of every width.
  @Test(
    "what was quantized stays as it is", arguments: [8, 4, 3, 2].flatMap { ["\($0):symmetric", "\($0):affine"] })
  func whatWasQuantizedStaysAsItIs(_ choice: String) throws {
    let levels = 1 << (Int(choice.prefix(1)) ?? 0)
    let isSymmetric = choice.hasSuffix("symmetric")
    for scale: Float in [0.5, 0.0078125, 3] {
      let codes = (0..<levels).map {
        Float(isSymmetric ? max($0 - levels / 2, -(levels / 2) + (levels == 256 ? 1 : 0)) : $0)
      }
      let values = codes.map { $0 * scale }
      let result = try QuantizeTests.quantized(values, [1, levels], choice + ":g\(levels)")
      #expect(try QuantizeTests.decoded(result) == values, "\(choice) \(scale)")
    }
  }

  @Test("overrides choose by name, and a pattern without a match is refused")
  func overridesChooseByNameAndAPatternWithoutAMatchIsRefused() throws {
    var model = try FusionTests.preNorm()
    var notes: [String] = []
    let recipe = QuantizeRecipe(
      linear: try #require(WeightChoice("4:g8")), table: .keep, input: .int8,
      overrides: [("*.weight", try #require(WeightChoice("8:g16"))), ("down.*", .keep)])
    try Pass.run([.quantize(recipe)], on: &model, notes: &notes)
    #expect(model["up.weight"]?.encoding.text == "int8 g16" && model["down.weight"]?.encoding.text == "F32")
    #expect(model["q.bias"]?.encoding.text == "F32" && model["norm.gain"]?.encoding.text == "F32")
    #expect(model.graphs[0].graph.nodes.count { $0.op == .linear(.int8) } == 6)
    let absent = QuantizeRecipe(linear: .keep, table: .keep, input: .float, overrides: [("nothing*", .keep)])
    #expect(throws: Failure.self) { try Pass.run([.quantize(absent)], on: &model, notes: &notes) }
  }

  @Test("short rows and last groups are noted")
  func shortRowsAndLastGroupsAreNoted() throws {
    var model = try FusionTests.preNorm()
    var notes: [String] = []
    try Pass.run(
      [.quantize(QuantizeRecipe(linear: try #require(WeightChoice("4:g20")), table: .keep, input: .float))], on: &model,
      notes: &notes)
    #expect(notes.contains { $0.contains("down.weight") && $0.contains("last group of each row has 4 elements") })
    #expect(notes.contains { $0.contains("up.weight") && $0.contains("shorter than groups of 20") })
  }

  @Test("choices are read and written alike")
  func choicesAreReadAndWrittenAlike() {
    for text in [
      "keep", "16", "F16", "8:g32:symmetric", "4:g64:affine", "4:channel:symmetric", "4:g32:two-level", "3:g64:affine",
      "4:g128:asymmetric", "Q4_K", "IQ4_NL",
    ] {
      #expect(WeightChoice(text)?.text == text)
    }
    #expect(WeightChoice("8")?.text == "8:g32:symmetric" && WeightChoice("4")?.text == "4:g16:two-level")
    #expect(WeightChoice("4:g20")?.text == "4:g20:affine" && WeightChoice("4:channel")?.text == "4:channel:affine")
    for text in ["", "1", "9", "8:g0", "8:gx", "8:huge", "keep:8", "16:g32", "12", "8:two-level", "4:g20:two-level"] {
      #expect(WeightChoice(text) == nil)
    }
  }

  /// The whole integer path against the double-precision reference, on a model quantized as users do.
  @Test(
    "a quantized model agrees with the reference", arguments: ["8", "4", "4:affine", "8:channel", "4:g8:symmetric"])
  func aQuantizedModelAgreesWithTheReference(_ choice: String) throws {
    for input in Op.LinearInput.allCases {
      var model = try FusionTests.bert()
      var notes: [String] = []
      let recipe = QuantizeRecipe(linear: try #require(WeightChoice(choice)), table: .keep, input: input)
      try Pass.run(Pass.fusions + [.quantize(recipe)], on: &model, notes: &notes)
      let lists: [[Int32]] = [
        [2, 5, 6, 3], [2, 3], [2, 7, 8, 9, 10, 11, 3], [2, 17, 16, 15, 14, 13, 12, 11, 10, 9, 3],
      ]
      let expected = try Embedder(model, on: ReferenceDevice()).embed(lists)
      let found = try Embedder(model, on: CPUDevice()).embed(lists)
      // Float32 sums may round an activation to the neighbouring code now and then.
      let worst = zip(expected, found).map { abs($0 - $1) }.max() ?? 1
      #expect(worst < (input == .int8 ? 2e-3 : 5e-6), "\(choice) \(input): \(worst)")
    }
  }

  @Test("the bytes do not depend on the instruction set", arguments: choices)
  func theBytesDoNotDependOnTheInstructionSet(_ choice: String) throws {
    let values = QuantizeTests.random(37 * 160)
    let vector = try QuantizeTests.quantized(values, [37, 160], choice, threads: 1)
    for set in InstructionSets.all {
      let other = try InstructionSets.with(set) { try QuantizeTests.quantized(values, [37, 160], choice, threads: 1) }
      #expect(other.bytes == vector.bytes && other.loss == vector.loss, "\(set)")
    }
  }
}
