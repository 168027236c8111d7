import Glibc

/// A file being written that nobody can see until `commit()`: then it is there, whole and on the disk.
///
/// The bytes go to a locked temporary file in the destination's directory, which is synced, renamed over the
/// destination, and made durable by syncing the directory. A process killed at any moment leaves the old file or the
/// new one, and at most a temporary file, which the next writer in that directory removes. In a `DryRun` nothing of
/// this happens: bytes are counted and dropped, and `commit()` reports what would have been there.
public final class OutputFile {
  public let path: String
  /// Bytes appended so far.
  public private(set) var count = 0
  /// Bytes whose way to the disk has begun.
  private var flushed = 0
  private let directory: Int32
  private let name: String
  private let temporary: String
  private let temporaryPath: String
  private let system: FileSystem
  private let isReplacing: Bool
  private let dryRun: DryRun.Report?
  private var descriptor: Int32

  /// Creates the temporary file. Nothing is visible at `path` yet.
  /// - Throws: `cannotCreate` when the directory is absent or not writable, or `path` exists and `isReplacing` is
  ///   false.
  public convenience init(_ path: String, isReplacing: Bool, system: FileSystem = .real) throws(Failure) {
    try self.init(path, isReplacing: isReplacing, system: system, dryRun: DryRun.report)
  }

  init(_ path: String, isReplacing: Bool, system: FileSystem, dryRun: DryRun.Report?) throws(Failure) {
    self.dryRun = dryRun
    func refuse(_ problem: String) -> Failure { Failure(.cannotCreate, problem, file: path) }
    let slash = path.utf8.lastIndex(of: UInt8(ascii: "/"))
    let name = slash.map { String(path[path.utf8.index(after: $0)...]) } ?? path
    let folder = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    guard !name.isEmpty, name != ".", name != ".." else { throw refuse("is not a file name") }
    guard name.utf8.count <= 255 else { throw refuse("file name too long") }
    let directory = uninterrupted { open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
    guard directory >= 0 else { throw refuse("cannot open its directory: \(InputFile.words(errno))") }
    do throws(Failure) {
      try OutputFile.checkDestination(directory, name, isReplacing, refuse)
      if dryRun == nil { OutputFile.sweep(folder, directory) }
      let suffix = ".llvconv-\(getpid())-\(String(UInt32.random(in: 0 ... .max), radix: 16)).tmp"
      let head = String(decoding: name.utf8.prefix(255 - suffix.utf8.count - 1), as: UTF8.self)
      temporary =
        "." + (name.utf8.count + suffix.utf8.count < 255 ? name : String(head.unicodeScalars.filter(\.isASCII)))
        + suffix
      temporaryPath = folder + "/" + temporary
      let name = temporary
      if dryRun == nil {
        descriptor = Temporaries.create(temporaryPath) {
          system.openat(directory, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o666)
        }
      } else {
        descriptor = OutputFile.nowhere(in: directory)
      }
      guard descriptor >= 0 else { throw refuse("cannot be created: \(InputFile.words(errno))") }
    } catch {
      close(directory)
      throw error
    }
    self.path = path
    self.name = name
    self.directory = directory
    self.system = system
    self.isReplacing = isReplacing
  }

  deinit {
    if descriptor >= 0 { abandon() }
    close(directory)
  }

  /// Where a dry run writes; -1 where a file could not be made in this directory.
  static func nowhere(in directory: Int32) -> Int32 {
    faccessat(directory, ".", W_OK | X_OK, AT_EACCESS) == 0 ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1
  }

  private static func checkDestination(
    _ directory: Int32, _ name: String, _ isReplacing: Bool, _ refuse: (String) -> Failure
  ) throws(Failure) {
    var status = stat()
    guard fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { return }
    guard status.st_mode & S_IFMT != S_IFDIR else { throw refuse("is a directory") }
    guard isReplacing else { throw refuse("exists already; --force replaces it") }
    let type = status.st_mode & S_IFMT
    guard type == S_IFREG || type == S_IFLNK else { throw refuse("is not a regular file") }
  }

  /// Removes temporary files whose writer is gone: those that nobody holds a lock on.
  private static func sweep(_ folder: String, _ directory: Int32) {
    guard let stream = opendir(folder) else { return }
    defer { closedir(stream) }
    while let entry = readdir(stream) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      guard name.hasPrefix("."), name.hasSuffix(".tmp"), name.contains(".llvconv-") else { continue }
      let file = Glibc.openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
      guard file >= 0 else { continue }
      if Temporaries.isLeft(file, at: folder + "/" + name) { unlinkat(directory, name, 0) }
      close(file)
    }
  }

