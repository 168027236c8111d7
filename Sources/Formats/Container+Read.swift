import Bytes
import Tensors

extension Container {
  /// An opened container.
  public struct Contents: Sendable {
    public var model: Model
    public var file: InputFile
    /// XXH64 of the manifest, which holds a checksum of everything else: names the content.
    public var checksum: UInt64
    public var program: String

    public init(model: Model, file: InputFile, checksum: UInt64, program: String) {
      (self.model, self.file, self.checksum, self.program) = (model, file, checksum, program)
    }
  }

  /// Reads header and manifest; tensor data stays where it is until somebody asks for it.
  ///
  /// - Checks: header and manifest checksums; every byte of the file belongs to the header, one section, padding of
  ///   less than 64 bytes, or the manifest; sizes match shapes; the model's invariants.
  /// - Cost: linear in the manifest, whatever the size of the file.
  public static func open(_ path: String) throws(Failure) -> Contents {
    if let failure = FileKind.insteadOfContainer(path) { throw failure }
    let file = try InputFile(path)
    do throws(Failure) { return try read(file) } catch { throw error.inFile(path) }
  }

  private static func read(_ file: InputFile) throws(Failure) -> Contents {
    let header = try readHeader(file)
    let bytes = try ByteView(file, header.manifestAt, header.manifestCount).bytes()
    guard XXH64.hash(bytes) == header.manifestChecksum else {
      throw Failure(
        .malformed, "manifest checksum does not match: the file is damaged", place: "byte \(header.manifestAt)")
    }
    let json = try JSON.parse(bytes, what: "manifest")
    guard try json.required("format").bytes("format").elementsEqual("llv".utf8) else {
      throw json.failure("format must be \"llv\"")
    }
    var model = Model(configuration: try configuration(try json.required("configuration")))
    for entry in try json.required("graphs").elements("graphs") {
      let name = try entry.required("name").string("name")
      guard model.graph(name) == nil else { throw entry.failure("two graphs are called \(Failure.quoted(name))") }
      model.graphs.append((name, try graph(try entry.required("graph"))))
    }
    var sections = Sections(file: file, end: header.manifestAt)
    for entry in try json.required("files").elements("files") {
      let nameValue = try entry.required("name")
      let name = try nameValue.bytes("name")
      let stored = try sections.next(entry)
      let text = try RelativeName.checked(name)
      guard !model.files.contains(where: { $0.name == text }) else {
        throw nameValue.failure("two files have one name")
      }
      model.files.append((text, .stored(stored), stored.count))
    }
    for entry in try json.required("tensors").elements("tensors") {
      let tensor = try self.tensor(entry, &sections)
      guard model[tensor.name] == nil else {
        throw entry.failure("duplicate tensor name \(tensor.name.quoted)")
      }
      model.set(tensor)
    }
    try sections.finish()
    for event in try json.required("history").elements("history") { model.history.append(try JSONText(event)) }
    try model.checkInvariants()
    return Contents(
      model: model, file: file, checksum: header.manifestChecksum,
      program: try json.required("program").string("program"))
  }

  private static func readHeader(_ file: InputFile) throws(Failure) -> Header {
    func malformed(_ problem: String, _ at: Int) -> Failure { Failure(.malformed, problem, place: "byte \(at)") }
    guard file.count > 0 else { throw malformed("empty file", 0) }
    let bytes = try ByteView(file, 0, min(headerCount, file.count)).bytes()
    guard bytes.starts(with: magic) else {
      let mangled = bytes.starts(with: magic.prefix(4)) ? "; damaged, perhaps by a text-mode transfer" : ""
      throw malformed("not an .llv container\(mangled)", 0)
    }
    guard bytes.count == headerCount else {
      throw malformed("the file ends inside its \(headerCount)-byte header", bytes.count)
    }
    func field<T: FixedWidthInteger>(_ at: Int, _ type: T.Type) -> T {
      bytes.withUnsafeBytes { T(littleEndian: $0.loadUnaligned(fromByteOffset: at, as: T.self)) }
    }
    let found = field(8, UInt32.self)
    guard found > 0 else { throw malformed("version 0", 8) }
    guard found <= version else {
      throw Failure(
        .unsupported, "version \(found), written by a newer llvconv; this one reads up to \(version)", place: "byte 8")
    }
    guard field(56, UInt64.self) == XXH64.hash(Array(bytes[..<56])) else {
      throw malformed("header checksum does not match: the file is damaged", 56)
    }
    guard field(12, UInt32.self) == 0, field(48, UInt64.self) == 0 else {
      throw malformed("reserved bytes are not zero", 12)
    }
    let (at, count, total) = (field(16, UInt64.self), field(24, UInt64.self), field(40, UInt64.self))
    guard total == UInt64(file.count) else {
      throw malformed("the header says \(total) bytes, the file has \(file.count): unfinished or cut", 40)
    }
    guard at >= UInt64(headerCount), at <= total, count == total - at, at % UInt64(alignment) == 0 else {
      throw malformed("manifest of \(count) bytes at \(at) does not end the file", 16)
    }
    guard count <= UInt64(Limits.manifest) else {
      throw Failure(.limit, "manifest of \(count) bytes", place: "byte 24")
    }
    return Header(manifestAt: Int(at), manifestCount: Int(count), manifestChecksum: field(32, UInt64.self))
  }

