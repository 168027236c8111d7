import Bytes
import Formats
import Passes
import Tensors

/// The tensors of a file of any format, under names that do not depend on the format where that is possible: those of
/// the family's first layout (Formats/Architectures/Family). What passes fused is taken apart.
struct NamedTensors {
  let path: String
  var tensors: [Tensor]
  /// Names of tensors that no embedding reads.
  var unused: Set<TensorName> = []
  var notes: [String] = []

  /// - Parameter projector: the GGUF file with the vision tower that goes with a GGUF text model.
  init(_ path: String, projector: String? = nil) throws(Failure) {
    self.path = path
    var (model, isContainer) = (Model?.none, false)
    if !isDirectory(path), !path.hasSuffix(".index.json"),
      try CheckpointFormat.detect(try InputFile(path)) == .container
    {
      model = try Container.open(path).model
      tensors = model?.tensors ?? []
      isContainer = true
    } else {
      tensors = try Checkpoint.rawTensors(path)
      do throws(Failure) {
        var ignored: [String] = []
        model = try Import.model(try Checkpoint.open(path, projector: projector), notes: &ignored)
      } catch {
        // A damaged file is refused; one of an unknown family still has tensors to look at.
        guard projector == nil, [.unsupported, .missing].contains(error.kind) else { throw error }
        notes.append("\(path): names are as the file has them: \(error.problem)")
      }
    }
    guard var model else { return }
    do throws(Failure) {
      if isContainer {
        var unfused = model
        try Pass.run([.unfuse(pixels: try Family.pixels(of: model))], on: &unfused, notes: &notes)
        model = unfused
      }
      let family = try Family(model)
      tensors = family.tensors
      unused = Set(zip(model.tensors, family.tensors).filter { model.unused.contains($0.0.name) }.map(\.1.name))
    } catch {
      tensors = model.tensors
      unused = Set(model.unused)
      notes.append("\(path): names are as the file has them: \(error.problem)")
    }
  }
}
