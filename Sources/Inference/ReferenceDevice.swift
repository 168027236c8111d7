import Bytes
import Glibc
import Tensors

/// Slow, obvious, in double precision: what every operation means. The oracle of every operation test.
///
/// It shares no arithmetic with the other devices. Where an operation is defined by a rounding (8-bit activations),
/// that rounding is done here in the same way, and everything around it exactly.
public struct ReferenceDevice: Device {
  public let name = "reference"

  public init() {}

  /// Rows of doubles, and how the tensor was stored.
  final class Matrix: Sendable {
    let rows: [[Double]]
    let encoding: Encoding

    init(_ rows: [[Double]], _ encoding: Encoding) {
      self.rows = rows
      self.encoding = encoding
    }
  }

  public func upload(_ tensor: Tensor, isLinear: Bool) throws(Failure) -> DeviceBuffer {
    let tensor = tensor.matrix
    let bytes = try tensor.load().array(of: UInt8.self)
    let isVector = tensor.shape.count <= 1
    let values = try ReferenceDevice.decode(tensor, bytes)
    let isIndex =
      if case .plain(let type) = tensor.encoding { !type.isWeight } else { false }
    if values.isEmpty { return buffer([], tensor.columns) }
    let columns = isIndex && isVector ? 1 : tensor.columns
    let rows = stride(from: 0, to: values.count, by: max(columns, 1)).map { Array(values[$0..<$0 + columns]) }
    return buffer(rows, columns, tensor.encoding)
  }

  public func upload(floats: [Float], columns: Int) throws(Failure) -> DeviceBuffer {
    try upload(Tensor("value", floats: floats, shape: [floats.count / columns, columns]))
  }

  public func download(_ buffer: DeviceBuffer) throws(Failure) -> [Float] {
    try matrix(buffer).rows.flatMap { $0.map { Float($0) } }
  }

  /// A value's elements, row-major, as they are.
  package func doubles(_ buffer: DeviceBuffer) throws(Failure) -> [Double] { try matrix(buffer).rows.flatMap { $0 } }

  public func run(
    _ op: Op, _ inputs: [DeviceBuffer], then steps: [FollowingStep]
  ) throws(Failure) -> DeviceBuffer {
    var result = try run(op, inputs)
    for step in steps { result = try run(step.op, [result] + (step.other.map { [$0] } ?? [])) }
    return result
  }

