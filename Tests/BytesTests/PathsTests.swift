import Bytes
import Foundation
import Glibc
import TestSupport
import Testing

struct PathsTests {
  @Test("what cannot be looked at counts as there, what is absent does not")
  func whatCannotBeLookedAtCountsAsThere() throws {
    let directory = try TemporaryDirectory()
    let file = try directory.write("f", "x")
    #expect(exists(file))
    #expect(!exists(directory.path + "/g"))
    #expect(!exists(file + "/g"), "below a file there is nothing")
    // The system says that this name is too long, not that nothing is there.
    #expect(exists(directory.path + "/" + String(repeating: "x", count: 300)))
  }

  @Test("names of a directory that is absent are none; of what is no directory neither")
  func namesOfWhatIsAbsentAreNone() throws {
    let directory = try TemporaryDirectory()
    try directory.write("b", "")
    let file = try directory.write("a", "")
    #expect(try fileNames(in: directory.path) == ["a", "b"])
    #expect(try fileNames(in: directory.path + "/absent") == [])
    #expect(try fileNames(in: file) == [])
    let failure = #expect(throws: Failure.self) {
      try fileNames(in: directory.path + "/" + String(repeating: "x", count: 300))
    }
    #expect(failure?.kind == .io)
  }

  @Test("an interrupted call is made again, another failure is not")
  func anInterruptedCallIsMadeAgain() {
    var codes = [EINTR, EINTR, 0]
    let result = uninterrupted {
      errno = codes.removeFirst()
      return errno == 0 ? 7 : -1
    }
    #expect(result == 7 && codes.isEmpty)
    codes = [EIO, 0]
    #expect(
      uninterrupted {
        errno = codes.removeFirst(); return -1
      } == -1 && codes == [0])
  }
}
