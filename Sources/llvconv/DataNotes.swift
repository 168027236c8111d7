import Bytes
import Inputs

extension Command {
  static let strict = Option(
    "--strict", nil, "stop at the first bad item, and at keys that are not known, in the place of leaving them out")
}

extension DataFile {
  /// Says on standard error what was not read.
  static func open(_ path: String, isStrict: Bool = false) throws(Failure) -> DataFile {
    let file = try DataFile(path, isStrict: isStrict)
    file.keys.complain(of: path)
    return file
  }
}

extension KeyRule {
  func complain(of path: String) {
    if let note { Output.note("note: \(path): \(note)") }
  }
}
