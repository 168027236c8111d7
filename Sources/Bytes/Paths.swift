import Glibc

/// Whether something is at `path`, wherever links lead. What the system cannot look at counts as there: a model that is
/// read without one of its files is another model, and opening the file says what is wrong.
public func exists(_ path: String) -> Bool {
  var status = stat()
  return stat(path, &status) == 0 || !isAbsence(errno)
}

/// Whether this error means that nothing is there.
private func isAbsence(_ code: Int32) -> Bool { code == ENOENT || code == ENOTDIR }

/// Makes a call again for as long as signals interrupt it.
package func uninterrupted(_ call: () -> Int32) -> Int32 {
  while true {
    let result = call()
    if result != -1 || errno != EINTR { return result }
  }
}

public func isDirectory(_ path: String) -> Bool {
  var status = stat()
  return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
}

/// The part of `path` up to and with its last slash, `./` when it has none.
public func directory(of path: String) -> String {
  guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "./" }
  return String(path[...slash])
}

/// What is in a directory, sorted; nothing when it is absent or nobody may read it.
/// - Throws: `io` when reading it fails.
public func fileNames(in directory: String) throws(Failure) -> [String] {
  func failed() -> Failure { Failure(.io, "reading failed: \(InputFile.words(errno))", file: directory) }
  guard let stream = opendir(directory) else {
    guard isAbsence(errno) || errno == EACCES else { throw failed() }
    return []
  }
  defer { closedir(stream) }
  var names: [String] = []
  while true {
    errno = 0
    guard let entry = readdir(stream) else { break }
    let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    if name != ".", name != ".." { names.append(name) }
  }
  guard errno == 0 else { throw failed() }
  return names.sorted()
}
