import Bytes
import Tensors

/// Anchors: items with the vectors that a reference gives them, and the part of its index that lies around them. Who
/// has them can hold anything that makes vectors to the reference, without the reference.
///
/// A safetensors file; Formats/anchors/spec.md is the contract.
public struct AnchorFile: Sendable {
  public static let format = "llvconv anchors"
  public static let version = 1

  /// What an anchor is there for.
  public enum Role: String, Sendable, CaseIterable {
    /// A query drawn by lot: what is said of all queries is estimated from these alone.
    case sample
    /// A query that shows most: hardly decided, long, of a rare script or kind.
    case hard
    /// A document of the index.
    case document
  }

  public struct Item: Sendable, Equatable {
    public var id: String
    public var role: Role
    public var text: String?
    public var instruction: String?
    /// Places of its pictures among `pictures`.
    public var pictures: [Int]
    /// What a server that knows no prompts is sent: the text with the prompt before it.
    public var sent: String?
    /// Rows of the index: what the query should find, and what it should not.
    public var positive: Int?
    public var negatives: [Int]

    public init(
      id: String, role: Role, text: String?, instruction: String?, pictures: [Int], sent: String?, positive: Int?,
      negatives: [Int]
    ) {
      (self.id, self.role, self.text, self.instruction) = (id, role, text, instruction)
      (self.pictures, self.sent, self.positive, self.negatives) = (pictures, sent, positive, negatives)
    }
  }

  /// Vectors that the reference gives some anchors with one thing done wrong.
  public struct Fault: Sendable, Equatable {
    public var name, words: String
    /// `[faultRows, width]`.
    public var vectors: [Float]

    public init(name: String, words: String, vectors: [Float]) {
      (self.name, self.words, self.vectors) = (name, words, vectors)
    }
  }

  /// A document of the index.
  public struct Document: Sendable, Equatable {
    public var id, text: String

    public init(id: String, text: String) { (self.id, self.text) = (id, text) }
  }

  /// What made the vectors: name, checksum, settings, history. `.null` where only vectors were there.
  public var model: JSONText = .null
  public var madeBy = ""
  /// Name of the data, and how many queries and documents the reference's index has.
  public var data = ""
  public var queries = 0
  public var documents = 0
  /// `cosine` or `ip`.
  public var metric = "cosine"
  /// Whether somebody said what each query should find; otherwise it is what the reference finds first.
  public var isLabelled = true
  /// What a verdict asks for where nobody says otherwise, by the names of `verify`'s options.
  public var thresholds: [(name: String, value: Double)] = []
  public var width = 0
  public var items: [Item] = []
  /// `[items, width]`.
  public var vectors: [Float] = []
  /// `[index, width]`, rounded to Float16 in the file.
  public var index: [Float] = []
  public var indexNames: [Document] = []
  public var pictures: [ByteView] = []
  /// Anchors that the faults' vectors are of.
  public var faultRows: [Int] = []
  public var faults: [Fault] = []

  public init() {}
}

// MARK: Writing

extension AnchorFile {
  public func write(to output: OutputFile) throws(Failure) {
    var tensors = [
      try AnchorFile.tensor("items", lines(items.map(\.json))),
      try Tensor(TensorName("vectors"), floats: vectors, shape: [items.count, width]),
      try AnchorFile.half("index", index, width),
      try AnchorFile.tensor("index.names", lines(indexNames.map { ["id": .string($0.id), "text": .string($0.text)] })),
    ]
    for (place, picture) in pictures.enumerated() {
      tensors.append(
        Tensor(
          TensorName("picture.\(place)"), shape: [picture.count], encoding: .plain(.U8), content: .bytes(picture)))
    }
    for (place, fault) in faults.enumerated() {
      tensors.append(try AnchorFile.half("fault.\(place)", fault.vectors, width))
    }
    try SafetensorsWriter.write(
      tensors, output,
      metadata: [
        ("format", .string(AnchorFile.format)), ("version", .string(String(AnchorFile.version))),
        ("about", .string(about.text())),
      ], threads: 1)
  }

  private var about: JSONText {
    [
      "made_by": .string(madeBy), "model": model, "data": .string(data), "queries": .int(queries),
      "documents": .int(documents), "metric": .string(metric), "labelled": .bool(isLabelled),
      "thresholds": .object(thresholds.map { ($0.name, .number($0.value)) }),
      "fault_rows": .array(faultRows.map(JSONText.int)),
      "faults": .array(faults.map { ["name": .string($0.name), "text": .string($0.words)] }),
    ]
  }

