import Bytes
import CLLVConv
import Inputs
import LLVConv

// The functions of llvconv.h; what each does is said there.

/// A model that another language holds.
private final class ModelBox {
  let model: EmbeddingModel
  init(_ model: EmbeddingModel) { self.model = model }

  static func from(_ pointer: OpaquePointer) -> EmbeddingModel {
    Unmanaged<ModelBox>.fromOpaque(UnsafeRawPointer(pointer)).takeUnretainedValue().model
  }
}

@_cdecl("llvconv_abi")
public func abi() -> Int32 { LLVCONV_ABI }

@_cdecl("llvconv_version")
public func version() -> UnsafeMutablePointer<CChar> { copy(Release.version) }

@_cdecl("llvconv_open")
public func open(
  _ path: UnsafePointer<CChar>, _ options: UnsafePointer<CChar>?, _ listener: llvconv_listener?,
  _ context: UnsafeMutableRawPointer?, _ model: UnsafeMutablePointer<OpaquePointer?>,
  _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  model.pointee = nil
  return answer(error) { () throws(Failure) in
    let opened = try EmbeddingModel(
      String(cString: path), options: try read(options), listener: Listener(listener, context))
    model.pointee = OpaquePointer(Unmanaged.passRetained(ModelBox(opened)).toOpaque())
  }
}

@_cdecl("llvconv_close")
public func close(_ model: OpaquePointer?) {
  if let model { Unmanaged<ModelBox>.fromOpaque(UnsafeRawPointer(model)).release() }
}

@_cdecl("llvconv_dimensions")
public func dimensions(_ model: OpaquePointer) -> Int64 { Int64(ModelBox.from(model).dimensions) }

@_cdecl("llvconv_describe")
public func describe(_ model: OpaquePointer) -> UnsafeMutablePointer<CChar> {
  let model = ModelBox.from(model)
  let prompts = model.prompts.sorted { $0.key < $1.key }
  let facts: JSONText = [
    "path": .string(model.path), "dimensions": .int(model.dimensions), "architecture": .string(model.architecture),
    "max_tokens": .int(model.maximumTokens), "checksum": .string(model.checksum), "text": .bool(model.takesText),
    "pictures": .bool(model.takesPictures), "prompts": .object(prompts.map { ($0.key, .string($0.value)) }),
    "default_prompt": model.defaultPrompt.map(JSONText.string) ?? .null,
  ]
  return copy(facts.text())
}

@_cdecl("llvconv_embed")
public func embed(
  _ model: OpaquePointer, _ items: UnsafePointer<llvconv_items>, _ vectors: UnsafeMutablePointer<Float>,
  _ tokens: UnsafeMutablePointer<Int64>?, _ cut: UnsafeMutablePointer<Int64>?, _ listener: llvconv_listener?,
  _ context: UnsafeMutableRawPointer?, _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  answer(error) { () throws(Failure) in
    let model = ModelBox.from(model)
    let (good, bad) = try read(items.pointee)
    let width = model.dimensions
    var failures = bad
    let prompt = items.pointee.prompt.map { String(cString: $0) }
    let folder = items.pointee.folder.map { String(cString: $0) } ?? ""
    for (row, _) in bad {
      (vectors + row * width).update(repeating: .nan, count: width)
      tokens?[row] = 0
      cut?[row] = 0
    }
    try model.embed(
      good.map(\.item), prompt: prompt, folder: folder, listener: Listener(listener, context)
    ) { place, embedded in
      let row = good[place].row
      tokens?[row] = Int64(embedded.tokens)
      cut?[row] = Int64(embedded.cut)
      switch embedded.finite {
      case .success(let vector): (vectors + row * width).update(from: vector, count: width)
      case .failure(let failure):
        failures.append((row, failure))
        (vectors + row * width).update(repeating: .nan, count: width)
      }
    }
    ErrorBox.chain(failures.sorted { $0.row < $1.row })?.hand(to: error)
  }
}

/// Items as they are in the caller's memory; those that cannot be read apart.
private func read(
  _ items: llvconv_items
) throws(Failure) -> (good: [(row: Int, item: Item)], bad: [(row: Int, failure: Failure)]) {
  var good: [(row: Int, item: Item)] = []
  var bad: [(row: Int, failure: Failure)] = []
  guard items.count > 0 else { return ([], []) }
  guard let offsets = items.offsets else { throw Failure(.usage, "items without offsets") }
  good.reserveCapacity(Int(items.count))
  let all = UnsafeRawBufferPointer(start: items.bytes, count: Int(offsets[Int(items.count)]))
  for row in 0..<Int(items.count) {
    let (from, to) = (Int(offsets[row]), Int(offsets[row + 1]))
    guard from >= 0, from <= to, to <= all.count else {
      throw Failure(.usage, "offsets that go back", place: "item \(row)")
    }
    let bytes = UnsafeRawBufferPointer(rebasing: all[from..<to])
    do throws(Failure) {
      good.append((row, try read(bytes, isJSON: Int(items.kind) == LLVCONV_JSON, try pictures(of: row, in: items))))
    } catch { bad.append((row, error)) }
  }
  return (good, bad)
}

private func read(
  _ bytes: UnsafeRawBufferPointer, isJSON: Bool, _ pictures: [PictureSource]
) throws(Failure) -> Item {
  guard bytes.count <= Limits.itemLine else { throw Failure(.limit, "longer than \(Limits.itemLine) bytes") }
  guard !isJSON else {
    var keys = KeyRule(isStrict: true)
    return try Item(embedding: try JSON.parse(Array(bytes), what: "item"), &keys, pictures: pictures)
  }
  guard let text = String(validating: bytes, as: UTF8.self) else { throw Failure(.malformed, "the text is not UTF-8") }
  return Item(text: text, pictures: pictures)
}

