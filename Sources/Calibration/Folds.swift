import Bytes
import Glibc
import Passes
import Tensors

extension Calibration {
  /// Scales for the sites of a model whose weights are quantized with `recipe`: for each site the ones of a family that
  /// lose least together in the weights and, where inputs are rounded to 8 bits, in the inputs. Large input channels
  /// are then quantized more finely, small ones less (AWQ: Lin et al. 2023, arXiv 2306.00978; SmoothQuant: Xiao et al.
  /// 2022, arXiv 2211.10438).
  ///
  /// With input channels of root mean square `x` and largest magnitude `m`, and largest weights `w`, the families are
  /// `xᵅ` and `mᵅ / w¹⁻ᵅ`, rounded to powers of two.
  ///
  /// - Cost: each weight is quantized some twenty times, at most 512 of its rows.
  func scales(_ model: Model, _ recipe: QuantizeRecipe, threads: Int = availableThreads) throws(Failure) -> [TensorName:
    [Float]]
  {
    var (rounded, notes) = (model, [String]())
    try Pass.quantize(recipe).apply(&rounded, &notes)
    let choices = try recipe.resolved(model, &notes)
    var inputs: [TensorName: Op.LinearInput] = [:]
    for node in rounded.graphs.flatMap(\.graph.nodes) {
      if case .linear(let input) = node.op, case .tensor(let name) = node.inputs[1] { inputs[name] = input }
    }
    let all = Lock<[TensorName: [Float]]>([:])
    let (copy, kinds) = (rounded, inputs)
    let sites = model.scaleSites
    try parallel(sites.count, threads: threads) { (place) throws(Failure) in
      let site = sites[place]
      var weights: [ScaledWeight] = []
      for name in site.weights + [site.fed(in: model)].compactMap({ $0 }) {
        // What stays as it is must not be written in Float32.
        var ignored: [String] = []
        guard let weight = model[name], case .grouped? = copy[name]?.encoding,
          let grid = choices[name]?.fitted(to: weight, &ignored).grid(columns: weight.columns)
        else { return }
        guard site.weights.contains(name) else { continue }
        weights.append(try ScaledWeight(weight, grid, isInputRounded: kinds[name] == .int8))
      }
      guard let squares = try meanSquares(site.weights[0]), let largest = try largest(site.weights[0]),
        squares.count == site.scaleOfColumn.count, largest.count == squares.count,
        let scales = try best(site, weights, squares, largest)
      else { return }
      all.withLock { $0[site.tensorName] = scales }
    }
    return all.withLock { $0 }
  }

  /// nil when no scales are better than none.
  private func best(
    _ site: ScaleSite, _ weights: [ScaledWeight], _ squares: [Float], _ largest: [Float]
  ) throws(Failure) -> [Float]? {
    var (x, w) = ([Double](repeating: 0, count: site.scaleCount), [Double](repeating: 0, count: site.scaleCount))
    var (m, readers) = (w, w)
    for (column, scale) in site.scaleOfColumn.enumerated() {
      x[scale] += Double(squares[column])
      readers[scale] += 1
      m[scale] = max(m[scale], Double(largest[column]))
      for weight in weights { w[scale] = max(w[scale], Double(weight.largest[column])) }
    }
    for scale in x.indices { x[scale] = (x[scale] / max(1, readers[scale])).squareRoot() }
    let floor = (x.max() ?? 0) * 1e-6
    guard floor > 0, w.allSatisfy({ $0 > 0 }) else { return nil }
    x = x.map { max($0, floor) }
    m = m.map { max($0, floor) }
    func cost(_ scales: [Float]) throws(Failure) -> Double {
      var sum = 0.0
      for weight in weights { sum += try weight.cost(site.scaleOfColumn.map { scales[$0] }, squares) }
      return sum
    }
    let none = [Float](repeating: 1, count: site.scaleCount)
    var (best, least) = (none, try cost(none))
    var tried: Set = [none]
    for step in 1...10 {
      let alpha = Double(step) / 10
      for divides in [false, true] {
        let raw = x.indices.map { divides ? alpha * log2(m[$0]) - (1 - alpha) * log2(w[$0]) : alpha * log2(x[$0]) }
        let middle = raw.reduce(0, +) / Double(raw.count)
        let scales = raw.map { Float(exp2(max(-8, min(8, ($0 - middle).rounded())))) }
        guard tried.insert(scales).inserted else { continue }
        let found = try cost(scales)
        if found < least { (best, least) = (scales, found) }
      }
    }
    return best == none ? nil : best
  }

