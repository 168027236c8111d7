import Bytes
import CKernels
import Tensors
import TestSupport
import Testing

struct HalfPrecisionTests {
  /// Exhaustive, against the definition of the format.
  @Test("every half widens exactly and comes back")
  func everyHalfWidensExactlyAndComesBack() {
    for bits in UInt16.min...UInt16.max {
      let value = llv_half_to_float(bits)
      let exponent = Int(bits >> 10 & 31)
      let fraction = Float(bits & 1023)
      let sign: Float = bits >> 15 == 0 ? 1 : -1
      if exponent == 31 {
        #expect(fraction == 0 ? value == sign * .infinity : value.isNaN)
        if fraction == 0 { #expect(llv_half_from_float(value) == bits) }
        continue
      }
      let scale = Float(sign: .plus, exponent: max(exponent, 1) - 25, significand: 1)
      #expect(value == sign * scale * ((exponent == 0 ? 0 : 1024) + fraction))
      #expect(llv_half_from_float(value) == bits)
    }
  }

  @Test("rounding is to nearest, ties to even")
  func roundingIsToNearestTiesToEven() {
    for bits in UInt16(0)..<0x7BFF {
      let (low, high) = (llv_half_to_float(bits), llv_half_to_float(bits + 1))
      let middle = low + (high - low) / 2
      #expect(llv_half_from_float(middle) == (bits % 2 == 0 ? bits : bits + 1))
      #expect(llv_half_from_float(middle.nextUp) == bits + 1)
      #expect(llv_half_from_float(middle.nextDown) == bits)
    }
    #expect(llv_half_from_float(65_519.99) == 0x7BFF)
    #expect(llv_half_from_float(65_520) == 0x7C00)
    #expect(llv_half_from_float(-1e9) == 0xFC00)
    #expect(llv_half_from_float(0x1p-25) == 0)
    #expect(llv_half_to_float(llv_half_from_float(.nan)).isNaN)
  }

  @Test("plain tensors of every weight type read as floats")
  func plainTensorsOfEveryWeightTypeReadAsFloats() throws {
    func floats(_ type: DType, _ bytes: [UInt8]) throws -> [Float] {
      let count = bytes.count * 8 / type.bits
      let tensor = Tensor("t", shape: [count], encoding: .plain(type), content: .bytes(ByteView(try Buffer(bytes))))
      return try tensor.floats().array(of: Float.self)
    }
    #expect(try floats(.BF16, [0x80, 0x3F, 0x00, 0xC0]) == [1, -2])
    #expect(try floats(.F16, [0x00, 0x3C, 0x00, 0xC0]) == [1, -2])
    #expect(try floats(.F32, [0, 0, 0x80, 0x3F]) == [1])
    #expect(try floats(.F64, [0, 0, 0, 0, 0, 0, 0xF0, 0x3F]) == [1])
    #expect(throws: Failure.self) { try floats(.I32, [1, 0, 0, 0]) }
  }
}

struct EncodingTests {
  @Test("the layout of grouped integers has no gaps but the alignment")
  func theLayoutOfGroupedIntegersHasNoGapsButTheAlignment() throws {
    let integers = try #require(GroupedInteger(bits: 4, groupSize: 32, isAffine: true))
    let layout = try #require(integers.layout([3, 70]))
    #expect(layout.groups == 3 && layout.rowBytes == 35)
    #expect(layout.scalesAt == 128 && layout.zerosAt == 192 && layout.byteCount == 192 + 18)
    #expect(integers.layout([3, 16]) == nil, "a group longer than the row")
    #expect(integers.layout([.max, 64]) == nil, "overflow")
    #expect(GroupedInteger(bits: 5, groupSize: 32, isAffine: true) == nil)
  }

