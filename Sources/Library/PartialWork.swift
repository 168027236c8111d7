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

  /// Does the work. Where that fails, nothing empty is left, and the message says where the work so far is.
  package func keeping<R>(_ body: () throws(Failure) -> R) throws(Failure) -> R {
    do throws(Failure) { return try body() } catch {
      rmdir(folder)
      guard isDirectory(folder) else { throw error }
      var error = error
      error.problem += "; work so far is kept in \(folder): the same command goes on from it, or remove it"
      throw error
    }
  }

  /// Tensors that were kept, and how far the work had come; nil when there are none that can be used.
  ///
  /// - Throws: `io` where reading them fails: they may be days of work, which must not be done anew for that.
  package func open(_ name: String) throws(Failure) -> (tensors: [Tensor], stage: Int)? {
    do throws(Failure) {
      let model = try Container.open(path(name)).model
      guard case .object(let step)? = model.history.last, step.contains(where: { $0.0 == "key" && $0.1 == key }),
        case .int(let stage)? = step.first(where: { $0.0 == "stage" })?.1
      else { return nil }
      return (model.tensors, stage)
    } catch {
      guard error.kind != .io, error.kind != .missing || !exists(path(name)) else { throw error }
      return nil
    }
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
    for name in (try? fileNames(in: folder)) ?? [] where name.hasSuffix(".llv") || name.hasSuffix(".tmp") {
      unlink(folder + "/" + name)
    }
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