  private static func tensor(_ entry: JSON, _ sections: inout Sections) throws(Failure) -> Tensor {
    let name = TensorName(try entry.required("name").bytes("name"))
    do throws(Failure) {
      if let problem = TensorName.problem(with: name.bytes) { throw problem }
      var shape: [Int] = []
      for dimension in try entry.required("shape").elements("shape") {
        shape.append(try dimension.integer("dimension", in: 0...Int.max))
      }
      let encoding = try encoding(try entry.required("encoding"))
      let stored = try sections.next(entry)
      guard var bytes = encoding.byteCount(shape) else {
        throw entry.failure("shape \(shape) does not fit encoding \(encoding.text)")
      }
      let order = entry["order"]
      if let order {
        guard try order.string("order") == "panels", let panels = PanelOrder(encoding, shape) else {
          throw order.failure("order must be \"panels\", of a matrix", .unsupported)
        }
        bytes = panels.byteCount
      }
      guard bytes == stored.count else {
        throw entry.failure("holds \(stored.count) bytes, but \(encoding.text) \(shape) needs \(bytes)")
      }
      if case .lz4Planes(let width) = stored.codec, stored.count % width != 0 {
        throw entry.failure("\(stored.count) bytes are no whole elements of \(width)")
      }
      return Tensor(name, shape: shape, encoding: encoding, content: order == nil ? .stored(stored) : .panels(stored))
    } catch { throw error.about("tensor \(name.quoted)") }
  }

  /// Hands out the data sections in order and holds them to each other: each starts where the one before ends, rounded
  /// up.
  private struct Sections {
    let file: InputFile
    /// Where the manifest starts.
    let end: Int
    var at = Container.headerCount

    mutating func next(_ entry: JSON) throws(Failure) -> StoredBytes {
      let start = try entry.required("at").integer("at", in: 0...Int.max)
      let stored = try entry.required("stored").integer("stored", in: 0...Int.max)
      let count = try entry.required("count").integer("count", in: 0...Int.max)
      let codecValue = try entry.required("codec")
      let checksumValue = try entry.required("checksum")
      let codecName = try codecValue.string("codec")
      guard let codec = Codec(text: codecName) else {
        throw codecValue.failure("unknown codec \(Failure.quoted(codecName))", .unsupported)
      }
      let digits = try checksumValue.string("checksum")
      guard digits.utf8.count == 16, let checksum = UInt64(digits, radix: 16), XXH64.text(checksum) == digits else {
        throw checksumValue.failure("checksum must be 16 hexadecimal digits")
      }
      guard let expected = Checked.roundUp(at, to: Container.alignment), start == expected else {
        throw entry.failure("section at \(start), but the one before ends at \(at): hole, overlap or wrong alignment")
      }
      guard stored <= end - start else {
        throw entry.failure("section of \(stored) bytes at \(start) leaves the data part")
      }
      guard codec == .raw ? stored == count : stored < count && count / Limits.lz4Expansion <= stored else {
        throw entry.failure("\(stored) stored bytes cannot stand for \(count) with codec \(codec.text)")
      }
      at = start + stored
      return StoredBytes(stored: ByteView(file, start, stored), codec: codec, count: count, checksum: checksum)
    }

    func finish() throws(Failure) {
      guard Checked.roundUp(at, to: Container.alignment) == end else {
        throw Failure(.malformed, "\(end - at) bytes between the last section and the manifest", place: "byte \(at)")
      }
    }
  }
}