  private func lines(_ values: [JSONText]) -> [UInt8] { values.flatMap { $0.bytes() + [UInt8(ascii: "\n")] } }

  private static func tensor(_ name: String, _ bytes: [UInt8]) throws(Failure) -> Tensor {
    Tensor(
      TensorName(name), shape: [bytes.count], encoding: .plain(.U8), content: .bytes(ByteView(try Buffer(bytes))))
  }

  private static func half(_ name: String, _ values: [Float], _ width: Int) throws(Failure) -> Tensor {
    let bytes = values.flatMap { value in withUnsafeBytes(of: Float16(value).bitPattern.littleEndian) { Array($0) } }
    return Tensor(
      TensorName(name), shape: [values.count / width, width], encoding: .plain(.F16),
      content: .bytes(ByteView(try Buffer(bytes))))
  }
}

extension AnchorFile.Item {
  fileprivate var json: JSONText {
    var members: [(String, JSONText)] = [("id", .string(id)), ("role", .string(role.rawValue))]
    if let text { members.append(("text", .string(text))) }
    if let instruction { members.append(("instruction", .string(instruction))) }
    if !pictures.isEmpty { members.append(("pictures", .array(pictures.map(JSONText.int)))) }
    if let sent, sent != text { members.append(("sent", .string(sent))) }
    if let positive { members.append(("positive", .int(positive))) }
    if !negatives.isEmpty { members.append(("negatives", .array(negatives.map(JSONText.int)))) }
    return .object(members)
  }
}

// MARK: Reading

extension AnchorFile {
  /// - Throws: `malformed` for what is no such file or does not fit together, `unsupported` for a later version,
  ///   `limit` for more anchors than are ever written.
  public init(_ path: String) throws(Failure) {
    let contents = try Safetensors.read(try InputFile(path))
    do throws(Failure) { try self.init(contents) } catch { throw error.inFile(path) }
  }

  private init(_ contents: Safetensors.Contents) throws(Failure) {
    let metadata = Dictionary(contents.metadata.map { ($0.key, $0.value) }) { first, _ in first }
    guard metadata["format"] == AnchorFile.format else {
      throw Failure(.malformed, "not an anchors file: its metadata do not say \"format\": \"\(AnchorFile.format)\"")
    }
    guard metadata["version"] == String(AnchorFile.version) else {
      throw Failure(
        .unsupported,
        "anchors of version \(Failure.quoted(metadata["version"] ?? "")); this program reads \(AnchorFile.version)")
    }
    let tensors = Dictionary(contents.tensors.map { ($0.name.text, $0) }) { first, _ in first }
    let about = try JSON.parse(Array((metadata["about"] ?? "").utf8), what: "about")
    let names = try read(about)
    width = try AnchorFile.matrix("vectors", tensors).columns
    items = try AnchorFile.lines("items", tensors).map { (json) throws(Failure) in try Item(json) }
    indexNames = try AnchorFile.lines("index.names", tensors).map { (json) throws(Failure) in
      Document(id: try json.required("id").string("id"), text: try json.required("text").string("text"))
    }
    vectors = try values("vectors", rows: items.count, tensors)
    index = try values("index", rows: indexNames.count, tensors)
    for (place, name) in names.enumerated() {
      let vectors = try values("fault.\(place)", rows: faultRows.count, tensors)
      faults.append(Fault(name: name.name, words: name.words, vectors: vectors))
    }
    while let picture = tensors["picture.\(pictures.count)"] {
      guard case .bytes(let view) = picture.content, picture.encoding == .plain(.U8), picture.shape.count == 1,
        view.count <= Limits.imageFile
      else {
        throw Failure(.malformed, "a picture must be bytes, at most \(Limits.imageFile)", thing: picture.name.quoted)
      }
      pictures.append(view)
    }
    try check()
  }

