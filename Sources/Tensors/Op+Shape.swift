import Bytes

/// What is known of a value before a batch is: its columns, and what its rows stand for.
public struct ValueType: Sendable, Hashable {
  public enum Rows: Sendable, Hashable {
    case tokens, sequences
    /// Rows that come from pictures and stand in the places of negative token ids.
    case features
    /// One more than there are sequences: where each starts, and the end.
    case starts
    /// Those that shares gave to one expert.
    case routed(by: Graph.Source, expert: Int)
    case fixed(Int)
  }

  public var rows: Rows
  public var columns: Int
  /// Whether the elements are whole numbers (ids, positions) and not real ones.
  public var isIndex: Bool

  public init(_ rows: Rows, _ columns: Int, isIndex: Bool = false) {
    self.rows = rows
    self.columns = columns
    self.isIndex = isIndex
  }
}

extension Op {
  /// The type of the result. The only place that knows what shapes an operation takes; a device may rely on it.
  /// - Throws: `malformed` with what was found and what is needed.
  ///
  /// - Parameter sources: where the inputs come from: rows that one value chose are not those that another did.
  public func outputType(_ inputs: [ValueType], from sources: [Graph.Source]) throws(Failure) -> ValueType {
    func need(_ holds: Bool, _ rule: String) throws(Failure) {
      guard holds else {
        throw Failure(.malformed, "\(self) needs \(rule); found \(inputs.map(\.text).joined(separator: ", "))")
      }
    }
    func isVector(_ index: Int, _ columns: Int) -> Bool {
      inputs[index].rows == .fixed(1) && inputs[index].columns == columns && !inputs[index].isIndex
    }
    let reals = inputs.filter { !$0.isIndex }.count
    switch self {
    case .embedding, .row: break
    default:
      // Everything but a lookup works on a value of the batch, not on a table of the model.
      if case .fixed(let rows)? = inputs.first?.rows, rows != 1 { try need(false, "a value of the batch first") }
    }
    switch self {
    case .embedding(let offset):
      try need(offset >= 0, "an offset that is not negative")
      try need((2...3).contains(inputs.count) && !inputs[0].isIndex && inputs[1].isIndex, "a table and ids")
      try need(inputs[1].columns == 1, "one id a row")
      try need(
        inputs.count == 2 || inputs[2] == ValueType(.features, inputs[0].columns), "features as wide as the table")
      return ValueType(inputs[1].rows, inputs[0].columns)
    case .row(let index):
      try need(inputs.count == 1 && reals == 1, "a table")
      guard case .fixed(let rows) = inputs[0].rows else {
        throw Failure(.malformed, "row of something that is no table")
      }
      try need(index >= 0 && index < rows, "row \(index) inside the table")
      return ValueType(.fixed(1), inputs[0].columns)
    case .linear:
      try need((2...3).contains(inputs.count) && reals == inputs.count, "x, a weight and perhaps a bias")
      guard case .fixed(let out) = inputs[1].rows else { throw Failure(.malformed, "a weight that is no tensor") }
      try need(inputs[0].columns == inputs[1].columns, "as many columns in the weight as in x")
      try need(inputs.count == 2 || isVector(2, out), "a bias of \(out)")
      return ValueType(inputs[0].rows, out)
    case .add:
      try need(inputs.count == 2 && reals == 2, "two values")
      try need(inputs[0].columns == inputs[1].columns, "equal columns")
      try need(inputs[0].rows == inputs[1].rows || inputs[1].rows == .fixed(1), "equal rows, or one row second")
      return inputs[0]
    case .multiply:
      try need(inputs.count == 2 && reals == 2 && inputs[0] == inputs[1], "two values of one shape")
      return inputs[0]
    case .rescale(let rescale):
      let channels = rescale.mean.count
      try need(inputs.count == 1 && reals == 1, "one value")
      try need(
        channels > 0 && rescale.deviation.count == channels && inputs[0].columns % channels == 0,
        "a mean and a deviation for each channel, and channels that divide the columns")
      return inputs[0]
    case .rope(let rotation):
      let width = rotation.headWidth
      try need(inputs.count == 2 && !inputs[0].isIndex, "a value and positions")
      try need(inputs[1] == ValueType(inputs[0].rows, 1, isIndex: true), "a position for each row")
      try need(width > 0 && width % 2 == 0 && inputs[0].columns % width == 0, "heads of an even width")
      return inputs[0]
    case .interpolate:
      try need(inputs.count == 4 && reals == 3 && inputs[2].isIndex, "a value, a row, indices and weights")
      try need(isVector(1, inputs[0].columns), "a row as wide as the value")
      try need(
        inputs[2].rows == .features && inputs[3] == ValueType(.features, inputs[2].columns), "a weight for each index")
      return ValueType(.features, inputs[0].columns)
    case .norm(_, _, let heads):
      try need((1...3).contains(inputs.count) && reals == inputs.count, "x, perhaps a gain, perhaps a bias")
      try need(heads > 0 && inputs[0].columns % heads == 0, "heads that divide the columns")
      for index in inputs.indices.dropFirst() {
        try need(isVector(index, inputs[0].columns / heads), "vectors as wide as a head of x")
      }
      return inputs[0]
    case .concatenate:
      try need(inputs.count >= 2 && reals == inputs.count, "two values or more")
      var columns = 0
      for input in inputs {
        try need(input.rows == inputs[0].rows, "equal rows")
        columns += input.columns
      }
      return ValueType(inputs[0].rows, columns)
    case .route(let top):
      try need(inputs.count == 1 && reals == 1, "one value")
      try need(top > 0 && top <= inputs[0].columns, "as many experts as are chosen")
      return inputs[0]
    case .routed(let expert):
      try need(inputs.count == 2 && reals == 2 && inputs[0].rows == inputs[1].rows, "a value and shares of each row")
      try need(expert >= 0 && expert < inputs[1].columns, "a share of expert \(expert)")
      return ValueType(.routed(by: sources[1], expert: expert), inputs[0].columns)
    case .mix:
      try need(reals == inputs.count && inputs.count >= 2, "shares, and values")
      try need(inputs.count == 1 + inputs[0].columns, "a value for each share")
      for (expert, value) in inputs.dropFirst().enumerated() {
        try need(
          value.rows == .routed(by: sources[0], expert: expert) && value.columns == inputs[1].columns,
          "values of equal columns, with the rows that the shares chose for each")
      }
      return ValueType(inputs[0].rows, inputs[1].columns)
    case .activation, .normalize:
      try need(inputs.count == 1 && reals == 1, "one value")
      return inputs[0]
    case .slice(let offset, let count):
      try need(inputs.count == 1 && reals == 1, "one value")
      try need(offset >= 0 && count > 0 && count <= inputs[0].columns - offset, "columns inside the value")
      return ValueType(inputs[0].rows, count)
    case .attention(let attention):
      try need((4...5).contains(inputs.count), "q, k, v, sequence starts and perhaps biases")
      try need(reals == inputs.count - 1 && inputs[3].rows == .starts, "q, k, v and sequence starts")
      let (heads, shared, width) = (attention.heads, attention.keyValueHeads, attention.headWidth)
      try need(heads > 0 && shared > 0 && width > 0 && heads % shared == 0, "key heads that divide the query heads")
      try need(Checked.multiply(heads, width) == inputs[0].columns, "q of heads × width columns")
      try need(shared * width == inputs[1].columns && inputs[1] == inputs[2], "k and v of key heads × width columns")
      try need(inputs[1].rows == .tokens, "tokens as rows of k and v")
      try need(attention.window ?? 1 > 0, "a window of one place at least")
      if inputs.count == 5 {
        guard case .fixed(let buckets) = inputs[4].rows else { throw Failure(.malformed, "biases that are no tensor") }
        try need(inputs[4].columns == heads && buckets >= 4 && buckets % 2 == 0, "biases of an even number of buckets")
        try need(attention.farthest ?? 0 > buckets / 4, "a farthest distance beyond the buckets of one distance each")
        try need(attention.input == .float, "scores that are not rounded, where there are biases")
      } else {
        try need(attention.farthest == nil, "biases for distances")
      }
      try need(
        !attention.hasSlopes || inputs.count == 4 && attention.input == .float, "slopes without biases or rounding")
      if attention.dependsOnPlace { try need(inputs[0].rows == .tokens, "q with a row for each token") }
      switch inputs[0].rows {
      case .tokens: return inputs[0]
      case .sequences, .fixed(1): return ValueType(.sequences, inputs[0].columns)
      default: try need(false, "q with a row for each token, for each sequence, or one")
      }
      return inputs[0]
    case .pool(let kind):
      try need(inputs.count == 2 && inputs[1].rows == .starts, "a value and sequence starts")
      try need(inputs[0].rows == .tokens, "tokens as rows")
      try need(kind.picksRow || !inputs[0].isIndex, "real numbers, where no row is picked")
      return ValueType(.sequences, inputs[0].columns, isIndex: inputs[0].isIndex)
    }
  }
}

extension ValueType {
  var text: String {
    let rows =
      switch rows {
      case .tokens: "tokens"
      case .sequences: "sequences"
      case .features: "features"
      case .starts: "starts"
      case .routed(_, let expert): "of expert \(expert)"
      case .fixed(let count): String(count)
      }
    return "[\(rows), \(columns)]"
  }
}
