import Glibc

/// The calls that write, as values, so that a test can make any one of them fail. Each returns -1 and sets `errno` on
/// failure, like the C function it is named after.
public struct FileSystem: Sendable {
  public var openat: @Sendable (_ directory: Int32, _ name: String, _ flags: Int32, _ mode: mode_t) -> Int32
  public var pwrite: @Sendable (_ file: Int32, _ bytes: UnsafeRawBufferPointer, _ offset: Int) -> Int
  public var fsync: @Sendable (Int32) -> Int32
  public var close: @Sendable (Int32) -> Int32
  public var rename: @Sendable (_ directory: Int32, _ from: String, _ to: String, _ replacing: Bool) -> Int32

  public static let real = FileSystem(
    openat: { (folder, name, flags, mode) in uninterrupted { Glibc.openat(folder, name, flags, mode) } },
    pwrite: { Glibc.pwrite($0, $1.baseAddress, $1.count, $2) },
    fsync: { file in uninterrupted { Glibc.fsync(file) } },
    // Linux closes the file whatever it answers, and what was synced cannot be lost by an interruption.
    close: { Glibc.close($0) == 0 || errno == EINTR ? 0 : -1 },
    rename: { directory, from, to, replacing in
      if replacing { return renameat(directory, from, directory, to) }
      // A link, unlike a rename, fails when the name has been taken meanwhile. Not every file system has links.
      guard linkat(directory, from, directory, to, 0) == 0 else {
        return errno == EEXIST ? -1 : renameat(directory, from, directory, to)
      }
      unlinkat(directory, from, 0)
      return 0
    })
}

/// The temporary files and directories that exist now, so that the program can remove them when it is asked to stop.
public enum Temporaries {
  private static let paths = Lock<Set<String>>([])

  /// Calls `open`, which makes the file or directory at `path`, and locks it, so that nobody takes it for left behind.
  /// No signal comes between the file and its place in the list.
  ///
  /// Between making and locking another writer's sweep may have removed it: then it is made again. A negative number
  /// where a call fails for another reason; nothing is left then.
  static func create(_ path: String, _ open: () -> Int32) -> Int32 {
    paths.withLock { all in
      for _ in 0..<attempts {
        let descriptor = open()
        if descriptor < 0 {
          // A directory that was made and swept away before it could be opened.
          if errno == ENOENT { continue }
          return descriptor
        }
        // Whoever sweeps holds the lock for a moment.
        _ = uninterrupted { flock(descriptor, LOCK_EX) }
        var (own, there) = (stat(), stat())
        let isKnown = fstat(descriptor, &own) == 0 && (lstat(path, &there) == 0 || errno == ENOENT)
        if isKnown, own.st_ino == there.st_ino {
          all.insert(path)
          return descriptor
        }
        let reason = errno
        if !isKnown { removeTree(path) }
        close(descriptor)
        errno = reason
        if !isKnown { return -1 }
      }
      return -1
    }
  }

  private static let attempts = 100

  static func remove(_ path: String) { _ = paths.withLock { $0.remove(path) } }

  /// Whether nobody holds this file or directory any more, which is then locked, and may be removed.
  ///
  /// Another sweep may have removed it since it was opened, and its writer made another in its place, which is not the
  /// one that is locked here.
  static func isLeft(_ descriptor: Int32, at path: String) -> Bool {
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else { return false }
    var (own, there) = (stat(), stat())
    return fstat(descriptor, &own) == 0 && lstat(path, &there) == 0 && own.st_ino == there.st_ino
  }

  /// Unlinks them all and ends the program; nothing can make another meanwhile.
  public static func unlinkAllAndExit(_ code: Int32) -> Never {
    paths.withLock { all in
      for path in all { removeTree(path) }
      _exit(code)
    }
  }
}
