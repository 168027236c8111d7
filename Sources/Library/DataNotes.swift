import Bytes
import Inputs

extension DataFile {
  /// Says on standard error what was not read.
  package static func open(_ path: String, isStrict: Bool = false) throws(Failure) -> DataFile {
    let file = try DataFile(path, isStrict: isStrict)
    file.keys.complain(of: path)
    return file
  }
}

extension KeyRule {
  package func complain(of path: String) {
    if let note { Output.note("note: \(path): \(note)") }
  }
}
