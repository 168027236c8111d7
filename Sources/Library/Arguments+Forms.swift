import Bytes
import Fidelity

extension Arguments {
  /// What `--width` and `--precision` say.
  package func vectorForm() throws(Failure) -> VectorForm {
    let word = try choice("--precision", VectorForm.Precision.allCases.map(\.rawValue))
    return VectorForm(
      width: try integer("--width", in: 1...VectorForm.mostColumns),
      precision: word.flatMap(VectorForm.Precision.init) ?? .float32)
  }

  /// What `--outputs` lists.
  package func outputs() throws(Failure) -> [VectorForm] {
    try self["--outputs"].map { (text) throws(Failure) in try VectorForm.list(text) } ?? []
  }
}
