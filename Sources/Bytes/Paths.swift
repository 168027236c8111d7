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
