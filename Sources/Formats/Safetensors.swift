import Bytes
import Tensors

/// The safetensors format: an 8-byte length, a JSON header of that length, tensor data without holes.
/// Formats/safetensors/spec.md is the contract.
public enum Safetensors {
  /// What a file holds. Tensors are in the order of their data.
  public struct Contents: Sendable {
    public var tensors: [Tensor] = []
    public var metadata: [(key: String, value: String)] = []
    /// Things that are allowed and worth telling a person.
    public var notes: [String] = []
  }

  /// Reads and judges the header; no tensor byte is touched.
  ///
  /// - Order of checks: length present, under the limit, inside the file; UTF-8; JSON; entries; offsets without holes
  ///   or overlaps up to the end of the file. Nothing is allocated from a number before it was compared with the file.
  /// - Throws: `malformed`, `limit` or `unsupported`; with several bad entries, all of them.
  /// - Cost: linear in the header, plus a sort of the tensors by offset.
  public static func read(_ file: InputFile) throws(Failure) -> Contents {
    do throws(Failure) { return try readHeader(file) } catch { throw error.inFile(file.path) }
  }

  private static func readHeader(_ file: InputFile) throws(Failure) -> Contents {
    let head = try ByteView(file, 0, min(file.count, 64)).bytes()
    if head.isEmpty { throw Failure(.malformed, "empty file: no 8-byte length") }
    guard head.count >= 8 else {
      if let problem = foreign(head) { throw problem }
      throw Failure(.malformed, "the file ends inside its 8-byte length", place: "byte 0")
    }
    let declared = head.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    // Any first bytes can be a length; only those that cannot are asked what else they might be.
    let isPossible = declared <= UInt64(Limits.safetensorsHeader) && declared <= UInt64(file.count - 8)
    if !isPossible, let problem = foreign(head) { throw problem }
    guard declared > 0 else { throw Failure(.malformed, "header is empty", place: "byte 0") }
    guard declared <= UInt64(Limits.safetensorsHeader) else {
      let swapped = declared.byteSwapped
      let hint = swapped > 0 && swapped <= UInt64(max(0, file.count - 8)) ? "; big-endian length?" : ""
      throw Failure(
        .malformed, "header length \(declared) is over the limit \(Limits.safetensorsHeader)\(hint)", place: "byte 0")
    }
    let length = Int(declared)
    guard length <= file.count - 8 else {
      throw Failure(
        .malformed, "header of \(length) bytes declared, \(file.count - 8) left in the file", place: "byte 0")
    }
    let header = try ByteView(file, 8, length).bytes()
    let json = try JSON.parse(header, what: "header", topKey: "tensor name")
    guard json.kind == .object else { throw json.failure("header must be an object") }
    return try entries(json, file, dataStart: 8 + length)
  }

  /// Files that are often mistaken for this format.
  private static func foreign(_ head: [UInt8]) -> Failure? {
    func starts(_ text: String) -> Bool { head.starts(with: text.utf8) }
    let problem: String
    if head.count > 1, head[0] == 0x80, (2...5).contains(head[1]) {
      problem = "Python pickle; refused on principle, because it can run code"
    } else if starts("PK\u{3}\u{4}") {
      problem = "zip archive (PyTorch?), not safetensors"
    } else if starts("version https://git-lfs") {
      problem = "git-lfs pointer, not the weights; run `git lfs pull`"
    } else if starts("<!DOCTYPE") || starts("<!doctype") || starts("<html") {
      problem = "web page, not the weights"
    } else if starts("{\"") {
      problem = "JSON without the 8-byte length in front"
    } else {
      return nil
    }
    return Failure(.malformed, problem, place: "byte 0")
  }

  // MARK: Entries

  private struct Entry {
    var name: TensorName
    var type: DType
    var shape: [Int]
    var start, end: Int
  }

  private static let mostFaults = 50

  private static func entries(_ json: JSON, _ file: InputFile, dataStart: Int) throws(Failure) -> Contents {
    var contents = Contents()
    var entries: [Entry] = []
    var failures: [Failure] = []
    let dataCount = file.count - dataStart
    guard json.count <= Limits.tensors else { throw json.failure("more than \(Limits.tensors) tensors", .limit) }
    try json.forEachMember("header") { (key, value) throws(Failure) in
      let name = try key.bytes()
      if name.elementsEqual("__metadata__".utf8) {
        for (key, value) in try value.members("__metadata__") {
          let text = try value.string("__metadata__ value of \(Failure.quoted(key))")
          contents.metadata.append((String(decoding: key, as: UTF8.self), text))
        }
        return
      }
      if let problem = TensorName.problem(with: name) {
        var problem = problem
        problem.place = key.place
        return failures.append(problem)
      }
      do throws(Failure) {
        let entry = try self.entry(TensorName(name), value, &contents.notes)
        entries.append(entry)
      } catch {
        guard failures.count < mostFaults else { throw error }
        failures.append(error.about("tensor \(Failure.quoted(name))"))
      }
    }
    if failures.isEmpty { failures = try gaps(&entries, dataCount, dataStart) }
    if let failure = Failure.all(failures) { throw failure }
    contents.tensors.reserveCapacity(entries.count)
    for entry in entries {
      let view = ByteView(file, dataStart + entry.start, entry.end - entry.start)
      contents.tensors.append(
        Tensor(entry.name, shape: entry.shape, encoding: .plain(entry.type), content: .bytes(view)))
    }
    return contents
  }

