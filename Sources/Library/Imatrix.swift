import Bytes
import Calibration
import Formats
import Inputs
import Passes
import Tensors

/// Importance matrices of llama.cpp, made of what `measure` found, and given to `quantize` in its place.
package enum Imatrix {
  /// Writes what was measured of a model for other programs, and makes it visible.
  package static func write(
    _ output: OutputFile, _ calibration: Calibration, of model: LoadedModel, _ samples: [Sample], data: String
  ) throws(Failure) {
    let unfused = model.file.model
    var squares: [TensorName: [Float]] = [:]
    for weight in FusedWeight.all(of: model.prepared, from: unfused) {
      guard let own = try calibration.meanSquares(weight.name), let means = try calibration.means(weight.name) else {
        continue
      }
      for member in weight.members {
        guard let tensor = unfused[member]?.matrix else { continue }
        squares[member] = try weight.squaresBefore(own, means: means, columns: tensor.columns)
      }
    }
    let distinct = Set(samples)
    let matrix: ImportanceMatrix
    do throws(Failure) {
      matrix = try ImportanceMatrix(
        squares, of: unfused, tokens: distinct.reduce(0) { $0 + $1.ids.count }, chunks: distinct.count,
        dataset: fileName(data))
    } catch { throw error.inFile(model.file.path) }
    try matrix.write(output, threads: model.threads)
    try output.commit()
    Output.note("\(output.path): \(matrix.entries.count) weights, for llama-quantize --imatrix")
  }

  /// An importance matrix as `measure` would have written it: mean squares alone, `[columns]`, by the weights' fused
  /// names.
  package static func calibration(
    _ path: String, of model: Model, fused: Model
  ) throws(Failure) -> (contents: Container.Contents, unmeasured: Int) {
    let matrix = try ImportanceMatrix(path)
    var result = Model(configuration: model.configuration)
    var unmeasured = 0
    do throws(Failure) {
      let squares = try matrix.meanSquares(of: model)
      for weight in FusedWeight.all(of: fused, from: model) {
        guard let columns = fused[weight.name]?.matrix.columns,
          let own = weight.members.lazy.compactMap({ squares[$0] }).first,
          let after = try weight.squaresAfter(own, columns: columns)
        else {
          unmeasured += 1
          continue
        }
        result.set(try Tensor(weight.name, floats: after, shape: [columns]))
      }
    } catch { throw error.inFile(path) }
    let contents = Container.Contents(
      model: result, file: try InputFile(path), checksum: matrix.checksum, program: "imatrix")
    return (contents, unmeasured)
  }
}