private func pictures(of row: Int, in items: llvconv_items) throws(Failure) -> [PictureSource] {
  guard let places = items.picture_offsets else { return [] }
  guard places[row] >= 0, places[row] <= places[row + 1] else { throw Failure(.usage, "offsets that go back") }
  return try (places[row]..<places[row + 1]).map { (place) throws(Failure) in try read(items.pictures[Int(place)]) }
}

private func read(_ picture: llvconv_picture) throws(Failure) -> PictureSource {
  let bytes = [UInt8](UnsafeRawBufferPointer(start: picture.bytes, count: picture.count))
  guard picture.width > 0 || picture.height > 0 else { return .encoded(bytes) }
  return .decoded(try Picture(rgb: bytes, width: Int(picture.width), height: Int(picture.height)))
}

private func read(_ options: UnsafePointer<CChar>?) throws(Failure) -> Options {
  guard let options else { return [:] }
  return try Options(try JSON.parse(Array(String(cString: options).utf8), what: "options"))
}

// MARK: Making and checking models

@_cdecl("llvconv_import")
public func importModel(
  _ source: UnsafePointer<CChar>, _ output: UnsafePointer<CChar>, _ options: UnsafePointer<CChar>?,
  _ listener: llvconv_listener?, _ context: UnsafeMutableRawPointer?,
  _ result: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?, _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  answer(error) { () throws(Failure) in
    let written = try Conversion.importModel(
      String(cString: source), to: String(cString: output), options: try read(options),
      listener: Listener(listener, context))
    result?.pointee = copy(written.json.text())
  }
}

@_cdecl("llvconv_quantize")
public func quantize(
  _ model: UnsafePointer<CChar>, _ output: UnsafePointer<CChar>, _ options: UnsafePointer<CChar>?,
  _ listener: llvconv_listener?, _ context: UnsafeMutableRawPointer?,
  _ result: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?, _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  answer(error) { () throws(Failure) in
    let written = try Conversion.quantize(
      String(cString: model), to: String(cString: output), options: try read(options),
      listener: Listener(listener, context))
    result?.pointee = copy(written.json.text())
  }
}

@_cdecl("llvconv_verify")
public func verify(
  _ candidates: UnsafePointer<UnsafePointer<CChar>?>?, _ count: Int64, _ reference: UnsafePointer<CChar>,
  _ data: UnsafePointer<CChar>, _ options: UnsafePointer<CChar>?, _ listener: llvconv_listener?,
  _ context: UnsafeMutableRawPointer?, _ result: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?,
  _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  answer(error) { () throws(Failure) in
    let found = try Conversion.verify(
      texts(candidates, count), reference: String(cString: reference), data: String(cString: data),
      options: try read(options), listener: Listener(listener, context))
    result?.pointee = try copy(found)
  }
}

// MARK: Anchors

@_cdecl("llvconv_anchors")
public func anchors(
  _ model: UnsafePointer<CChar>?, _ data: UnsafePointer<CChar>, _ output: UnsafePointer<CChar>,
  _ options: UnsafePointer<CChar>?, _ listener: llvconv_listener?, _ context: UnsafeMutableRawPointer?,
  _ result: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?, _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  answer(error) { () throws(Failure) in
    let written = try Conversion.anchors(
      model.map { String(cString: $0) }, data: String(cString: data), to: String(cString: output),
      options: try read(options), listener: Listener(listener, context))
    result?.pointee = copy(written.json.text())
  }
}

@_cdecl("llvconv_anchor_items")
public func anchorItems(
  _ anchors: UnsafePointer<CChar>, _ output: UnsafePointer<CChar>, _ options: UnsafePointer<CChar>?,
  _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  answer(error) { () throws(Failure) in
    try Conversion.anchorItems(String(cString: anchors), to: String(cString: output), options: try read(options))
  }
}

@_cdecl("llvconv_verify_anchors")
public func verifyAnchors(
  _ candidates: UnsafePointer<UnsafePointer<CChar>?>?, _ count: Int64, _ anchors: UnsafePointer<CChar>,
  _ options: UnsafePointer<CChar>?, _ listener: llvconv_listener?, _ context: UnsafeMutableRawPointer?,
  _ result: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?, _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  answer(error) { () throws(Failure) in
    let found = try Conversion.verify(
      texts(candidates, count), anchors: String(cString: anchors), options: try read(options),
      listener: Listener(listener, context))
    result?.pointee = try copy(found)
  }
}

private func texts(_ pointers: UnsafePointer<UnsafePointer<CChar>?>?, _ count: Int64) -> [String] {
  guard let pointers else { return [] }
  return (0..<Int(count)).compactMap { pointers[$0].map { String(cString: $0) } }
}

private func copy(_ found: Conversion.Verification) throws(Failure) -> UnsafeMutablePointer<CChar> {
  let report = try JSONText(try JSON.parse(Array(found.json.utf8), what: "report"))
  let text: JSONText = ["verdict": .string(found.verdict.rawValue), "report": report, "page": .string(found.page)]
  return copy(text.text())
}

extension Listener {
  /// Who listens in another language.
  fileprivate init(_ call: llvconv_listener?, _ context: UnsafeMutableRawPointer?) {
    guard let call else {
      self.init()
      return
    }
    let context = UInt(bitPattern: context)
    @Sendable func tell(_ what: Int32, _ text: String, _ share: Double = 0) {
      text.withCString { call(UnsafeMutableRawPointer(bitPattern: context), what, $0, share) }
    }
    self.init(
      note: { tell(0, $0) }, warning: { tell(1, $0) }, progress: { tell(2, $0, $1) }, finished: { tell(3, "") })
  }
}
