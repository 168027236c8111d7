import Bytes
import LLVConv

/// One row of the result.
struct EmbeddedRow {
  enum Result {
    case embedding(ArraySlice<Float>)
    case tokens([Int32])
    case failure(Failure)
  }

  var id: String?
  /// The line of the input.
  var line: Int
  var result: Result
}

/// Where rows go: standard output or a file that appears when it is complete, as JSONL or NumPy's `.npy` version 1.
/// Beside an array stands `OUTPUT.ids`, a line for each of its rows; a bad item has no row.
final class VectorSink {
  private let file: OutputFile?
  /// Of an array alone.
  private let ids: OutputFile?
  private let width: Int
  private var rows = 0
  private var pending: [UInt8] = []
  private var pendingIds: [UInt8] = []
  private static let headerCount = 128
  var isNumPy: Bool { ids != nil }

  init(_ path: String?, width: Int, isReplacing: Bool) throws(Failure) {
    self.width = width
    guard let path, path != "-" else {
      (file, ids) = (nil, nil)
      return
    }
    let isNumPy = path.hasSuffix(".npy")
    guard isNumPy || path.hasSuffix(".jsonl") || path.hasSuffix(".json") else {
      throw Failure(.usage, "the name of --output must end in .jsonl or .npy; found \(Failure.quoted(path))")
    }
    let file = try OutputFile(path, isReplacing: isReplacing)
    ids = isNumPy ? try OutputFile(path + ".ids", isReplacing: isReplacing) : nil
    if isNumPy { try file.write([UInt8](repeating: 0, count: VectorSink.headerCount)) }
    self.file = file
  }

  /// What keeps an item with this id out of the output; nil for nothing.
  func refusal(of id: String?) -> Failure? {
    guard isNumPy, let id, id.utf8.contains(where: { $0 < 0x20 }) else { return nil }
    return Failure(.malformed, "the id \(Failure.quoted(id)) has a control character; it is to be a line of OUTPUT.ids")
  }

  func write(_ row: EmbeddedRow) throws(Failure) {
    if isNumPy {
      guard case .embedding(let vector) = row.result else { return }
      rows += 1
      vector.withUnsafeBytes { pending += $0 }
      pendingIds += (row.id ?? "line \(row.line)").utf8 + [UInt8(ascii: "\n")]
      return
    }
    var line = "{\"id\":\(row.id.map { JSONText.string($0).text() } ?? "null"),"
    switch row.result {
    case .tokens(let ids): line += "\"tokens\":[" + ids.map(String.init).joined(separator: ",") + "]}\n"
    case .embedding(let vector):
      line += "\"embedding\":[" + vector.map(\.description).joined(separator: ",") + "]}\n"
    case .failure(let failure):
      let error: JSONText = ["code": .string(failure.kind.rawValue), "message": .string(failure.description)]
      line += "\"error\":\(error.text())}\n"
    }
    pending += line.utf8
  }

  func flush() throws(Failure) {
    if let file { try file.write(pending) } else { Output.write(pending, to: 1) }
    try ids?.write(pendingIds)
    pending.removeAll(keepingCapacity: true)
    pendingIds.removeAll(keepingCapacity: true)
  }

  func finish() throws(Failure) {
    if isNumPy, let file {
      let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (\(rows), \(width)), }"
      let room = VectorSink.headerCount - 10
      let header = [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(room & 255), UInt8(room >> 8)]
      try file.overwrite(header + Array((text.padded(room - 1) + "\n").utf8), at: 0)
    }
    // First the ids, so that no array is ever without them.
    try ids?.commit()
    try file?.commit()
  }
}
