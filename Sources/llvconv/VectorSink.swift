import Bytes

/// One row of the result.
struct EmbeddedRow {
  enum Result {
    case embedding(ArraySlice<Float>)
    case tokens([Int32])
    case failure(Failure)
  }

  var id: String?
  var result: Result
}

/// Where rows go: standard output or a file that appears when it is complete, as JSONL or NumPy's `.npy` version 1.
final class VectorSink {
  private let file: OutputFile?
  private let isNumPy: Bool
  private let width: Int
  private var rows = 0
  private var pending: [UInt8] = []
  private static let headerCount = 128

  init(_ path: String?, width: Int, isReplacing: Bool) throws(Failure) {
    self.width = width
    isNumPy = path?.hasSuffix(".npy") ?? false
    guard let path, path != "-" else {
      file = nil
      return
    }
    guard isNumPy || path.hasSuffix(".jsonl") || path.hasSuffix(".json") else {
      throw Failure(.usage, "the name of --output must end in .jsonl or .npy; found \(Failure.quoted(path))")
    }
    file = try OutputFile(path, isReplacing: isReplacing)
    if isNumPy { try file?.write([UInt8](repeating: 0, count: VectorSink.headerCount)) }
  }

  func write(_ row: EmbeddedRow) throws(Failure) {
    rows += 1
    if isNumPy {
      let values: [Float] =
        if case .embedding(let vector) = row.result { Array(vector) } else { [Float](repeating: .nan, count: width) }
      values.withUnsafeBytes { pending += $0 }
      return
    }
    var line = "{\"id\":\(row.id.map { JSONText.string($0).text() } ?? "null"),"
    switch row.result {
    case .tokens(let ids): line += "\"tokens\":[" + ids.map(String.init).joined(separator: ",") + "]}\n"
    case .embedding(let vector):
      line += "\"embedding\":[" + vector.map { $0.isFinite ? $0.description : "null" }.joined(separator: ",") + "]}\n"
    case .failure(let failure):
      let error: JSONText = ["code": .string(failure.kind.rawValue), "message": .string(failure.description)]
      line += "\"error\":\(error.text())}\n"
    }
    pending += line.utf8
  }

  func flush() throws(Failure) {
    if let file { try file.write(pending) } else { Output.write(pending, to: 1) }
    pending.removeAll(keepingCapacity: true)
  }

  func finish() throws(Failure) {
    if isNumPy, let file {
      let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (\(rows), \(width)), }"
      let room = VectorSink.headerCount - 10
      let header = [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(room & 255), UInt8(room >> 8)]
      try file.overwrite(header + Array((text.padded(room - 1) + "\n").utf8), at: 0)
    }
    try file?.commit()
  }
}
