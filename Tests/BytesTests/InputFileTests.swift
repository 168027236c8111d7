import Bytes
import Foundation
import Formats
import Glibc
import TestSupport
import Testing

struct InputFileTests {
  static let valid = TinyBert.safetensors([("t", [2, 2], [1, 2, 3, 4])])

  @Test("every case is judged as its row says", arguments: try Case.load("files"))
  func everyCaseIsJudgedAsItsRowSays(_ row: Case) throws {
    // Root may read anything.
    if row.id == "I06", getuid() == 0 { return }
    let directory = try TemporaryDirectory()
    let path = directory.path + "/f.safetensors"
    let result: Result<[String], Failure>
    switch try row.json.required("setup").string() {
    case "absent": result = open(path)
    case "directory":
      mkdir(path, 0o755)
      result = outcome { () throws(Failure) in
        _ = try InputFile(path); return []
      }
    case "fifo":
      mkfifo(path, 0o644)
      result = open(path)
    case "link-to-zero":
      symlink("/dev/zero", path)
      result = open(path)
    case "socket":
      let socket = try #require(UnixSocket(path))
      result = open(path)
      withExtendedLifetime(socket) {}
    case "link-loop":
      symlink(path, path)
      result = open(path)
    case "mode-000":
      try directory.write("f.safetensors", InputFileTests.valid)
      chmod(path, 0)
      result = open(path)
    case "empty":
      try directory.write("f.safetensors", [])
      result = open(path)
    case "odd-name": result = open(try directory.write("a\nb\u{1B}é.safetensors", InputFileTests.valid))
    case "grows":
      result = changed(try directory.write("f.safetensors", InputFileTests.valid), to: InputFileTests.valid.count + 1)
    case "shrinks": result = changed(try directory.write("f.safetensors", InputFileTests.valid), to: 8)
    case "sparse-3-TiB":
      let header = #"{"t":{"dtype":"U8","shape":[3298534883328],"data_offsets":[0,3298534883328]}}"#
      try directory.write(
        "f.safetensors", try Case.bytes(try JSON.parse(Array("[{\"header\":\(JSONText.string(header).text())}]".utf8))))
      #expect(truncate(path, 3_298_534_883_328 + 8 + header.utf8.count) == 0)
      result = open(path)
    case "safetensors-named-gguf": result = open(try directory.write("f.gguf", InputFileTests.valid))
    case "gguf-named-safetensors": result = open(try directory.write("f.safetensors", "GGUF\u{3}\0\0\0"))
    case let other:
      Issue.record("unknown set-up \(other)")
      return
    }
    #expect(row.complaint(result) == nil)
  }

  private func open(_ path: String) -> Result<[String], Failure> {
    outcome { () throws(Failure) in try Checkpoint.open(path).notes }
  }

  /// Opens, changes the file's length, reads.
  private func changed(_ path: String, to count: Int) -> Result<[String], Failure> {
    outcome { () throws(Failure) in
      let file = try InputFile(path)
      truncate(path, count)
      _ = try file.all(limit: 1 << 20, what: "file")
      return []
    }
  }

  private final class UnixSocket {
    let descriptor: Int32

    init?(_ path: String) {
      descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
      var address = sockaddr_un()
      address.sun_family = sa_family_t(AF_UNIX)
      let bytes = Array(path.utf8)
      guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { return nil }
      withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
      let size = socklen_t(MemoryLayout<sockaddr_un>.size)
      let bound = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, size) }
      }
      guard bound == 0 else { return nil }
    }

    deinit { close(descriptor) }
  }
}

struct CheckedTests {
  @Test("products do not depend on the order of zeros")
  func productsDoNotDependOnTheOrderOfZeros() {
    #expect(Checked.product([0, 1 << 62, 4]) == nil)
    #expect(Checked.product([1 << 62, 4, 0]) == nil)
    #expect(Checked.product([3, 0, 5]) == 0)
    #expect(Checked.product([]) == 1)
    #expect(Checked.roundUp(.max, to: 64) == nil)
    #expect(Checked.roundUp(65, to: 64) == 128)
    #expect(Checked.ceilDivide(.max, 2) == .max / 2 + 1)
  }
}

struct ParallelTests {
  @Test("every task runs once, and the first failure by number is thrown", arguments: [1, 2, 7])
  func everyTaskRunsOnceAndTheFirstFailureByNumberIsThrown(_ threads: Int) throws {
    let counts = Buffer.zeros(1_000)
    try parallel(1_000, threads: threads) { task in counts.withMutableBytes { $0[task] += 1 } }
    #expect(counts.array(of: UInt8.self).allSatisfy { $0 == 1 })
    let result = outcome { () throws(Failure) in
      try parallel(500, threads: threads) { (task) throws(Failure) in
        if task >= 100 { throw Failure(.io, "task \(task)") }
      }
    }
    guard case .failure(let failure) = result else {
      Issue.record("nothing was thrown")
      return
    }
    #expect(failure.problem == "task 100")
  }

  @Test("many callers at once, whose tasks call again, each get all of their own tasks done")
  func manyCallersAtOnceEachGetTheirOwnTasksDone() async throws {
    let sums = await withTaskGroup(of: Int.self) { group in
      for caller in 0..<8 {
        group.addTask {
          let sum = Lock(0)
          for round in 0..<50 {
            _ = outcome { () throws(Failure) in
              try parallel(1 + (caller + round) % 9, threads: 3) { (task) throws(Failure) in
                try parallel(4, threads: 2) { inner in sum.withLock { $0 += 10 * task + inner } }
              }
            }
          }
          return sum.withLock { $0 }
        }
      }
      return await group.reduce(into: []) { $0.append($1) }.sorted()
    }
    let expected = (0..<8).map { caller in
      (0..<50).reduce(0) { sum, round in
        let tasks = 1 + (caller + round) % 9
        return sum + (0..<tasks).reduce(0) { $0 + 40 * $1 + 6 }
      }
    }
    #expect(sums == expected.sorted())
  }
}

extension Buffer {
  static func zeros(_ count: Int) -> Buffer {
    guard let buffer = try? Buffer(count: count) else { preconditionFailure("no memory for a test") }
    buffer.clear()
    return buffer
  }
}
