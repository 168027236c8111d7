import Glibc

/// A directory of files being written that nobody can see until `commit()`: then it is there, whole and on the disk.
///
/// Files go to a locked temporary directory beside the destination, which is renamed at the end. A directory that
/// exists is never replaced: nobody knows what else is in it.
public final class OutputDirectory {
  public let path: String
  private let temporary: String
  private let dryRun = DryRun.report
  private var descriptor: Int32

  /// - Throws: `cannotCreate` when the parent is absent or not writable, or `path` exists.
  public init(_ path: String) throws(Failure) {
    let trimmed = path.utf8.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    func refuse(_ problem: String) -> Failure { Failure(.cannotCreate, problem, file: path) }
    let parent = directory(of: trimmed)
    let name = String(trimmed.dropFirst(trimmed.contains("/") ? parent.count : 0))
    guard !name.isEmpty, name != ".", name != ".." else { throw refuse("is not a directory name") }
    guard name.utf8.count <= 200 else { throw refuse("directory name too long") }
    guard !exists(trimmed) else { throw refuse("exists already; directories are not replaced") }
    let temporary = "\(parent).\(name).llvconv-\(getpid())-\(String(UInt32.random(in: 0 ... .max), radix: 16)).dir"
    if dryRun == nil {
      OutputDirectory.sweep(parent)
      descriptor = Temporaries.create(temporary) {
        guard mkdir(temporary, 0o777) == 0 else { return -1 }
        let made = uninterrupted { open(temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
        let reason = errno
        if made < 0 { rmdir(temporary) }
        errno = reason
        return made
      }
    } else {
      let folder = open(parent.isEmpty ? "." : parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
      descriptor = folder >= 0 ? OutputFile.nowhere(in: folder) : -1
      close(folder)
    }
    guard descriptor >= 0 else { throw refuse("cannot be created: \(InputFile.words(errno))") }
    self.path = trimmed
    self.temporary = temporary
  }

  deinit { if descriptor >= 0 { abandon() } }

  /// A file of the directory, in a folder of it where `name` has slashes. To be committed before the directory.
  public func file(_ name: String) throws(Failure) -> OutputFile {
    if let dryRun {
      // Under a name that nobody has, in the folder that is there.
      let path = path + "/" + name
      return try OutputFile(directory(of: self.path) + ".llvconv-dry-run", isReplacing: false, system: .real) {
        dryRun(path, $1)
      }
    }
    var folder = temporary
    for part in name.split(separator: "/").dropLast() {
      folder += "/" + part
      guard mkdir(folder, 0o777) == 0 || errno == EEXIST else {
        throw Failure(.cannotCreate, "cannot be created: \(InputFile.words(errno))", file: folder)
      }
    }
    // Nobody else knows the folder. Where names may be replaced, no second name has to be removed, which might fail.
    return try OutputFile(temporary + "/" + name, isReplacing: true)
  }

  /// Writes a small file whole.
  public func write(_ name: String, _ bytes: [UInt8]) throws(Failure) {
    let output = try file(name)
    try output.write(bytes)
    try output.commit()
  }

  /// Makes the directory visible and durable. A second call is a mistake of the caller.
  public func commit() throws(Failure) {
    precondition(descriptor >= 0, "committed once")
    guard dryRun == nil else { return }
    func failed(_ what: String) -> Failure { Failure(.io, "\(what): \(InputFile.words(errno))", file: path) }
    guard uninterrupted({ fsync(descriptor) }) == 0 else { throw failed("syncing failed") }
    guard rename(temporary, path) == 0 else { throw failed("renaming into place failed") }
    close(descriptor)
    descriptor = -1
    Temporaries.remove(temporary)
    let parent = uninterrupted { open(directory(of: path), O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
    defer { close(parent) }
    guard uninterrupted({ fsync(parent) }) == 0 else { throw failed("written, but its directory could not be synced") }
  }

  private func abandon() {
    if dryRun == nil { removeTree(temporary) }
    close(descriptor)
    descriptor = -1
    Temporaries.remove(temporary)
  }

  /// Removes temporary directories whose writer is gone: those that nobody holds a lock on.
  private static func sweep(_ parent: String) {
    for name in (try? fileNames(in: parent)) ?? []
    where name.hasPrefix(".") && name.hasSuffix(".dir") && name.contains(".llvconv-") {
      let old = open(parent + name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
      guard old >= 0 else { continue }
      if Temporaries.isLeft(old, at: parent + name) { removeTree(parent + name) }
      close(old)
    }
  }
}

/// Removes a file, or a directory and what is in it; links are removed, not followed.
func removeTree(_ path: String) {
  guard unlink(path) != 0, errno == EISDIR else { return }
  for name in (try? fileNames(in: path)) ?? [] { removeTree(path + "/" + name) }
  rmdir(path)
}
