import Glibc

/// A regular file open for reading, with its size and identity as they were when it was opened.
///
/// Reads use `pread`, so a file that shrinks while it is read gives an error, not a signal.
public final class InputFile: Sendable {
  public let path: String
  public let count: Int
  let descriptor: Int32
  private let identity: Identity

  private struct Identity: Equatable {
    var device: UInt, inode: UInt, size: Int, seconds: Int, nanoseconds: Int

    init(_ status: stat) {
      device = UInt(status.st_dev)
      inode = UInt(status.st_ino)
      size = status.st_size
      seconds = status.st_mtim.tv_sec
      nanoseconds = status.st_mtim.tv_nsec
    }
  }

  /// Whether two paths name one file that is there.
  public static func isSame(_ a: String, _ b: String) -> Bool {
    var (first, second) = (stat(), stat())
    guard stat(a, &first) == 0, stat(b, &second) == 0 else { return false }
    return first.st_dev == second.st_dev && first.st_ino == second.st_ino
  }

  /// Opens without blocking on a pipe and without following anything but the user's own links.
  /// - Throws: `missing` when the path is absent, unreadable or not a regular file.
  public init(_ path: String) throws(Failure) {
    let descriptor = uninterrupted { open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY) }
    guard descriptor >= 0 else {
      throw Failure(.missing, InputFile.words(errno), file: path)
    }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      close(descriptor)
      throw Failure(.missing, InputFile.words(errno), file: path)
    }
    let type = status.st_mode & S_IFMT
    guard type == S_IFREG else {
      close(descriptor)
      throw Failure(.missing, type == S_IFDIR ? "is a directory" : "not a regular file", file: path)
    }
    self.path = path
    self.descriptor = descriptor
    count = status.st_size
    identity = Identity(status)
  }

  /// A file without a name that holds `bytes`, for another program to read.
  public init(unnamed bytes: [UInt8]) throws(Failure) {
    path = "temporary file"
    let file = tmpfile()
    let descriptor = file.map { fcntl(fileno($0), F_DUPFD_CLOEXEC, 3) } ?? -1
    guard let file, descriptor >= 0 else { throw Failure(.io, "no temporary file: \(InputFile.words(errno))") }
    fclose(file)
    var done = 0
    while done < bytes.count {
      let put = bytes.withUnsafeBytes { pwrite(descriptor, $0.baseAddress.map { $0 + done }, bytes.count - done, done) }
      if put < 0 && errno == EINTR { continue }
      guard put > 0 else {
        close(descriptor)
        throw Failure(.io, "writing a temporary file failed: \(InputFile.words(errno))")
      }
      done += put
    }
    (self.descriptor, count) = (descriptor, bytes.count)
    var status = stat()
    _ = fstat(descriptor, &status)
    identity = Identity(status)
  }

  deinit { close(descriptor) }

  /// Fills `target` with the bytes from `offset` on.
  /// - Throws: `io` when reading fails or the file has become shorter.
  public func read(at offset: Int, into target: UnsafeMutableRawBufferPointer) throws(Failure) {
    var done = 0
    while done < target.count {
      let got = pread(descriptor, target.baseAddress.map { $0 + done }, target.count - done, offset + done)
      if got < 0 && errno == EINTR { continue }
      guard got > 0 else {
        throw Failure(
          .io, got < 0 ? "reading failed: \(InputFile.words(errno))" : "changed while reading", file: path,
          place: "byte \(offset + done)")
      }
      done += got
    }
  }

  /// Bytes from `offset` on where they lie; nil where the system does not map them.
  func map(at offset: Int, _ count: Int) -> Buffer? { Buffer(mapping: descriptor, at: offset, count: count) }

  /// Throws `io` when the file is no longer the one that was opened, by size, time or inode.
  public func checkUnchanged() throws(Failure) {
    var status = stat()
    guard fstat(descriptor, &status) == 0, Identity(status) == identity else {
      throw Failure(.io, "changed while reading", file: path)
    }
  }

  /// The whole file, refused with `limit` above `limit` bytes.
  public func all(limit: Int, what: String) throws(Failure) -> [UInt8] {
    guard count <= limit else {
      throw Failure(.limit, "\(what) of \(count) bytes, limit \(limit)", file: path)
    }
    let bytes = try ByteView(self, 0, count).bytes()
    try checkUnchanged()
    return bytes
  }

  static func words(_ code: Int32) -> String {
    switch code {
    case ENOENT: "no such file"
    case EACCES, EPERM: "permission denied"
    case ELOOP: "too many levels of symbolic links"
    case ENXIO: "not a regular file"
    case ENOTDIR: "a part of the path is not a directory"
    default: String(cString: strerror(code))
    }
  }
}
