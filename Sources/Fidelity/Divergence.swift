import Bytes
import Glibc

/// Where inside the model a candidate leaves its reference: in its settings, in its weights, and as values pass through the layers.
public struct Divergence: Sendable {
  /// Something that both models say, and say differently.
  public struct Setting: Sendable {
    public let name, reference, candidate: String

    public init(name: String, reference: String, candidate: String) {
      (self.name, self.reference, self.candidate) = (name, reference, candidate)
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

    public init(name: String, encoding: String, bits: Double, bytes: Int, relativeError: Double, cosine: Double) {
      (self.name, self.encoding, self.bits, self.bytes) = (name, encoding, bits, bytes)
      (self.relativeError, self.cosine) = (relativeError, cosine)
    }
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

  public init() {}

  /// The first layer whose input is more than three times as wrong as the one before it in its part, and wrong by more than a fifth:
  /// what stands between the two is where to look.
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

  /// Weights that no quantization explains: their relative error is more than a twentieth, and more than three times the median of the others
  /// stored alike; where there are fewer than three, than what so many bits lose of bell-shaped weights (a tenth at 4, half for each bit more).
  public var outliers: [Weight] {
    weights.indices.filter { place in
      let errors = weights.indices.filter { $0 != place && weights[$0].encoding == weights[place].encoding }
        .map { weights[$0].relativeError }.sorted()
      let usual = errors.count < 3 ? 0.1 * exp2(4 - weights[place].bits.rounded(.down)) : errors[errors.count / 2]
      return !(weights[place].relativeError <= 0.05) && !(weights[place].relativeError <= 3 * usual)
    }.map { weights[$0] }
  }

  /// What a person should look at first, in sentences.
  public var findings: [String] {
    var result = settings.map {
      "\($0.name) differs: \($0.reference) in the reference, \($0.candidate) in the candidate"
    }
    result += outliers.prefix(5).map {
      "weight \($0.name) is off by \(($0.relativeError * 100).fixed(1)) %, far more than others"
    }
    if let (before, at) = jump {
      result.append(
        "values diverge \(before.map { "between \($0.name) (\(($0.relativeError * 100).fixed(1)) %) and" } ?? "at") \(at.name) "
          + "(\((at.relativeError * 100).fixed(1)) %), in the \(at.part) part")
    }
    return result
  }
}
