import Glibc

/// Another program that runs beside this one and writes to us. No shell is involved; its input is a file or empty.
public final class ChildProcess {
  private let name: String
  private let identifier: pid_t
  private let output: Int32
  private let messages: UnsafeMutablePointer<FILE>?
  private var isRunning = true
  /// How long the program may be silent before it is stopped, in seconds.
  private let patience: Int32

  /// One start at a time, so that no child inherits another's pipe.
  private static let starting = Lock(())

  /// Starts `name`, found on the PATH.
  /// - Parameters:
  ///   - input: what the program has as its standard input, from the file's start on; nothing when nil.
  ///   - patience: seconds that the program may be silent.
  ///   - install: what to do when there is no such program.
  public init(
    _ name: String, _ arguments: [String], input: InputFile? = nil, patience: Int32 = 60, install: String
  ) throws(Failure) {
    (self.name, self.patience) = (name, patience)
    // Messages go to a file without a name, where they cannot block the program.
    let file = tmpfile()
    messages = file
    let descriptor = file.map { fileno($0) } ?? 2
    let (status, identifier, output) = ChildProcess.starting.withLock { _ in
      ChildProcess.spawn([name] + arguments, input: input?.descriptor, errors: descriptor)
    }
    self.identifier = identifier
    self.output = output
    guard status == 0 else {
      isRunning = false
      throw Failure(.missing, "the program \(name) cannot be started; \(install)")
    }
  }

  private static func spawn(
    _ words: [String], input: Int32?, errors: Int32
  ) -> (status: Int32, pid_t, output: Int32) {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { return (errno, 0, -1) }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    if let input {
      posix_spawn_file_actions_adddup2(&actions, input, 0)
    } else {
      posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    }
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
    posix_spawn_file_actions_adddup2(&actions, errors, 2)
    // This program blocks the signals that stop it and ignores broken pipes; the child must do neither.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    var usual = sigset_t()
    sigemptyset(&usual)
    sigaddset(&usual, SIGPIPE)
    posix_spawnattr_setsigdefault(&attributes, &usual)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
    var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
    var identifier: pid_t = 0
    let status = posix_spawnp(&identifier, words[0], &actions, &attributes, &arguments, environ)
    for argument in arguments { free(argument) }
    posix_spawn_file_actions_destroy(&actions)
    posix_spawnattr_destroy(&attributes)
    close(ends[1])
    return (status, identifier, ends[0])
  }

  deinit {
    stop()
    if output >= 0 { close(output) }
    if let messages { fclose(messages) }
  }

  /// Exactly `count` bytes, or fewer at the end of what the program writes.
  public func read(_ count: Int) throws(Failure) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    var got = 0
    while got < count {
      var waiting = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
      let ready = poll(&waiting, 1, 1_000 * patience)
      if ready < 0 && errno == EINTR { continue }
      guard ready > 0 else {
        stop()
        throw Failure(.limit, "\(name) gave nothing for \(patience) seconds and was stopped")
      }
      let part = bytes.withUnsafeMutableBytes { Glibc.read(output, $0.baseAddress.map { $0 + got }, count - got) }
      if part < 0 && errno == EINTR { continue }
      guard part > 0 else { break }
      got += part
    }
    bytes.removeLast(count - got)
    return bytes
  }

  /// Everything the program writes, up to `limit` bytes.
  public func readAll(limit: Int) throws(Failure) -> [UInt8] {
    let bytes = try read(limit)
    guard bytes.count < limit else { throw Failure(.limit, "\(name) wrote more than \(limit) bytes") }
    return bytes
  }

  /// Waits for the end.
  /// - Throws: `malformed` with the program's first message when it reports failure.
  public func finish() throws(Failure) {
    var status: Int32 = 0
    while waitpid(identifier, &status, 0) < 0 && errno == EINTR {}
    isRunning = false
    guard status != 0 else { return }
    throw Failure(.malformed, "\(name): \(complaint ?? "failed without a message")")
  }

  /// The first line the program complained with.
  public var complaint: String? {
    guard let messages else { return nil }
    var text = [UInt8](repeating: 0, count: 400)
    let count = pread(fileno(messages), &text, text.count, 0)
    guard count > 0 else { return nil }
    var line = text[..<count].prefix { $0 != 0x0A }
    // ffmpeg puts `[part @ address] ` before it, and what it calls the file, which is its standard input.
    if line.first == UInt8(ascii: "["), let end = line.firstIndex(of: UInt8(ascii: "]")) {
      line = line[end...].dropFirst(2)
    }
    let own = Array("file:/dev/stdin: ".utf8)
    if line.starts(with: own) { line = line.dropFirst(own.count) }
    // It may quote the file, which may hold anything.
    return Failure.escaped(Array(line), limit: 200)
  }

  private func stop() {
    guard isRunning else { return }
    kill(identifier, SIGKILL)
    var status: Int32 = 0
    while waitpid(identifier, &status, 0) < 0 && errno == EINTR {}
    isRunning = false
  }
}
