import Bytes
import Fidelity

extension Command {
  /// What an index keeps of each vector.
  static let formOptions: [Option] = [
    .init("--width", "N", "keep the first N columns, brought to length 1 again (default: all)"),
    .init("--precision", "P", "keep float32, float16, int8, binary or ternary numbers (default float32)"),
  ]

  /// Of commands that compare searches.
  static let outputs = Option(
    "--outputs", "LIST",
    "also compare what the index finds in other forms, with commas: a width, a precision, or both, and how many times ten "
      + "documents float queries rank again, as float32,256,int8,binary,256:binary+rescore4")
}

extension Arguments {
  /// What `--width` and `--precision` say.
  func vectorForm() throws(Failure) -> VectorForm {
    let word = try choice("--precision", VectorForm.Precision.allCases.map(\.rawValue))
    return VectorForm(
      width: try integer("--width", in: 1...VectorForm.mostColumns),
      precision: word.flatMap(VectorForm.Precision.init) ?? .float32)
  }

  /// What `--outputs` lists.
  func outputs() throws(Failure) -> [VectorForm] {
    try self["--outputs"].map { (text) throws(Failure) in try VectorForm.list(text) } ?? []
  }
}