  @Test("codes decode to code times scale plus zero")
  func codesDecodeToCodeTimesScalePlusZero() throws {
    // One row of five: codes 0, 15 | 8, 7 | 1 in groups of two.
    let affine = try #require(GroupedInteger(bits: 4, groupSize: 2, isAffine: true, scaleType: .F32))
    let bytes = try packed(affine, [5], codes: [0xF0, 0x78, 0x01], scales: [1, 0.5, 2], zeros: [-1, 0, 10])
    #expect(try floats(affine, [1, 5], bytes) == [-1, 14, 4, 3.5, 12])
    let symmetric = try #require(GroupedInteger(bits: 4, groupSize: 2, isAffine: false, scaleType: .F32))
    let signed = try packed(symmetric, [5], codes: [0xF0, 0x78, 0x01], scales: [1, 0.5, 2], zeros: [])
    #expect(try floats(symmetric, [1, 5], signed) == [0, -1, -4, 3.5, 2])
    let wide = try #require(GroupedInteger(bits: 8, groupSize: 3, isAffine: false, scaleType: .F32))
    let eight = try packed(wide, [3], codes: [0x81, 0x7F, 0x00], scales: [0.25], zeros: [])
    #expect(try floats(wide, [3], eight) == [-31.75, 31.75, 0])
    // 0, 7, 5, 2 and 6 of three bits one after the other, over the end of a byte; 3, 0, 1, 2 and 3 of two.
    let three = try #require(GroupedInteger(bits: 3, groupSize: 2, isAffine: true, scaleType: .F32))
    let five = try packed(three, [5], codes: [0x78, 0x65], scales: [1, 0.5, 2], zeros: [-1, 0, 10])
    #expect(try floats(three, [1, 5], five) == [-1, 6, 2.5, 1, 22])
    let two = try #require(GroupedInteger(bits: 2, groupSize: 2, isAffine: false, scaleType: .F32))
    let few = try packed(two, [5], codes: [0x93, 0x03], scales: [1, 0.5, 2], zeros: [])
    #expect(try floats(two, [1, 5], few) == [-1, 0, 0.5, -1, -2])
  }

  @Test("groups in two levels decode to scale times step times what the code is above the zero")
  func groupsInTwoLevelsDecode() throws {
    let integers = try #require(GroupedInteger(bits: 4, groupSize: 8, form: .twoLevel, scaleType: .BF16))
    let layout = try #require(integers.layout([1, 12]))
    #expect(layout.groups == 2 && layout.scalesAt == 64 && layout.zerosAt == 128 && layout.byteCount == 130)
    var bytes = [UInt8](repeating: 0, count: layout.byteCount)
    bytes.replaceSubrange(0..<6, with: [0xF0, 0x78, 0x01, 0x00, 0x21, 0x43])
    bytes.replaceSubrange(64..<66, with: [0x00, 0x3F])  // 0.5
    bytes.replaceSubrange(128..<130, with: [0x82, 0x10])  // step 3, zero 8; step 1, zero 1
    #expect(
      try floats(integers, [1, 12], bytes) == [-12, 10.5, 0, -1.5, -10.5, -12, -12, -12, 0, 0.5, 1, 1.5])
    // Codes of three bits count double, those of two fourfold: 0, 7, 5, 2 and 6 are 0, 14, 10, 4 and 12.
    let three = try #require(GroupedInteger(bits: 3, groupSize: 8, form: .twoLevel, scaleType: .BF16))
    var few = [UInt8](repeating: 0, count: try #require(three.layout([1, 8])).byteCount)
    few.replaceSubrange(0..<2, with: [0x78, 0x65])
    few.replaceSubrange(64..<66, with: [0x00, 0x3F])
    few[128] = 0x72  // step 3, zero 7
    #expect(try floats(three, [1, 8], few) == [-10.5, 10.5, 4.5, -4.5, 7.5, -10.5, -10.5, -10.5])
    let two = try #require(GroupedInteger(bits: 2, groupSize: 8, form: .twoLevel, scaleType: .BF16))
    few.replaceSubrange(0..<2, with: [0x93, 0x03])  // 12, 0, 4, 8, 12
    few[128] = 0x62  // step 3, zero 6
    #expect(try floats(two, [1, 8], few) == [9, -9, -3, 3, 9, -9, -9, -9])
    #expect(GroupedInteger(bits: 5, groupSize: 8, form: .affine) == nil)
    #expect(GroupedInteger(bits: 8, groupSize: 8, form: .twoLevel, scaleType: .BF16) == nil)
    #expect(GroupedInteger(bits: 4, groupSize: 12, form: .twoLevel, scaleType: .BF16) == nil)
    #expect(GroupedInteger(bits: 4, groupSize: 8, form: .twoLevel, scaleType: .F32) == nil)
  }