  public func run(_ op: Op, _ inputs: [DeviceBuffer]) throws(Failure) -> DeviceBuffer {
    var values: [[[Double]]] = []
    for input in inputs { values.append(try matrix(input).rows) }
    let x = values[0]
    let columns = inputs[0].columns
    switch op {
    case .embedding(let offset):
      return buffer(values[1].map { $0[0] >= 0 ? x[Int($0[0]) + offset] : values[2][-1 - Int($0[0])] }, columns)
    case .row(let index): return buffer([x[index]], columns)
    case .linear(let input):
      let rounded =
        switch (input, try matrix(inputs[1]).encoding) {
        case (.int8, .grouped(let integers)):
          x.map { ReferenceDevice.rounded($0, integers.activationGroup($0.count)) }
        case (.bfloat16, .plain(.BF16)): x.map { $0.map(ReferenceDevice.bfloat16) }
        default: x
        }
      let y = rounded.map { row in
        values[1].enumerated().map { output, weights in
          zip(row, weights).reduce(values.count > 2 ? values[2][0][output] : 0) { $0 + $1.0 * $1.1 }
        }
      }
      return buffer(y, inputs[1].rows)
    case .add:
      return buffer(
        x.indices.map { row in zip(x[row], values[1][values[1].count == 1 ? 0 : row]).map { $0 + $1 } }, columns)
    case .multiply: return buffer(zip(x, values[1]).map { zip($0, $1).map { $0 * $1 } }, columns)
    case .rescale(let rescale):
      let width = columns / rescale.mean.count
      let y = x.map { row in
        row.enumerated().map { ($1 * rescale.factor - rescale.mean[$0 / width]) / rescale.deviation[$0 / width] }
      }
      return buffer(y, columns)
    case .rope(let rotation):
      return buffer(zip(x, values[1]).map { ReferenceDevice.turned($0, at: $1[0], rotation) }, columns)
    case .interpolate:
      let y = zip(values[2], values[3]).map { taps, weights in
        (0..<columns).map { column in
          zip(taps, weights).reduce(0) { $0 + $1.1 * ($1.0 < 0 ? values[1][0] : x[Int($1.0)])[column] }
        }
      }
      return buffer(y, columns)
    case .norm(let kind, let epsilon, let heads):
      let gain = values.count > 1 ? values[1][0].map { kind == .rmsPlusOne ? 1 + $0 : $0 } : nil
      let bias = values.count > 2 ? values[2][0] : nil
      let y = x.map { row in
        stride(from: 0, to: columns, by: columns / heads).flatMap { start in
          ReferenceDevice.normalized(Array(row[start..<start + columns / heads]), kind, epsilon, gain, bias)
        }
      }
      return buffer(y, columns)
    case .concatenate:
      let y = x.indices.map { row in values.flatMap { $0[row] } }
      return buffer(y, inputs.reduce(0) { $0 + $1.columns })
    case .route(let top): return buffer(x.map { ReferenceDevice.shares($0, top: top) }, columns)
    case .routed(let expert): return buffer(zip(x, values[1]).filter { $1[expert] != 0 }.map(\.0), columns)
    case .mix:
      var next = [Int](repeating: 0, count: columns)
      let width = inputs[1].columns
      let y = x.map { shares in
        var row = [Double](repeating: 0, count: width)
        for (expert, share) in shares.enumerated() where share != 0 {
          for (column, value) in values[1 + expert][next[expert]].enumerated() { row[column] += share * value }
          next[expert] += 1
        }
        return row
      }
      return buffer(y, width)
    case .activation(let kind): return buffer(x.map { $0.map { ReferenceDevice.activate(kind, $0) } }, columns)
    case .slice(let offset, let count): return buffer(x.map { Array($0[offset..<offset + count]) }, count)
    case .attention(let attention):
      let starts = values[3].map { Int($0[0]) }
      guard attention.input != .int8 else {
        return buffer(ReferenceDevice.attendByIntegers(attention, x, values[1], values[2], starts), columns)
      }
      let biases = values.count > 4 ? values[4] : nil
      return buffer(ReferenceDevice.attend(attention, x, values[1], values[2], starts, biases), columns)
    case .pool(let kind):
      let starts = values[1].map { Int($0[0]) }
      let y = zip(starts, starts.dropFirst()).map { start, end in
        switch kind {
        case .first: x[start]
        case .last: x[end - 1]
        case .mean: (0..<columns).map { column in x[start..<end].reduce(0) { $0 + $1[column] } / Double(end - start) }
        case .max: (0..<columns).map { column in x[start..<end].map { $0[column] }.max() ?? 0 }
        case .weightedMean:
          (0..<columns).map { column in
            let places = Double((end - start) * (end - start + 1) / 2)
            return x[start..<end].enumerated().reduce(0) { $0 + Double($1.offset + 1) * $1.element[column] } / places
          }
        case .rootMean:
          (0..<columns).map { column in
            x[start..<end].reduce(0) { $0 + $1[column] } / Double(end - start).squareRoot()
          }
        }
      }
      return buffer(y, columns)
    case .normalize:
      let y = x.map { row in
        let length = row.reduce(0) { $0 + $1 * $1 }.squareRoot()
        return row.map { length > 0 ? $0 / length : 0 }
      }
      return buffer(y, columns)
    }
  }

  // MARK: Meaning

  private static func shares(_ scores: [Double], top: Int) -> [Double] {
    let most = scores.max() ?? 0
    let sum = scores.reduce(0) { $0 + exp($1 - most) }
    let chosen = Set(scores.indices.sorted { (scores[$1], $0) < (scores[$0], $1) }.prefix(top))
    return scores.enumerated().map { chosen.contains($0) ? exp($1 - most) / sum : 0 }
  }