  /// Appends `bytes`.
  public func write(_ bytes: UnsafeRawBufferPointer) throws(Failure) {
    try write(bytes, at: count)
    count += bytes.count
    // Asks the system to begin writing to the disk now, so that the sync at the end finds little left to do. (For pages
    // that wait to be written, this advice means just that; nothing is dropped that is not on the disk.)
    if count - flushed >= 8 << 20 {
      posix_fadvise(descriptor, flushed, count - flushed, POSIX_FADV_DONTNEED)
      flushed = count
    }
  }

  public func write(_ bytes: [UInt8]) throws(Failure) {
    let failure = bytes.withUnsafeBytes { (raw) -> Failure? in
      do throws(Failure) {
        try write(raw)
        return nil
      } catch { return error }
    }
    if let failure { throw failure }
  }

  /// Overwrites bytes that were appended before, for a header that is known last.
  public func overwrite(_ bytes: [UInt8], at offset: Int) throws(Failure) {
    precondition(offset >= 0 && bytes.count <= count - offset, "overwriting what was written")
    let buffer = try Buffer(bytes)
    try buffer.withBytes { (raw) throws(Failure) in try write(raw, at: offset) }
  }

  /// Zero bytes up to the next multiple of `unit`.
  public func pad(to unit: Int) throws(Failure) {
    let missing = (unit - count % unit) % unit
    if missing > 0 { try write([UInt8](repeating: 0, count: missing)) }
  }

  private func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(Failure) {
    var done = 0
    while done < bytes.count {
      errno = 0
      let wrote = system.pwrite(descriptor, UnsafeRawBufferPointer(rebasing: bytes[done...]), offset + done)
      if wrote < 0 && errno == EINTR { continue }
      guard wrote > 0 else {
        let reason = wrote < 0 ? InputFile.words(errno) : "the system wrote nothing"
        throw Failure(.io, "writing failed: \(reason)", file: path, place: "byte \(offset + done)")
      }
      done += wrote
    }
  }

  /// Makes the file durable and visible. A second call is a mistake of the caller.
  /// - Throws: `io`; the destination is then as it was, unless the message says that it was written.
  public func commit() throws(Failure) {
    precondition(descriptor >= 0, "committed once")
    if let dryRun {
      Glibc.close(descriptor)
      descriptor = -1
      return dryRun(path, count)
    }
    guard system.fsync(descriptor) == 0 else { throw failed("syncing failed") }
    let file = descriptor
    descriptor = -1
    // Closing says whether everything was written. A second descriptor holds the lock until the name is no temporary's,
    // or another writer would take the file for one that was left behind.
    let lock = fcntl(file, F_DUPFD_CLOEXEC, 3)
    defer { Glibc.close(lock) }
    guard system.close(file) == 0 else {
      let failure = failed("closing failed")
      removeTemporary()
      throw failure
    }
    guard system.rename(directory, temporary, name, isReplacing) == 0 else {
      let failure = failed("renaming into place failed")
      removeTemporary()
      throw failure
    }
    Temporaries.remove(temporaryPath)
    guard system.fsync(directory) == 0 else { throw failed("written, but its directory could not be synced") }
  }

  private func failed(_ what: String) -> Failure { Failure(.io, "\(what): \(InputFile.words(errno))", file: path) }

  private func abandon() {
    let file = descriptor
    descriptor = -1
    if dryRun == nil { removeTemporary() }
    _ = system.close(file)
  }

  private func removeTemporary() {
    unlinkat(directory, temporary, 0)
    Temporaries.remove(temporaryPath)
  }
}
