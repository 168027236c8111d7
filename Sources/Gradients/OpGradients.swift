import Bytes
import CKernels
import Inference
import Tensors

/// What a number moves when an operation's inputs move, from what it moves by the operation's result: a gradient for
/// every operation of the closed list.
///
/// Operations that round their input (8 bits, BF16) are taken for those that do not: rounding has no slope. All sums
/// are in an order that does not depend on the thread count.
package struct OpGradients: Sendable {
  let device: CPUDevice

  package init(_ device: CPUDevice) { self.device = device }

  /// Inputs of an operation, as they are on the device.
  package struct Inputs {
    let buffers: [DeviceBuffer]
    /// A tensor of the model among them as floats: the device keeps it in whatever form suits products.
    let dense: (Int) throws(Failure) -> Floats

    package init(_ buffers: [DeviceBuffer], dense: @escaping (Int) throws(Failure) -> Floats) {
      (self.buffers, self.dense) = (buffers, dense)
    }

    var x: DeviceBuffer { buffers[0] }
    subscript(index: Int) -> DeviceBuffer { buffers[index] }
    var count: Int { buffers.count }
  }

  /// Gradients by the inputs that are wanted, nil for the others.
  ///
  /// - Parameter upstream: that by the result, of its shape.
  package func gradients(
    of op: Op, _ inputs: Inputs, upstream: Floats, wanted: [Bool]
  ) throws(Failure) -> [Floats?] {
    var results = [Floats?](repeating: nil, count: inputs.count)
    switch op {
    case .embedding(let offset): try embedding(offset, inputs, upstream, wanted, &results)
    case .row(let index):
      if wanted[0] { results[0] = try scattered(upstream, to: [index], rows: inputs.x.rows) }
    case .linear: try linear(inputs, upstream, wanted, &results)
    case .add:
      if wanted[0] { results[0] = upstream }
      if wanted[1] { results[1] = inputs[1].rows == upstream.rows ? upstream : try columnSums(upstream) }
    case .multiply:
      for index in 0...1 where wanted[index] { results[index] = try times(upstream, inputs[1 - index]) }
    case .norm(let kind, let epsilon, let heads):
      try norm(kind, epsilon, heads: heads, inputs, upstream, wanted, &results)
    case .activation(let kind): if wanted[0] { results[0] = try activation(kind, inputs.x, upstream) }
    case .rescale(let rescale): if wanted[0] { results[0] = try self.rescale(rescale, upstream) }
    case .rope(let rotation): if wanted[0] { results[0] = try rope(rotation, inputs[1], upstream) }
    case .interpolate: try interpolate(inputs, upstream, wanted, &results)
    case .slice(let offset, _): if wanted[0] { results[0] = try padded(upstream, offset, inputs.x.columns) }
    case .concatenate:
      var offset = 0
      for index in 0..<inputs.count {
        if wanted[index] { results[index] = try upstream.slice(offset, inputs[index].columns) }
        offset += inputs[index].columns
      }
    case .route(let top): if wanted[0] { results[0] = try route(top, inputs.x, upstream) }
    case .routed(let expert): if wanted[0] { results[0] = try routed(expert, inputs, upstream) }
    case .mix: try mix(inputs, upstream, wanted, &results)
    case .attention(let attention): try self.attention(attention, inputs, upstream, wanted, &results)
    case .pool(let kind): if wanted[0] { results[0] = try pool(kind, inputs, upstream) }
    case .normalize: if wanted[0] { results[0] = try normalize(inputs.x, upstream) }
    }
    return results
  }

  // MARK: Products

  private func linear(
    _ inputs: Inputs, _ upstream: Floats, _ wanted: [Bool], _ results: inout [Floats?]
  ) throws(Failure) {
    let (rows, columns, outputs) = (inputs.x.rows, inputs.x.columns, upstream.columns)
    if wanted[0] {
      let weight = try inputs.dense(1)
      results[0] = try device.product(upstream.view, weight.view, m: rows, n: columns, k: outputs)
      withExtendedLifetime(weight) {}
    }
    if wanted[1] {
      let x = try device.values(inputs.x)
      results[1] = try device.product(upstream.view, transposed: true, x, m: outputs, n: columns, k: rows)
    }
    if inputs.count > 2, wanted[2] { results[2] = try columnSums(upstream) }
  }

  func columnSums(_ values: Floats) throws(Failure) -> Floats {
    let columns = values.columns
    return try device.sums(values.rows, parts: 1, columns: columns) { row, sums in
      let from = values[row]
      for column in 0..<columns { sums[column] += from[column] }
    }[0]
  }

  // MARK: Element by element

  private func times(_ upstream: Floats, _ other: DeviceBuffer) throws(Failure) -> Floats {
    let other = try device.values(other)
    return try mapped(upstream) { row, dy, dx in
      let y = other[row]
      for column in 0..<upstream.columns { dx[column] = dy[column] * y[column] }
    }
  }

  private func activation(_ kind: Op.Activation, _ x: DeviceBuffer, _ upstream: Floats) throws(Failure) -> Floats {
    let (values, columns) = (try device.values(x), upstream.columns)
    return try mapped(upstream) { row, dy, dx in
      dx.update(from: dy, count: columns)
      llv_activate_gradient(kind.kernel, values[row], dx, columns)
    }
  }

  private func rescale(_ rescale: Op.Rescale, _ upstream: Floats) throws(Failure) -> Floats {
    let width = upstream.columns / rescale.mean.count
    return try mapped(upstream) { _, dy, dx in
      for column in 0..<upstream.columns {
        dx[column] = Float(Double(dy[column]) * rescale.factor / rescale.deviation[column / width])
      }
    }
  }

  /// The turn back.
  private func rope(_ rotation: Op.Rotation, _ positions: DeviceBuffer, _ upstream: Floats) throws(Failure) -> Floats {
    let places = try device.indices(positions)
    let (width, half) = (rotation.headWidth, rotation.headWidth / 2)
    let turns = try device.turns.table(rotation, positions: (places.max() ?? 0) + 1)
    return try mapped(upstream) { row, dy, dx in
      let turn = turns.floats + places[row] * width
      for head in stride(from: 0, to: upstream.columns, by: width) {
        for i in head..<head + half {
          let (a, b, cosine, sine) = (dy[i], dy[i + half], turn[i - head], turn[half + i - head])
          dx[i] = a * cosine + b * sine
          dx[i + half] = b * cosine - a * sine
        }
      }
    }
  }

  private func normalize(_ x: DeviceBuffer, _ upstream: Floats) throws(Failure) -> Floats {
    let values = try device.values(x)
    return try mapped(upstream) { row, dy, dx in
      let x = values[row]
      var (squares, dot) = (0.0, 0.0)
      for column in 0..<upstream.columns {
        squares += Double(x[column]) * Double(x[column])
        dot += Double(x[column]) * Double(dy[column])
      }
      let factor = squares > 0 ? 1 / squares.squareRoot() : 0
      let along = squares > 0 ? dot / squares : 0
      for column in 0..<upstream.columns {
        dx[column] = Float(factor * (Double(dy[column]) - along * Double(x[column])))
      }
    }
  }

  private func padded(_ upstream: Floats, _ offset: Int, _ columns: Int) throws(Failure) -> Floats {
    let result = try Floats.zeros(upstream.rows, columns)
    for row in 0..<upstream.rows { (result[row] + offset).update(from: upstream[row], count: upstream.columns) }
    return result
  }

  // MARK: Norms

  private func norm(
    _ kind: Op.Norm, _ epsilon: Double, heads: Int, _ inputs: Inputs, _ upstream: Floats, _ wanted: [Bool],
    _ results: inout [Floats?]
  ) throws(Failure) {
    let x = try device.values(inputs.x)
    let width = upstream.columns / heads
    var gain: Floats?
    if inputs.count > 1 {
      let own = try Floats(1, width)
      let given = try device.values(inputs[1])
      for column in 0..<width { own[0][column] = given[0][column] + kind.gainOffset }
      gain = own
    }
    let (factor, result) = (gain, try Floats(upstream.rows, upstream.columns))
    let sums = try device.sums(upstream.rows, parts: 2, columns: width) { row, sums in
      for start in stride(from: 0, to: upstream.columns, by: width) {
        llv_norm_gradient_row(
          x[row] + start, width, kind == .layer ? 1 : 0, epsilon, factor?[0], upstream[row] + start,
          result[row] + start,
          sums, sums + width)
      }
    }
    if wanted[0] { results[0] = result }
    for index in 1..<inputs.count where wanted[index] { results[index] = sums[index - 1] }
  }

  /// A matrix like another one, row by row.
  func mapped(
    _ upstream: Floats,
    _ body: @Sendable (_ row: Int, _ from: UnsafePointer<Float>, _ to: UnsafeMutablePointer<Float>) -> Void
  ) throws(Failure) -> Floats {
    let result = try Floats(upstream.rows, upstream.columns)
    try device.forRows(upstream.rows) { range in for row in range { body(row, upstream[row], result[row]) } }
    return result
  }
}