  private static func activate(_ kind: Op.Activation, _ x: Double) -> Double {
    switch kind {
    case .gelu: x * (1 + erf(x / 2.0.squareRoot())) / 2
    case .geluTanh: x / 2 * (1 + Glibc.tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
    case .silu: x / (1 + exp(-x))
    case .relu: max(x, 0)
    case .tanh: Glibc.tanh(x)
    }
  }

  private static func normalized(
    _ row: [Double], _ kind: Op.Norm, _ epsilon: Double, _ gain: [Double]?, _ bias: [Double]?
  ) -> [Double] {
    let mean = kind == .layer ? row.reduce(0, +) / Double(row.count) : 0
    let variance = row.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(row.count)
    return row.enumerated().map { index, value in
      (value - mean) / (variance + epsilon).squareRoot() * (gain?[index] ?? 1) + (bias?[index] ?? 0)
    }
  }

  /// A row with pairs of columns turned. Frequency and angle are rounded to Float32, as `Op.rope` is defined.
  private static func turned(_ row: [Double], at position: Double, _ rotation: Op.Rotation) -> [Double] {
    var result = row
    let (width, frequencies, size) = (rotation.headWidth, rotation.frequencies, Double(rotation.magnitude))
    for head in stride(from: 0, to: row.count, by: width) {
      for i in 0..<width / 2 {
        let angle = Double(Float(position) * frequencies[i])
        let (a, b) = (row[head + i] * size, row[head + i + width / 2] * size)
        result[head + i] = a * cos(angle) - b * sin(angle)
        result[head + i + width / 2] = b * cos(angle) + a * sin(angle)
      }
    }
    return result
  }

  /// Of keys in the order of their places, those that a query at a place sees.
  static func seen(_ attention: Op.Attention, by place: Int, _ keys: [Int]) -> [Int] {
    keys.enumerated().filter { key, _ in
      (!attention.isCausal || key <= place) && attention.window.map { abs(key - place) < $0 } ?? true
    }.map(\.element)
  }

  /// - Parameter biases: by bucket and head.
  private static func attend(
    _ attention: Op.Attention, _ q: [[Double]], _ k: [[Double]], _ v: [[Double]], _ starts: [Int],
    _ biases: [[Double]]?
  ) -> [[Double]] {
    let prefix = Array(0..<starts[0])
    var result: [[Double]] = []
    /// - Parameter place: the query's among all keys; nil where it sees them all.
    func attend(_ query: [Double], at place: Int?, _ keys: [Int]) {
      let seen = place.map { self.seen(attention, by: $0, keys) } ?? keys
      let places = Dictionary(uniqueKeysWithValues: keys.enumerated().map { ($1, $0) })
      var row = query
      for head in 0..<attention.heads {
        let own = head * attention.headWidth..<(head + 1) * attention.headWidth
        let first = head / (attention.heads / attention.keyValueHeads) * attention.headWidth
        let shared = first..<first + attention.headWidth
        let scores = seen.map { other in
          let score = zip(query[own], k[other][shared]).reduce(0) { $0 + $1.0 * $1.1 } * attention.scale
          guard attention.hasBiases, let place, let key = places[other] else { return score }
          if attention.hasSlopes { return score - Double(attention.slope(head)) * Double(abs(key - place)) }
          guard let biases, let farthest = attention.farthest else { return score }
          return score + biases[Op.Attention.bucket(key - place, of: biases.count, farthest: farthest)][head]
        }
        let most = scores.max() ?? 0
        let weights = scores.map { exp($0 - most) }
        let sum = weights.reduce(0, +)
        for (offset, column) in own.enumerated() {
          row[column] = zip(seen, weights).reduce(0) { $0 + $1.1 / sum * v[$1.0][first + offset] }
        }
      }
      result.append(row)
    }
    guard q.count == k.count else {
      for (index, (start, end)) in zip(starts, starts.dropFirst()).enumerated() {
        attend(q[q.count == 1 ? 0 : index], at: nil, prefix + Array(start..<end))
      }
      return result
    }
    for row in prefix { attend(q[row], at: row, prefix) }
    for (start, end) in zip(starts, starts.dropFirst()) {
      for row in start..<end { attend(q[row], at: prefix.count + row - start, prefix + Array(start..<end)) }
    }
    return result
  }

  /// A row as 8-bit activations stand for it: codes by Float32 arithmetic, as `Op.LinearInput.int8` defines them.
  private static func rounded(_ row: [Double], _ group: Int) -> [Double] {
    var result: [Double] = []
    for start in stride(from: 0, to: row.count, by: group) {
      let part = row[start..<min(start + group, row.count)].map { Float($0) }
      let most = part.map(abs).max() ?? 0
      let scale = most / 127
      let inverse = scale > 0 ? 127 / most : 0
      result += part.map { Double(($0 * inverse).rounded(.toNearestOrEven)) * Double(scale) }
    }
    return result
  }

  /// The nearest BF16, ties to even, from its definition: seven bits after the first.
  private static func bfloat16(_ value: Double) -> Double {
    guard value.isFinite, abs(value) >= 0x1p-126 else { return value.isFinite ? 0 : value }
    let unit = scalbn(1, Int32(value.exponent) - 7)
    let nearest = (Double(Float(value)) / unit).rounded(.toNearestOrEven) * unit
    return abs(nearest) < 0x1p128 ? nearest : .infinity * (value < 0 ? -1 : 1)
  }

  // MARK: Decoding

  private static func decode(_ tensor: Tensor, _ bytes: [UInt8]) throws(Failure) -> [Double] {
    func load<T>(_ at: Int, _ type: T.Type) -> T {
      bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: at, as: T.self) }
    }
    func real(_ type: DType, _ at: Int) -> Double? {
      switch type {
      case .F64: load(at, Double.self)
      case .F32: Double(load(at, Float.self))
      case .F16: half(load(at, UInt16.self))
      case .BF16: Double(Float(bitPattern: UInt32(load(at, UInt16.self)) << 16))
      case .I32: Double(load(at, Int32.self))
      case .U8: Double(load(at, UInt8.self))
      default: nil
      }
    }
    var result: [Double] = []
    switch tensor.encoding {
    case .plain(let type):
      for index in 0..<tensor.count {
        guard let value = real(type, index * type.bits / 8) else {
          throw Failure(.unsupported, "element type \(type.rawValue)", thing: "tensor \(tensor.name.quoted)")
        }
        result.append(value)
      }
    case .grouped(let integers):
      guard let layout = integers.layout(tensor.shape) else { throw Failure(.internal, "a weight without layout") }
      let size = integers.scaleType.bits / 8
      for row in 0..<layout.rows {
        for column in 0..<layout.columns {
          // Bit by bit, from the definition.
          let stored = (0..<integers.bits).reduce(0) { code, bit in
            let at = column * integers.bits + bit
            return code | Int(bytes[row * layout.rowBytes + at / 8] >> UInt8(at % 8) & 1) << bit
          }
          let half = 1 << (integers.bits - 1)
          let code = integers.isAffine || stored < half ? stored : stored - 2 * half
          let group = row * layout.groups + column / integers.groupSize
          func number(_ at: Int, _ place: Int) -> Double { real(integers.scaleType, at + place * size) ?? 0 }
          switch integers.form {
          case .symmetric: result.append(Double(code) * number(layout.scalesAt, group))
          case .affine:
            result.append(Double(code) * number(layout.scalesAt, group) + number(layout.zerosAt, group))
          case .twoLevel:
            let both = Int(bytes[layout.zerosAt + group])
            result.append(number(layout.scalesAt, row) * Double((both % 16 + 1) * (code * integers.unit - both / 16)))
          }
        }
      }
    }
    return result
  }

  /// IEEE 754 half precision, from its definition.
  private static func half(_ bits: UInt16) -> Double {
    let sign = bits >> 15 == 0 ? 1.0 : -1.0
    let exponent = Int(bits >> 10 & 31)
    let fraction = Double(bits & 1023) / 1024
    if exponent == 31 { return fraction == 0 ? sign * .infinity : .nan }
    return exponent == 0 ? sign * fraction * 0x1p-14 : sign * scalbn(1 + fraction, Int32(exponent - 15))
  }

  // MARK: Values

  private func buffer(_ rows: [[Double]], _ columns: Int, _ encoding: Encoding = .plain(.F64)) -> DeviceBuffer {
    DeviceBuffer(rows: rows.count, columns: columns, storage: Matrix(rows, encoding))
  }

  private func matrix(_ buffer: DeviceBuffer) throws(Failure) -> Matrix {
    guard let matrix = buffer.storage as? Matrix else { throw Failure(.internal, "a value of another device") }
    return matrix
  }
}