  private static func entry(_ name: TensorName, _ json: JSON, _ notes: inout [String]) throws(Failure) -> Entry {
    guard json.kind == .object else { throw json.failure("the entry must be an object") }
    let typeValue = try json.required("dtype")
    let typeName = try typeValue.string("dtype")
    guard let type = DType(rawValue: typeName) else {
      throw typeValue.failure("unknown dtype \(Failure.quoted(typeName))")
    }
    let shapeValue = try json.required("shape")
    let dimensions = try shapeValue.elements("shape")
    guard dimensions.count <= Limits.rank else {
      throw shapeValue.failure("rank \(dimensions.count), at most \(Limits.rank)", .unsupported)
    }
    var shape: [Int] = []
    for dimension in dimensions {
      let value = try dimension.unsigned("dimension")
      guard value <= UInt64(Int.max) else { throw dimension.failure("dimension \(value): too many elements") }
      shape.append(Int(value))
    }
    guard let elements = Checked.product(shape) else { throw shapeValue.failure("shape \(shape): too many elements") }
    guard let bits = Checked.multiply(elements, type.bits) else {
      throw shapeValue.failure("shape \(shape): too many elements for \(type.rawValue), the bytes overflow")
    }
    guard bits % 8 == 0 else {
      throw shapeValue.failure("\(type.rawValue) \(shape) is \(bits) bits, which are not whole bytes")
    }
    let offsetsValue = try json.required("data_offsets")
    guard offsetsValue.kind == .array, case let offsets = try offsetsValue.elements(), offsets.count == 2 else {
      throw offsetsValue.failure("data_offsets must be two integers")
    }
    let (start, end) = (try offsets[0].unsigned("data_offsets"), try offsets[1].unsigned("data_offsets"))
    guard end >= start else { throw offsetsValue.failure("data_offsets [\(start), \(end)] end before start") }
    guard end - start == UInt64(bits / 8), end <= UInt64(Int.max) else {
      throw offsetsValue.failure(
        "data_offsets [\(start), \(end)] hold \(end - start) bytes, but \(type.rawValue) \(shape) needs \(bits / 8)")
    }
    let extra = try json.members().map(\.key).filter { key in
      !["dtype", "shape", "data_offsets"].contains { key.elementsEqual($0.utf8) }
    }
    for key in extra {
      notes.append("tensor \(name.quoted): extra key \(Failure.quoted(key)) in the header is ignored")
    }
    return Entry(name: name, type: type, shape: shape, start: Int(start), end: Int(end))
  }

  /// Sorts the entries by place and returns what is wrong with how they lie: every byte belongs to exactly one tensor.
  private static func gaps(_ entries: inout [Entry], _ dataCount: Int, _ dataStart: Int) throws(Failure) -> [Failure] {
    // Empty tensors share their offset with the next; names break ties, so that the order of the header does not
    // matter.
    entries.sort {
      ($0.start, $0.end) == ($1.start, $1.end) ? $0.name < $1.name : ($0.start, $0.end) < ($1.start, $1.end)
    }
    var failures: [Failure] = []
    var end = 0
    var before: TensorName?
    for entry in entries where failures.count < mostFaults {
      if entry.start > end {
        failures.append(
          Failure(
            .malformed, "hole of \(entry.start - end) bytes at \(end)", thing: "tensor \(entry.name.quoted)",
            place: "byte \(dataStart + end)"))
      } else if entry.start < end, let before {
        failures.append(
          Failure(
            .malformed, "\(before.quoted) and \(entry.name.quoted) overlap", place: "byte \(dataStart + entry.start)"))
      }
      if entry.end > end { before = entry.name }
      end = max(end, entry.end)
    }
    if failures.isEmpty, end > dataCount {
      failures.append(
        Failure(
          .malformed, "\(end - dataCount) bytes missing at the end of the file",
          thing: before.map { "tensor \($0.quoted)" },
          place: "byte \(dataStart + dataCount)"))
    }
    if failures.isEmpty, end < dataCount {
      failures.append(
        Failure(.malformed, "\(dataCount - end) bytes after the last tensor", place: "byte \(dataStart + end)"))
    }
    return failures
  }
}
