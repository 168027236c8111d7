import Bytes
import Fidelity
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

/// Where rows go: standard output or a file that appears when it is complete, as JSONL or NumPy's `.npy` version 1, in
/// the form that an index keeps. Beside an array stands `OUTPUT.ids`, a line for each of its rows; a bad item has no
/// row. Beside 8-bit codes with ranges of their own these are `OUTPUT.ranges.npy`.
final class VectorSink {
  private let file: OutputFile?
  /// Of an array alone.
  private let ids: OutputFile?
  private let ranges: OutputFile?
  private let width: Int
  private let form: VectorForm
  /// nil where ranges are those of all rows, which are held until then.
  private var coding: VectorCoding?
  private var held: [Float] = []
  private var rows = 0
  private var pending: [UInt8] = []
  private var pendingIds: [UInt8] = []
  var isNumPy: Bool { ids != nil }

  /// - Parameter ranges: of 8-bit codes; nil for those of all rows.
  init(
    _ path: String?, width: Int, form: VectorForm, ranges given: ColumnRanges?, isReplacing: Bool
  ) throws(Failure) {
    (self.width, self.form) = (width, form)
    let isNumPy = path.map { $0 != "-" && $0.hasSuffix(".npy") } ?? false
    let makesRanges = form.precision == .int8 && given == nil
    guard !makesRanges || isNumPy else {
      throw Failure(.usage, "int8 needs --ranges, or --output in .npy: ranges are known when all vectors are")
    }
    try form.check(columns: width)
    coding = makesRanges ? nil : try VectorCoding(form, columns: width, ranges: given)
    guard let path, path != "-" else {
      (file, ids, ranges) = (nil, nil, nil)
      return
    }
    guard isNumPy || path.hasSuffix(".jsonl") || path.hasSuffix(".json") else {
      throw Failure(.usage, "the name of --output must end in .jsonl or .npy; found \(Failure.quoted(path))")
    }
    let file = try OutputFile(path, isReplacing: isReplacing)
    ids = isNumPy ? try OutputFile(path + ".ids", isReplacing: isReplacing) : nil
    ranges = makesRanges ? try OutputFile(path + ".ranges.npy", isReplacing: isReplacing) : nil
    if isNumPy { try file.write([UInt8](repeating: 0, count: NumPyHeader.count)) }
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
      if let coding { pending += coding.bytes(Array(vector)) } else { held += vector }
      pendingIds += (row.id ?? "line \(row.line)").utf8 + [UInt8(ascii: "\n")]
      return
    }
    var line = "{\"id\":\(row.id.map { JSONText.string($0).text() } ?? "null"),"
    switch row.result {
    case .tokens(let ids): line += "\"tokens\":[" + ids.map(String.init).joined(separator: ",") + "]}\n"
    case .embedding(let vector):
      line += "\"embedding\":[" + numbers(Array(vector)).joined(separator: ",") + "]}\n"
    case .failure(let failure):
      let error: JSONText = ["code": .string(failure.kind.rawValue), "message": .string(failure.description)]
      line += "\"error\":\(error.text())}\n"
    }
    pending += line.utf8
  }

  /// An embedding in its form: codes as whole numbers, bits as bytes.
  private func numbers(_ vector: [Float]) -> [String] {
    guard let coding else { return [] }
    return switch form.precision {
    case .float32, .float16: coding.coded(vector).map(\.description)
    case .int8: coding.bytes(vector).map { String(Int8(bitPattern: $0)) }
    case .binary, .ternary: coding.bytes(vector).map { String($0) }
    }
  }

  func flush() throws(Failure) {
    if let file { try file.write(pending) } else if !DryRun.isOn { Output.write(pending, to: 1) }
    try ids?.write(pendingIds)
    pending.removeAll(keepingCapacity: true)
    pendingIds.removeAll(keepingCapacity: true)
  }

  func finish() throws(Failure) {
    if isNumPy, let file {
      let array = if let coding { coding.numPyArray } else { try codeHeld(into: file).numPyArray }
      try file.overwrite(NumPyHeader.bytes(array.type, rows: rows, columns: array.columns), at: 0)
    }
    // First what lies beside it, so that no array is ever without.
    try ranges?.commit()
    try ids?.commit()
    try file?.commit()
  }

  /// Rows that waited for their ranges.
  private func codeHeld(into file: OutputFile) throws(Failure) -> VectorCoding {
    guard !held.isEmpty else { throw Failure(.malformed, "no item has a vector: there are no ranges for int8") }
    let found = try ColumnRanges(of: Embeddings(width: width, values: held), width: form.width)
    let coding = try VectorCoding(form, columns: width, ranges: found)
    let step = 4_096 * width
    for first in stride(from: 0, to: held.count, by: step) {
      try file.write(coding.bytes(Array(held[first..<min(held.count, first + step)])))
    }
    try ranges?.write(found.numPyFile)
    return coding
  }
}
