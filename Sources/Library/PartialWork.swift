import Bytes
import Formats
import Glibc
import Tensors

/// Work that may be stopped, kept in `OUTPUT.partial/` beside what it makes until that is there.
package struct PartialWork {
  private let folder: String
  /// What the work depends on; what is left of other work is not used.
  private let key: JSONText
  private let configuration: Configuration
  private let threads: Int

  package init(beside output: String, key: JSONText, _ configuration: Configuration, threads: Int) {
    (folder, self.key, self.configuration, self.threads) = (output + ".partial", key, configuration, threads)
  }

  /// Tensors that were kept, and how far the work had come; nil when there are none that can be used.
  package func open(_ name: String) -> (tensors: [Tensor], stage: Int)? {
    guard let model = try? Container.open(path(name)).model, case .object(let step)? = model.history.last,
      step.contains(where: { $0.0 == "key" && $0.1 == key }),
      case .int(let stage)? = step.first(where: { $0.0 == "stage" })?.1
    else { return nil }
    return (model.tensors, stage)
  }

  package func save(_ name: String, _ tensors: [Tensor], stage: Int) throws(Failure) {
    mkdir(folder, 0o777)
    var model = Model(configuration: configuration)
    for tensor in tensors { model.set(tensor) }
    model.history = [["step": "partial", "key": key, "stage": .int(stage)]]
    let writer = try ContainerWriter(try OutputFile(path(name), isReplacing: true), threads: threads)
    try writer.writeData(model)
    try writer.finish(model, program: Release.program)
    try writer.commit()
  }

  package func removeAll() {
    for name in fileNames(in: folder) where name.hasSuffix(".llv") { unlink(folder + "/" + name) }
    rmdir(folder)
  }

  private func path(_ name: String) -> String { "\(folder)/\(name).llv" }
}

/// A hash of what the model is given.
package func fingerprint(_ samples: [Sample]) -> UInt64 {
  var hash = XXH64()
  for sample in samples {
    withUnsafeBytes(of: (sample.ids.count, sample.pictures.count)) { hash.update($0) }
    sample.ids.withUnsafeBytes { hash.update($0) }
    for picture in sample.pictures { picture.pixels.withUnsafeBytes { hash.update($0) } }
  }
  return hash.value()
}