  private func packed(_ integers: GroupedInteger, _ shape: [Int], codes: [UInt8], scales: [Float], zeros: [Float])
    throws -> [UInt8]
  {
    let layout = try #require(integers.layout(shape))
    var bytes = [UInt8](repeating: 0, count: layout.byteCount)
    bytes.replaceSubrange(0..<codes.count, with: codes)
    scales.withUnsafeBytes { bytes.replaceSubrange(layout.scalesAt..<layout.scalesAt + $0.count, with: $0) }
    zeros.withUnsafeBytes { bytes.replaceSubrange(layout.zerosAt..<layout.zerosAt + $0.count, with: $0) }
    return bytes
  }

  private func floats(_ integers: GroupedInteger, _ shape: [Int], _ bytes: [UInt8]) throws -> [Float] {
    try Tensor("t", shape: shape, encoding: .grouped(integers), content: .bytes(ByteView(try Buffer(bytes)))).floats()
      .array(of: Float.self)
  }
}

struct GraphTests {
  static func types(_ name: TensorName) -> ValueType? {
    switch name.text {
    case "table": ValueType(.fixed(9), 4)
    case "w": ValueType(.fixed(6), 4)
    case "b": ValueType(.fixed(1), 6)
    default: nil
    }
  }

  static func inputType(_ input: Graph.Input) -> ValueType? {
    Configuration(architecture: "test", width: 4, vocabulary: 9, maximumTokens: 9).type(of: input)
  }

  @Test("types follow from the operations")
  func typesFollowFromTheOperations() throws {
    var graph = Graph()
    let x = graph.append(.embedding(), .tensor("table"), .input(.tokens))
    let y = graph.append(.linear(.float), x, .tensor("w"), .tensor("b"))
    graph.append(.pool(.mean), y, .input(.starts))
    #expect(
      try graph.types(tensor: GraphTests.types, input: GraphTests.inputType) == [
        ValueType(.tokens, 4), ValueType(.tokens, 6), ValueType(.sequences, 6),
      ])
  }

  static let wrong: [(String, Graph.Node)] = [
    ("needs", Graph.Node(.linear(.float), [.node(0), .tensor("table"), .tensor("b")])),
    ("needs", Graph.Node(.linear(.float), [.input(.tokens), .tensor("w")])),
    ("lacks", Graph.Node(.linear(.float), [.node(0), .tensor("absent")])),
    ("batch first", Graph.Node(.add, [.tensor("w"), .tensor("w")])),
    ("batch first", Graph.Node(.normalize, [.tensor("w")])),
    ("not before", Graph.Node(.add, [.node(0), .node(7)])),
    ("needs", Graph.Node(.add, [.node(0), .tensor("w")])),
    ("needs", Graph.Node(.slice(offset: 3, count: 2), [.node(0)])),
    ("needs", Graph.Node(.row(9), [.tensor("table")])),
    ("needs", Graph.Node(.multiply, [.node(0), .tensor("b")])),
    ("needs", Graph.Node(.rescale(.init(factor: 1, mean: [0, 0, 0], deviation: [1, 1, 1])), [.node(0)])),
    ("needs", Graph.Node(.rescale(.init(factor: 1, mean: [0, 0], deviation: [1])), [.node(0)])),
    ("needs", Graph.Node(.rope(.init(theta: 1e4, headWidth: 3)), [.node(0), .input(.positions)])),
    ("needs", Graph.Node(.rope(.init(theta: 1e4, headWidth: 2)), [.node(0), .input(.starts)])),
    ("needs", Graph.Node(.interpolate, [.node(0), .tensor("b"), .input(.taps), .input(.weights)])),
    ("needs", Graph.Node(.embedding(), [.tensor("table"), .input(.tokens), .node(0)])),
    ("configuration does not have", Graph.Node(.normalize, [.input(.pixels)])),
    ("configuration does not have", Graph.Node(.normalize, [.input(.hidden)])),
    ("needs", Graph.Node(.pool(.mean), [.input(.positions), .input(.starts)])),
    ("needs", Graph.Node(.pool(.mean), [.node(0), .input(.tokens)])),
    ("needs", Graph.Node(.norm(.layer, epsilon: 1e-5), [.node(0), .tensor("b")])),
    (
      "needs",
      Graph.Node(
        .attention(.init(heads: 3, keyValueHeads: 2, headWidth: 2, scale: 1, isCausal: false)),
        [.node(0), .node(0), .node(0), .input(.starts)])
    ),
    (
      "needs",
      Graph.Node(
        .attention(.init(heads: 2, keyValueHeads: 2, headWidth: 2, scale: 1, isCausal: false)),
        [.node(0), .node(0), .node(0), .input(.positions)])
    ),
  ]

