import Bytes
import Glibc
import Inputs

/// Lines of a file or of standard input, a batch at a time, in bounded memory.
final class LineSource {
  /// How long a pause in the input is that ends a batch, in milliseconds.
  private static let pause: Int32 = 5

  private let descriptor: Int32
  private var pending: [UInt8] = []
  /// Bytes of `pending` in which no line ends.
  private var searched = 0
  private var isAtEnd = false
  private var number = 0
  private(set) var bytesRead = 0
  /// Size of the input, 0 when it is not known.
  let byteCount: Int
  private let name: String

  init(_ path: String?) throws(Failure) {
    name = path ?? "standard input"
    guard let path, path != "-" else {
      descriptor = 0
      byteCount = 0
      return
    }
    byteCount = try InputFile(path).count
    descriptor = uninterrupted { open(path, O_RDONLY | O_CLOEXEC) }
    guard descriptor >= 0 else { throw Failure(.missing, "cannot be opened", file: path) }
  }

  deinit { if descriptor > 0 { close(descriptor) } }

  /// Lines that are not blank: `most` of them, or fewer when whoever writes them waits; nil at the end.
  func next(_ most: Int) throws(Failure) -> [(number: Int, bytes: [UInt8])]? {
    var lines: [(number: Int, bytes: [UInt8])] = []
    var start = 0
    while lines.count < most {
      guard let end = pending[(start + searched)...].firstIndex(of: UInt8(ascii: "\n")) else {
        pending.removeFirst(start)
        start = 0
        searched = pending.count
        if !lines.isEmpty, isPausing { break }
        if try !fill() {
          if !pending.isEmpty { take(pending[...], &lines) }
          pending = []
          searched = 0
          break
        }
        continue
      }
      take(pending[start..<end], &lines)
      (start, searched) = (end + 1, 0)
    }
    pending.removeFirst(start)
    return lines.isEmpty ? nil : lines
  }

  /// Whether nothing comes for a moment. A file never pauses.
  private var isPausing: Bool {
    var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return poll(&waiting, 1, LineSource.pause) <= 0
  }

  private func take(_ line: ArraySlice<UInt8>, _ lines: inout [(number: Int, bytes: [UInt8])]) {
    number += 1
    let line = number == 1 ? JSONLines.withoutMark(line) : line
    if !JSONLines.isBlank(line) { lines.append((number, Array(line))) }
  }

  private func fill() throws(Failure) -> Bool {
    guard !isAtEnd else { return false }
    guard pending.count <= Limits.itemLine else {
      throw Failure(.limit, "line longer than \(Limits.itemLine) bytes", file: name, place: "line \(number + 1)")
    }
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    var got = read(descriptor, &chunk, chunk.count)
    while got < 0 && errno == EINTR { got = read(descriptor, &chunk, chunk.count) }
    guard got >= 0 else { throw Failure(.io, "reading failed", file: name) }
    isAtEnd = got == 0
    pending += chunk[..<got]
    bytesRead += got
    return got > 0
  }
}
