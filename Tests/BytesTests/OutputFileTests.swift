import Bytes
import Foundation
import Glibc
import TestSupport
import Testing

struct OutputFileTests {
  /// Writes `text` in three pieces, with a header that is overwritten last.
  static func save(_ path: String, _ text: String, isReplacing: Bool, system: FileSystem = .real) throws(Failure) {
    let output = try OutputFile(path, isReplacing: isReplacing, system: system)
    try output.write([0])
    let bytes = Array(text.utf8)
    try output.write(Array(bytes.prefix(bytes.count / 2)))
    try output.write(Array(bytes.dropFirst(bytes.count / 2)))
    try output.overwrite([UInt8(ascii: "#")], at: 0)
    try output.commit()
  }

  @Test("a file is invisible until it is committed, and nothing is left when it is not")
  func aFileIsInvisibleUntilItIsCommittedAndNothingIsLeftWhenItIsNot() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/f"
    do {
      let output = try OutputFile(path, isReplacing: false)
      try output.write([1, 2, 3])
      #expect(!directory.names.contains("f"))
    }
    #expect(directory.names.isEmpty)
    try OutputFileTests.save(path, "new", isReplacing: false)
    #expect(directory.names == ["f"])
    #expect(try Repository.read(path) == Array("#new".utf8))
  }

  @Test("an existing file is kept unless it may be replaced")
  func anExistingFileIsKeptUnlessItMayBeReplaced() throws {
    let directory = try TemporaryDirectory()
    let path = try directory.write("f", "old")
    let refused = outcome { () throws(Failure) in try OutputFileTests.save(path, "new", isReplacing: false) }
    #expect(throws: Failure.self) { try refused.get() }
    #expect(try Repository.read(path) == Array("old".utf8))
    try OutputFileTests.save(path, "new", isReplacing: true)
    #expect(try Repository.read(path) == Array("#new".utf8))
  }

  @Test("a link is replaced, what it points to is not touched")
  func aLinkIsReplacedWhatItPointsToIsNotTouched() throws {
    let directory = try TemporaryDirectory()
    let target = try directory.write("blob", "precious")
    try FileManager.default.createSymbolicLink(atPath: directory.path + "/f", withDestinationPath: target)
    try OutputFileTests.save(directory.path + "/f", "new", isReplacing: true)
    #expect(try Repository.read(target) == Array("precious".utf8))
    #expect(try Repository.read(directory.path + "/f") == Array("#new".utf8))
  }

  @Test("bad destinations are refused before any work")
  func badDestinationsAreRefusedBeforeAnyWork() throws {
    let directory = try TemporaryDirectory()
    for path in [
      "/absent-directory/f", directory.path, directory.path + "/", "/dev/null",
      directory.path + "/" + String(repeating: "x", count: 256),
    ] {
      guard case .failure(let failure) = outcome({ () throws(Failure) in try OutputFile(path, isReplacing: true) })
      else {
        Issue.record("\(path) was taken")
        continue
      }
      #expect(failure.kind == .cannotCreate)
    }
  }

  /// Fails call number `index` of all writing calls, as the disk would: SQLite's way of testing.
  static func failing(_ index: Int, _ code: Int32) -> (FileSystem, @Sendable () -> Int) {
    let count = Counter()
    var system = FileSystem.real
    @Sendable func fails() -> Bool {
      guard count.next() == index else { return false }
      errno = code
      return true
    }
    let real = FileSystem.real
    system.openat = { fails() ? -1 : real.openat($0, $1, $2, $3) }
    system.pwrite = { fails() ? -1 : real.pwrite($0, $1, $2) }
    system.fsync = { fails() ? -1 : real.fsync($0) }
    system.close = { file in
      let isFailing = fails()
      let result = real.close(file)
      if isFailing { errno = code }
      return isFailing ? -1 : result
    }
    system.rename = { fails() ? -1 : real.rename($0, $1, $2, $3) }
    return (system, { count.value() })
  }

  final class Counter: Sendable {
    private let count = Lock(0)
    func next() -> Int {
      count.withLock {
        $0 += 1; return $0
      }
    }
    func value() -> Int { count.withLock { $0 } }
  }

  @Test("whichever call fails, the old file or the new one is there", arguments: [ENOSPC, EIO, EDQUOT, EROFS])
  func whicheverCallFailsTheOldFileOrTheNewOneIsThere(_ code: Int32) throws {
    let directory = try TemporaryDirectory()
    var index = 1
    while true {
      let path = try directory.write("f", "old")
      let (system, calls) = OutputFileTests.failing(index, code)
      let result = outcome { () throws(Failure) in
        try OutputFileTests.save(path, "new", isReplacing: true, system: system)
      }
      let found = String(decoding: try Repository.read(path), as: UTF8.self)
      #expect(directory.names == ["f"], "call \(index) left a temporary file")
      if calls() < index {
        #expect(found == "#new")
        break
      }
      guard case .failure(let failure) = result else {
        Issue.record("call \(index) failed and nobody noticed")
        return
      }
      #expect(failure.kind == .io || failure.kind == .cannotCreate)
      #expect(found == (failure.description.contains("written, but") ? "#new" : "old"), "call \(index): \(failure)")
      index += 1
    }
    #expect(index >= 9)
  }

  @Test("interrupted and short writes are taken up again")
  func interruptedAndShortWritesAreTakenUpAgain() throws {
    let directory = try TemporaryDirectory()
    let count = Counter()
    var system = FileSystem.real
    system.pwrite = { file, bytes, offset in
      if count.next() % 2 == 1 {
        errno = EINTR
        return -1
      }
      return FileSystem.real.pwrite(file, UnsafeRawBufferPointer(rebasing: bytes.prefix(1)), offset)
    }
    try OutputFileTests.save(directory.path + "/f", "hello", isReplacing: false, system: system)
    #expect(try Repository.read(directory.path + "/f") == Array("#hello".utf8))
    system.pwrite = { _, _, _ in 0 }
    #expect(throws: Failure.self) {
      try OutputFileTests.save(directory.path + "/g", "hello", isReplacing: false, system: system)
    }
  }

  @Test("what a killed writer left is swept, what a live one holds is not")
  func whatAKilledWriterLeftIsSweptWhatALiveOneHoldsIsNot() throws {
    let directory = try TemporaryDirectory()
    try directory.write(".x.llvconv-1-ab.tmp", "left over")
    let live = try OutputFile(directory.path + "/live", isReplacing: false)
    try OutputFileTests.save(directory.path + "/f", "new", isReplacing: false)
    #expect(!directory.names.contains(".x.llvconv-1-ab.tmp"))
    #expect(directory.names.contains { $0.hasPrefix(".live.llvconv-") })
    try live.commit()
    #expect(directory.names == ["f", "live"])
  }

  @Test("writers in one folder do not take each other's files for left behind")
  func writersInOneFolderDoNotSweepEachOther() throws {
    let directory = try TemporaryDirectory()
    // Each makes a file and a directory again and again, sweeping before; several processes' worth of them.
    try parallel(8, threads: 8) { (task) throws(Failure) in
      for round in 0..<60 {
        let file = try OutputFile("\(directory.path)/f\(task)-\(round)", isReplacing: false)
        try file.write([1, 2, 3])
        try file.commit()
        let folder = try OutputDirectory("\(directory.path)/d\(task)-\(round)")
        try folder.write("a", [1])
        try folder.commit()
      }
    }
    #expect(directory.names.count == 8 * 60 * 2)
  }
}
