import Glibc

/// Whether something is at `path`, wherever links lead.
public func exists(_ path: String) -> Bool {
  var status = stat()
  return stat(path, &status) == 0
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

/// What is in a directory, sorted; nothing when it cannot be read.
public func fileNames(in directory: String) -> [String] {
  guard let stream = opendir(directory) else { return [] }
  defer { closedir(stream) }
  var names: [String] = []
  while let entry = readdir(stream) {
    let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    if name != ".", name != ".." { names.append(name) }
  }
  return names.sorted()
}
