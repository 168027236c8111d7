import Bytes
import Fidelity
import Inference
import Passes
import Tensors

/// Where some samples' embeddings go when one weight alone is rounded: how much each weight matters to what the model
/// is for (the linearity theorem: HIGGS, Malinovskii et al. 2024, arXiv 2411.17525; losses of single weights add up).
public struct Sensitivity: Sendable {
  /// What weights are rounded to while they are measured: coarse enough to stand out of Float32, fine enough to add up.
  public static let weightChoice = WeightChoice.integers(bits: 4, group: 32, form: .affine)
  /// What they are rounded to where the input is rounded to 8 bits too.
  public static let inputChoice = WeightChoice.integers(bits: 8, group: 64, form: .symmetric)

  private let embedder: Embedder
  private let model: Model
  private let calibration: Calibration
  /// Those with pictures go through all parts, those without through the text model alone.
  private var walks: [(walk: Walk, places: [Int])] = []
  private var count = 0

  /// - Parameters:
  ///   - embedder: a fine one of `model`.
  ///   - calibration: by which weights are rounded, as they will be in the end.
  public init(_ embedder: Embedder, of model: Model, _ samples: [Sample], _ calibration: Calibration) {
    (self.embedder, self.model, self.calibration) = (embedder, model, calibration)
    count = samples.count
    for places in [
      samples.indices.filter { !samples[$0].pictures.isEmpty }, samples.indices.filter { samples[$0].pictures.isEmpty },
    ] where !places.isEmpty {
      walks.append((Walk(embedder, places.map { samples[$0] }), places))
    }
  }

  /// Names of what `measure` gives for a weight: with the weight alone rounded, and with its input rounded too.
  public static func moved(_ weight: TensorName) -> TensorName { weight.made("moved") }
  public static func movedByInput(_ weight: TensorName) -> TensorName { weight.made("moved8") }

  /// The samples' own embeddings, `[samples, width]`.
  public func embeddings() throws(Failure) -> [Float] {
    var result = [Float](repeating: 0, count: count * embedder.width)
    for (walk, places) in walks { place(try walk.finish(), places, &result) }
    return result
  }

  /// Embeddings with each weight rounded, `[samples, width]`, one weight after the other.
  ///
  /// - Parameters:
  ///   - withInputs: whether inputs are rounded to 8 bits as well, apart.
  ///   - isWanted: what is to be measured.
  ///   - done: is given each weight's tensors, and the share of the work behind.
  public mutating func measure(
    _ embeddings: [Float], withInputs: Bool, isWanted: (TensorName) -> Bool,
    done: ([Tensor], Double) throws(Failure) -> Void
  ) throws(Failure) {
    let width = embedder.width
    while let longest = walks.map({ $0.walk.stageCount - $0.walk.stage }).max(), longest > 0 {
      // Text models are gone through side by side.
      let here = walks.indices.filter { walks[$0].walk.stageCount - walks[$0].walk.stage == longest }
      for weight in walks[here[0]].walk.weights where isWanted(weight) {
        var tensors: [Tensor] = []
        for (name, choice, input) in variants(weight, withInputs: withInputs) {
          // Small token tables, which containers keep, are rounded in GGUF files: they are measured too.
          let recipe = QuantizeRecipe(
            linear: .keep, table: .keep, input: input, choices: [weight: choice], attention: input, target: .gguf)
          var (rounded, notes) = (model, [String]())
          try Pass.run([calibration.quantize(recipe)], on: &rounded, notes: &notes)
          guard rounded[weight]?.encoding != model[weight]?.encoding else { continue }
          let other = try embedder.running(rounded, changed: [weight])
          var moved = embeddings
          for index in here { place(try walks[index].walk.finish(with: other), walks[index].places, &moved) }
          tensors.append(try Tensor(name, floats: moved, shape: [count, width]))
        }
        let stages = walks[here[0]].walk.stageCount
        try done(tensors, Double(stages - longest) / Double(stages))
      }
      for index in here { try walks[index].walk.advance() }
    }
  }

  private func variants(
    _ weight: TensorName, withInputs: Bool
  ) -> [(name: TensorName, choice: WeightChoice, input: Op.LinearInput)] {
    [(Sensitivity.moved(weight), Sensitivity.weightChoice, .float)]
      + (withInputs ? [(Sensitivity.movedByInput(weight), Sensitivity.inputChoice, .int8)] : [])
  }

  private func place(_ vectors: [Float], _ places: [Int], _ target: inout [Float]) {
    let width = embedder.width
    for (row, place) in places.enumerated() {
      target.replaceSubrange(place * width..<(place + 1) * width, with: vectors[row * width..<(row + 1) * width])
    }
  }
}
