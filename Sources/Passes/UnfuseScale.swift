import Bytes
import CKernels
import Tensors

extension Model {
  /// Takes the factor of attention out of the query's weight and bias, where `foldAttentionScale` put it.
  ///
  /// - Rounding: codes stay; scales and zeros, and plain weights, are divided in double and rounded to Float32 and to
  ///   their type. That is exact for heads whose width is a power of four.
  mutating func takeScaleBack(_ notes: inout [String]) throws(Failure) {
    var rounded = 0
    for place in graphs.indices {
      var graph = graphs[place].graph
      for index in graph.nodes.indices {
        guard case .attention(var attention) = graph.nodes[index].op, attention.scale == 1, attention.headWidth > 0,
          let query = Pass.queryLinear(of: index, graph), case .tensor(let name) = graph.nodes[query].inputs[1],
          let weight = self[name], let old = name.without("scaled"), readers(of: name) == 1
        else { continue }
        let factor = 1 / Double(attention.headWidth).squareRoot()
        var inputs = [graph.nodes[query].inputs[0], .tensor(old)]
        var made = [name: try weight.divided(by: factor).renamed(old)]
        if graph.nodes[query].inputs.count > 2, let bias = tensor(graph.nodes[query].inputs[2]) {
          guard readers(of: bias.name) == 1 else { continue }
          let beside = name.biasBeside ?? bias.name
          made[bias.name] = try bias.divided(by: factor).renamed(beside)
          inputs.append(.tensor(beside))
        }
        try replaceTensors { [made[$0.name] ?? $0] }
        graph.replace(query, with: .init(graph.nodes[query].op, inputs))
        attention.scale = factor
        graph.replace(index, with: .init(.attention(attention), graph.nodes[index].inputs))
        if weight.encoding != .plain(.F32), factor.significand != 1 { rounded += 1 }
      }
      graphs[place].graph = graph
    }
    if rounded > 0 {
      notes.append(
        "\(rounded) weights of queries held attention's factor, which is no power of two: their codes stay, their "
          + "scales "
          + "are rounded once more")
    }
  }

  /// How often graphs read a tensor.
  func readers(of name: TensorName) -> Int {
    graphs.reduce(0) { $0 + $1.graph.nodes.reduce(0) { $0 + $1.inputs.count { $0 == .tensor(name) } } }
  }
}

extension Tensor {
  /// The same with every value divided, in its encoding.
  fileprivate func divided(by factor: Double) throws(Failure) -> Tensor {
    let computation: Computation
    switch encoding {
    case .plain(let type):
      guard let steps = GroupedInteger(bits: 8, groupSize: 1, form: .symmetric, scaleType: type) else {
        throw Failure(.unsupported, "is \(type.rawValue), which cannot be divided", thing: "tensor \(name.quoted)")
      }
      computation = Computation { (threads) throws(Failure) in
        let result = try load(threads: threads)
        return (try steps.divided(result, at: 0, count: count, by: factor), nil)
      }
    case .grouped(let integers):
      guard let layout = integers.layout(shape) else { throw Failure(.internal, "no layout for \(shape)") }
      let width = integers.scaleType.bits / 8
      computation = Computation { (threads) throws(Failure) in
        let scales = layout.rows * layout.scaleBytes / width
        var result = try integers.divided(
          try load(threads: threads), at: layout.scalesAt, count: scales, by: factor)
        if integers.form == .affine {
          result = try integers.divided(result, at: layout.zerosAt, count: scales, by: factor)
        }
        return (result, nil)
      }
    }
    return Tensor(name, shape: shape, encoding: encoding, content: .computed(computation))
  }
}

extension GroupedInteger {
  /// A copy of `bytes` with `count` scales at `start` divided.
  ///
  /// - Throws: `limit` where one becomes too large for its type.
  fileprivate func divided(
    _ bytes: Buffer, at start: Int, count: Int, by factor: Double
  ) throws(Failure) -> Buffer {
    let result = try Buffer(count: bytes.count)
    try ByteView(bytes).read((0, bytes.count, 0), into: result)
    let values = try Buffer(count: count * 4)
    let isFinite = result.withMutableBytes { target in
      values.with(Float.self) { values in
        guard let base = target.baseAddress, !values.isEmpty else { return true }
        decodeScales(base + start, into: values)
        for index in values.indices { values[index] = Float(Double(values[index]) / factor) }
        encodeScales(UnsafeBufferPointer(values), into: base + start)
        decodeScales(base + start, into: values)
        return llv_first_nonfinite(values.baseAddress, values.count) == values.count
      }
    }
    guard isFinite else {
      throw Failure(.limit, "without attention's factor its scales are too large for \(scaleType.rawValue)")
    }
    return result
  }
}
