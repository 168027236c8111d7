import Bytes
import Fidelity
import Foundation
import TestSupport
import Testing

/// `adapt`, as a user runs it.
struct AdaptCommandTests {
  static func write(_ directory: TemporaryDirectory, _ name: String, _ rows: [[Float]]) throws -> String {
    let header = NumPyHeader.bytes("<f4", rows: rows.count, columns: rows[0].count)
    return try directory.write(name, header + rows.flatMap { $0 }.withUnsafeBytes { Array($0) })
  }

  static func rows(_ count: Int, _ width: Int, seed: UInt64) -> [[Float]] {
    var state = seed
    return (0..<count).map { _ in
      (0..<width).map { _ in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Float(state >> 40) / Float(1 << 23) - 1
      }
    }
  }

  @Test("a map is found and judged; one that does not suffice says so with exit code 1")
  func aMapIsFoundAndJudged() throws {
    let directory = try TemporaryDirectory()
    let old = AdaptCommandTests.rows(600, 12, seed: 5)
    let oldPath = try AdaptCommandTests.write(directory, "old.npy", old)
    // Columns in another order, one of them turned over: a rotation.
    let new = try AdaptCommandTests.write(
      directory, "new.npy", old.map { row in (0..<12).map { $0 == 3 ? -row[4] : row[($0 + 1) % 12] } })
    let (map, dense) = (directory.path + "/map.npy", directory.path + "/dense")
    let page = directory.path + "/r.html"
    let run = try ProgramRun([
      "adapt", new, "--to", oldPath, "-o", map, "--dense", dense, "--json", "--report", page, "--threads", "2",
    ])
    #expect(run.status == 0, "\(run.output)\(run.errors)")
    let json = try JSON.parse(Array(run.output.utf8)).required("map")
    #expect(
      try json.required("family").string() == "orthogonal" && json.required("fitted_rows").integer(in: 0...600) == 480)
    #expect(try json.required("regained").required("value").double() > 0.99)
    #expect(try json.required("recall_at_10_without").double() < 0.5)
    #expect(try Embeddings(numPy: map).count == 13 && Repository.read(page).count > 1_000)
    #expect(try JSON.parse(Repository.read(dense + "/config.json")).required("in_features").integer(in: 0...99) == 12)
    #expect(try Repository.read(dense + "/model.safetensors").count > 4 * 12 * 13)
    let again = try ProgramRun(["adapt", new, "--to", oldPath, "-o", map + "2", "--threads", "1"])
    #expect(
      try again.status == 0 && again.output.contains("The map suffices")
        && Repository.read(map) == Repository.read(map + "2"))
    #expect(again.output.split(separator: "\n").allSatisfy { $0.count <= 100 }, "\(again.output)")
    // Vectors of nothing in common.
    let other = try AdaptCommandTests.write(directory, "other.npy", AdaptCommandTests.rows(600, 20, seed: 6))
    let lost = try ProgramRun(["adapt", other, "--to", oldPath, "-o", map, "--force"])
    #expect(lost.status == 1 && lost.output.contains("The map does not suffice"), "\(lost.output)\(lost.errors)")
    // Judged by queries.
    let queries = ["--queries", new, "--reference-queries", oldPath, "--paired"]
    let paired = try ProgramRun(["adapt", new, "--to", oldPath, "-o", map, "--force"] + queries)
    #expect(
      paired.status == 0 && paired.output.contains("recall@10\n            1.0000 old"),
      "\(paired.output)\(paired.errors)")
    let index = try ProgramRun(
      ["adapt", new, "--to", oldPath, "-o", map, "--force", "--index", oldPath] + queries)
    #expect(index.output == paired.output, "\(index.errors)")
    let same = try ProgramRun(["adapt", oldPath, "--to", oldPath, "-o", map, "--force"])
    #expect(same.status == 0 && same.output.contains("nothing was lost"), "\(same.output)\(same.errors)")
    let few = try AdaptCommandTests.write(directory, "few.npy", AdaptCommandTests.rows(5, 12, seed: 6))
    for words in [
      [other, "--to", oldPath, "--queries", new], [few, "--to", oldPath], [few, "--to", few],
      [other, "--to", oldPath, "--queries", new, "--reference-queries", oldPath],
      [new, "--to", oldPath, "--paired"], [new, "--to", oldPath, "--index", oldPath],
      [new, "--to", oldPath, "--index", other] + queries,
      [new, "--to", oldPath, "--held-out", "2"], [new, "--to", page],
      [new, "--to", oldPath, "--held-out", "0.5"] + queries,
    ] {
      let run = try ProgramRun(["adapt"] + words + ["-o", map, "--force"])
      #expect([64, 65].contains(run.status) && run.errors.hasPrefix("llvconv: "), "\(words): \(run.errors)")
    }
  }
}