  @Test("a graph that does not fit is refused with its node", arguments: wrong.indices)
  func aGraphThatDoesNotFitIsRefusedWithItsNode(_ row: Int) {
    let (words, node) = GraphTests.wrong[row]
    var graph = Graph()
    graph.append(.embedding(), .tensor("table"), .input(.tokens))
    graph.append(node)
    guard
      case .failure(let failure) = outcome({ () throws(Failure) in
        try graph.types(tensor: GraphTests.types, input: GraphTests.inputType)
      })
    else {
      Issue.record("row \(row) was accepted")
      return
    }
    #expect(failure.description.contains(words) && failure.description.contains("graph node 1"), "\(failure)")
  }

  @Test("pruning keeps what the output needs")
  func pruningKeepsWhatTheOutputNeeds() throws {
    var graph = Graph()
    let x = graph.append(.embedding(), .tensor("table"), .input(.tokens))
    graph.append(.activation(.relu), x)
    graph.append(.linear(.float), x, .tensor("w"))
    let pruned = graph.pruned()
    #expect(pruned.nodes.map(\.op) == [.embedding(), .linear(.float)])
    #expect(pruned.output == 1 && pruned.nodes[1].inputs[0] == .node(0))
  }

  @Test("numbers that describe no views are refused")
  func numbersThatDescribeNoViewsAreRefused() throws {
    let good = Vision(tile: 36, patch: 8, width: 4, grid: [.init(36, 72)])
    let changes: [(inout Vision) -> Void] = [
      { $0.patch = 0 }, { $0.patch = 37 }, { $0.tile = 5_000 },
      {
        $0.tile = 2_600; $0.patch = 10; $0.grid = []
      },
      { $0.grid = [.init(36, 40)] }, { $0.grid = [.init(0, 36)] }, { $0.grid = [.init(36 * 1_000, 36)] },
      { $0.maximumFrames = 0 },
    ]
    for (index, change) in ([{ _ in }] + changes).enumerated() {
      var model = Model(configuration: Configuration(architecture: "test", width: 4, vocabulary: 1, maximumTokens: 1))
      var vision = good
      change(&vision)
      model.configuration.vision = vision
      let result = outcome { () throws(Failure) in try model.checkInvariants() }
      if case .success = result {
        #expect(index == 0, "change \(index)")
      } else {
        #expect(index > 0, "change \(index)")
      }
    }
  }

  @Test("a model's invariants name every fault")
  func aModelSInvariantsNameEveryFault() throws {
    var model = Model(configuration: Configuration(architecture: "test", width: 4, vocabulary: 1, maximumTokens: 1))
    model.set(Tensor("short", shape: [5], encoding: .plain(.F32), content: .bytes(ByteView(try Buffer([1, 2])))))
    model.set(Tensor("negative", shape: [-1], encoding: .plain(.F32), content: .bytes(ByteView(try Buffer([])))))
    model.graphs = [("text", Graph())]
    guard case .failure(let failure) = outcome({ () throws(Failure) in try model.checkInvariants() }) else {
      Issue.record("accepted")
      return
    }
    #expect(failure.description.split(separator: "\n").count == 3)
  }
}
