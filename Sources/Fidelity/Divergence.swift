import Bytes
import Glibc

/// Where inside the model a candidate leaves its reference: in its settings, in its weights, and as values pass through
/// the layers.
public struct Divergence: Sendable {
  /// Something that both models say, and say differently.
  public struct Setting: Sendable {
    public let name, reference, candidate: String
    /// Why the difference is meant or does not matter, in words; nil where nothing explains it.
    public let explanation: String?

    fileprivate var text: String {
      "\(name) differs: \(reference) in the reference, \(candidate) in the candidate"
        + (explanation.map { ", \($0)" } ?? "")
    }

    public init(name: String, reference: String, candidate: String, explanation: String? = nil) {
      (self.name, self.reference, self.candidate) = (name, reference, candidate)
      self.explanation = explanation
    }
  }

  /// A tensor of both.
  public struct Weight: Sendable {
    public let name: String
    /// How the candidate stores it, and its bits per element.
    public let encoding: String
    public let bits: Double
    public let bytes: Int
    public let relativeError, cosine: Double
    /// The relative error that rounding to this encoding explains.
    public let explained: Double
    /// Rows whose error stands out from what the encoding explains, worst first; none where that is more than a
    /// twentieth.
    public let rows: [Row]
    /// The relative error of all other rows.
    public let rest: Double

    public init(
      name: String, encoding: String, bits: Double, bytes: Int, relativeError: Double, cosine: Double, judged: Judged
    ) {
      (self.name, self.encoding, self.bits, self.bytes) = (name, encoding, bits, bytes)
      (self.relativeError, self.cosine) = (relativeError, cosine)
      (explained, rows, rest) = (judged.explained, judged.rows, judged.rest)
    }
  }

  public struct Row: Sendable, Equatable {
    public let row: Int
    public let relativeError: Double
  }

  /// What enters a linear operation, in the order in which they run.
  public struct Layer: Sendable {
    /// The graph: `vision`, `projector`, `text`.
    public let part: String
    /// The weight that it is multiplied with.
    public let name: String
    /// Over rows of some items: `‖candidate - reference‖ / ‖reference‖` of all together, mean cosine of each row.
    public let relativeError, cosine: Double

    public init(part: String, name: String, relativeError: Double, cosine: Double) {
      (self.part, self.name) = (part, name)
      (self.relativeError, self.cosine) = (relativeError, cosine)
    }
  }

  public var settings: [Setting] = []
  public var weights: [Weight] = []
  public var layers: [Layer] = []

  /// The relative error of all linear weights that rounding to their encodings explains.
  public var rounding: (reference: Double, candidate: Double)?
  /// Whether the candidate rounds what enters its operations to 8-bit integers.
  public var roundsInputs = false
  /// Whether pictures are laid out in fewer tokens than the reference's.
  public var hasFewerTokens = false
  /// Whether both compute the same from the same weights.
  public var isIdentical = false

  public init() {}

  /// The first layer whose input is more than three times as wrong as the one before it in its part, and wrong by more
  /// than a fifth: what stands between the two is where to look.
  public var jump: (before: Layer?, at: Layer)? {
    var before: Layer?
    for layer in layers {
      let last = before?.part == layer.part ? before : nil
      if !(layer.relativeError <= 0.2), !(layer.relativeError <= 3 * (last?.relativeError ?? 0)) {
        return (last, layer)
      }
      before = layer
    }
    return nil
  }

  /// Weights whose relative error is more than `tolerance` times what their encoding explains.
  public var outliers: [Weight] {
    weights.filter { !($0.rest <= max(Divergence.noise, Divergence.tolerance * $0.explained)) }
  }

  /// Rows that stand out from their weights.
  public var rowOutliers: [(weight: Weight, row: Row)] {
    weights.flatMap { weight in weight.rows.map { (weight, $0) } }
  }

  /// What a person should look at first, in sentences.
  public var findings: [String] { causes + settings.filter { $0.explanation != nil }.map(\.text) }

  /// Those that nothing explains.
  public var causes: [String] {
    var result = settings.filter { $0.explanation == nil }.map(\.text)
    result += outliers.sorted { $0.excess > $1.excess }.prefix(5).map {
      "weight \($0.name) is off by \(($0.rest * 100).fixed(2)) %, where \($0.encoding) explains "
        + "\(($0.explained * 100).fixed(2)) %"
    }
    for (weight, row) in rowOutliers.prefix(5) {
      result.append(
        "row \(row.row) of weight \(weight.name) is off by \((row.relativeError * 100).fixed(1)) %, the others by "
          + "\((weight.rest * 100).fixed(2)) %")
    }
    if let (before, at) = jump {
      result.append(
        "values diverge \(before.map { "between \($0.name) (\(($0.relativeError * 100).fixed(1)) %) and" } ?? "at") "
          + "\(at.name) "
          + "(\((at.relativeError * 100).fixed(1)) %), in the \(at.part) part")
    }
    return result
  }

  /// Relative errors that the order of operations in Float32 explains, in folded weights.
  static let noise = 1e-5
  /// GPTQ gives some of a weight's rounding back in errors of other elements, and clipping trades some errors for
  /// others.
  static let tolerance = 3.0
  static let rowTolerance = 10.0

  public struct Judged: Sendable {
    public let explained, rest: Double
    public let rows: [Row]
  }

  /// Of a weight, the error that its encoding explains, and rows that stand out.
  ///
  /// - Parameters:
  ///   - explained: of each row the sum of squared errors that its encoding explains; nil for none.
  ///   - rows: a row is held to its own encoding, and to a twentieth of its own length or of a tenth of the usual
  ///     row's.
  public static func judged(
    _ rows: [TensorDifference.Row], explained: [Double]?
  ) -> Judged {
    let all = rows.reduce(0) { $0 + $1.squares }
    let moved = rows.reduce(0) { $0 + $1.difference }
    // A reference of zeros, or of what is no number, explains no difference.
    guard all > 0 else { return Judged(explained: 0, rest: moved == 0 ? 0 : .infinity, rows: []) }
    let whole = (moved / all).squareRoot()
    let usual = all / Double(rows.count)
    var found: [Row] = []
    for (place, row) in rows.enumerated() {
      let limit = max(
        (explained?[place] ?? 0) * rowTolerance * rowTolerance, max(row.squares, 0.01 * usual) * 0.05 * 0.05)
      if !(row.difference <= limit) {
        found.append(Row(row: place, relativeError: (row.difference / max(row.squares, 0.01 * usual)).squareRoot()))
      }
    }
    let share = ((explained?.reduce(0, +) ?? 0) / all).squareRoot()
    guard found.count <= max(2, rows.count / 20) else { return Judged(explained: share, rest: whole, rows: []) }
    let own = Set(found.map(\.row))
    let others = rows.indices.filter { !own.contains($0) }
    let squares = others.reduce(0) { $0 + rows[$1].squares }
    let rest = squares > 0 ? others.reduce(0) { $0 + rows[$1].difference } / squares : 0
    found.sort { ($1.relativeError, $0.row) < ($0.relativeError, $1.row) }
    return Judged(explained: share, rest: rest.squareRoot(), rows: found)
  }
}

extension Divergence.Weight {
  /// How many times what is explained the error is.
  public var excess: Double { rest / max(explained, Divergence.noise) }
}