  /// What was measured, of inputs divided by these scales.
  func scaled(_ scales: [TensorName: [Float]], _ model: Model) -> Calibration {
    var result = self
    for site in model.scaleSites {
      guard let scales = scales[site.tensorName] else { continue }
      for name in site.weights { result.divide(name, by: site.scaleOfColumn.map { scales[$0] }) }
    }
    return result
  }
}

/// Some rows of a weight, to try scales on.
private struct ScaledWeight {
  private let values: [Float]
  private let rows, columns: Int
  private let grid: Grid
  private var integers: GroupedInteger { grid.integers }
  private let isInputRounded: Bool
  /// Of each column.
  let largest: [Float]
  private static let most = 512

  init(_ weight: Tensor, _ grid: Grid, isInputRounded: Bool) throws(Failure) {
    (columns, self.grid, self.isInputRounded) = (weight.columns, grid, isInputRounded)
    let (all, width) = (try weight.floats(threads: 1), weight.columns)
    let places =
      weight.rows <= ScaledWeight.most
      ? Array(0..<weight.rows) : (0..<ScaledWeight.most).map { $0 * weight.rows / ScaledWeight.most }
    rows = places.count
    var (values, largest) = ([Float](), [Float](repeating: 0, count: width))
    values.reserveCapacity(places.count * width)
    all.with(Float.self) { all in
      for row in places { values += all[row * width..<(row + 1) * width] }
      for index in values.indices { largest[index % width] = max(largest[index % width], abs(values[index])) }
    }
    (self.values, self.largest) = (values, largest)
  }

  /// Mean squared error of the products with inputs of these mean squares, errors of the columns being independent.
  func cost(_ scales: [Float], _ squares: [Float]) throws(Failure) -> Double {
    var scaled = values
    for row in 0..<rows { for column in 0..<columns { scaled[row * columns + column] *= scales[column] } }
    let tensor = try Tensor("w", floats: scaled, shape: [rows, columns])
    let codes = try Pass.quantized(tensor, grid).load(threads: 1)
    let rounded = try Tensor(
      "w", shape: [rows, columns], encoding: .grouped(integers), content: .bytes(ByteView(codes))
    )
    .floats(threads: 1)
    let inputs = zip(squares, scales).map { Double($0) / (Double($1) * Double($1)) }
    var (errors, powers) = ([Double](repeating: 0, count: columns), [Double](repeating: 0, count: columns))
    rounded.with(Float.self) { rounded in
      for row in 0..<rows {
        for column in 0..<columns {
          let value = scaled[row * columns + column]
          let difference = Double(value - rounded[row * columns + column])
          errors[column] += difference * difference
          powers[column] += Double(value) * Double(value)
        }
      }
    }
    var cost = zip(errors, inputs).reduce(0) { $0 + $1.0 * $1.1 }
    guard isInputRounded else { return cost }
    // A step is 1/127 of the largest input of the group: the largest channel's size, or that of so many bell-shaped
    // ones.
    for first in stride(from: 0, to: columns, by: integers.groupSize) {
      let group = first..<min(columns, first + integers.groupSize)
      let (sum, most) = group.reduce((0.0, 0.0)) { ($0.0 + inputs[$1], max($0.1, inputs[$1])) }
      let largest = max(most, 2 * log(Double(max(2, group.count))) * sum / Double(group.count))
      cost += largest / (127 * 127 * 12) * group.reduce(0) { $0 + powers[$1] }
    }
    return cost
  }
}