  private mutating func read(_ about: JSON) throws(Failure) -> [(name: String, words: String)] {
    madeBy = try about.required("made_by").string("made_by")
    model = try JSONText(try about.required("model"))
    data = try about.required("data").string("data")
    queries = try about.required("queries").integer("queries", in: 0...Int.max)
    documents = try about.required("documents").integer("documents", in: 0...Int.max)
    metric = try about.required("metric").string("metric")
    isLabelled = try about.required("labelled").bool("labelled")
    for (key, value) in try about.required("thresholds").members("thresholds") {
      thresholds.append((String(decoding: key, as: UTF8.self), try value.double("threshold")))
    }
    for row in try about.required("fault_rows").elements("fault_rows") {
      faultRows.append(try row.integer("fault row", in: 0...Limits.anchors))
    }
    return try about.required("faults").elements("faults").map { (fault) throws(Failure) in
      (try fault.required("name").string("name"), try fault.required("text").string("text"))
    }
  }

  private static func matrix(_ name: String, _ tensors: [String: Tensor]) throws(Failure) -> Tensor {
    guard let tensor = tensors[name] else { throw Failure(.malformed, "is missing", thing: "tensor \(name)") }
    guard tensor.shape.count == 2, tensor.encoding == .plain(.F32) || tensor.encoding == .plain(.F16) else {
      throw Failure(
        .malformed, "must be a matrix of F32 or F16; found \(tensor.encoding.text) \(tensor.shape)",
        thing: "tensor \(name)")
    }
    return tensor
  }

  private func values(_ name: String, rows: Int, _ tensors: [String: Tensor]) throws(Failure) -> [Float] {
    let tensor = try AnchorFile.matrix(name, tensors)
    guard tensor.shape == [rows, width] else {
      throw Failure(.malformed, "has shape \(tensor.shape), expected \([rows, width])", thing: "tensor \(name)")
    }
    let values = try tensor.floats(threads: 1).array(of: Float.self)
    guard values.allSatisfy(\.isFinite) else {
      throw Failure(.malformed, "holds numbers that are not finite", thing: "tensor \(name)")
    }
    return values
  }

  private static func lines(_ name: String, _ tensors: [String: Tensor]) throws(Failure) -> [JSON] {
    guard let tensor = tensors[name], tensor.encoding == .plain(.U8), tensor.shape.count == 1,
      case .bytes(let view) = tensor.content
    else { throw Failure(.malformed, "bytes of JSON lines are needed", thing: "tensor \(name)") }
    guard view.count <= Limits.manifest else { throw Failure(.limit, "\(view.count) bytes", thing: "tensor \(name)") }
    let lines = try view.bytes().split(separator: UInt8(ascii: "\n"))
    guard lines.count <= Limits.anchors else { throw Failure(.limit, "\(lines.count) lines", thing: "tensor \(name)") }
    var result: [JSON] = []
    for (number, line) in lines.enumerated() {
      result.append(try JSON.parse(Array(line), what: "\(name) line \(number + 1)"))
    }
    return result
  }

  /// Places that one part says of another.
  private func check() throws(Failure) {
    guard !items.isEmpty, width > 0 else { throw Failure(.malformed, "no anchors in the file") }
    guard ["cosine", "ip"].contains(metric) else {
      throw Failure(.malformed, "the metric \(Failure.quoted(metric)) is neither cosine nor ip")
    }
    guard faultRows.allSatisfy({ $0 < items.count }) else {
      throw Failure(.malformed, "fault_rows name anchors that are not there")
    }
    for (place, item) in items.enumerated() {
      let rows = (item.positive.map { [$0] } ?? []) + item.negatives
      guard rows.allSatisfy({ $0 < indexNames.count }), item.pictures.allSatisfy({ $0 < pictures.count }) else {
        throw Failure(
          .malformed, "names a row of the index or a picture that is not there", thing: "anchor \(place)")
      }
    }
  }
}

extension AnchorFile.Item {
  fileprivate init(_ json: JSON) throws(Failure) {
    id = try json.required("id").string("id")
    let word = try json.required("role").string("role")
    guard let role = AnchorFile.Role(rawValue: word) else { throw json.failure("unknown role \(Failure.quoted(word))") }
    self.role = role
    text = try json.optional("text")?.string("text")
    instruction = try json.optional("instruction")?.string("instruction")
    sent = try json.optional("sent")?.string("sent") ?? text
    func places(_ key: String) throws(Failure) -> [Int] {
      try json.optional(key)?.elements(key).map { (place) throws(Failure) in
        try place.integer(key, in: 0...Limits.anchors)
      } ?? []
    }
    pictures = try places("pictures")
    negatives = try places("negatives")
    positive = try json.optional("positive")?.integer("positive", in: 0...Limits.anchors)
    guard text != nil || !pictures.isEmpty else { throw json.failure("an anchor needs a text or a picture") }
  }
}
