import Bytes

/// How a server is asked for embeddings, and how it answers.
enum EndpointAPI: String, CaseIterable, Sendable {
  /// `POST /v1/embeddings`, as OpenAI has it and most servers copy it; items with pictures as vLLM takes them, as
  /// messages, one item a request.
  case openAI = "openai"
  /// Text Embeddings Inference, `POST /embed`.
  case tei
  /// `POST /api/embed`.
  case ollama
  /// llama.cpp's own `POST /embedding`.
  case llamaServer = "llama-server"

  /// By the path of a URL; nil where it says nothing.
  init?(path: Substring) {
    if path.hasSuffix("/api/embed") {
      self = .ollama
    } else if path.hasSuffix("/v1/embeddings") {
      self = .openAI
    } else if path.hasSuffix("/embed") {
      self = .tei
    } else if path.hasSuffix("/embedding") {
      self = .llamaServer
    } else {
      return nil
    }
  }

  var path: String {
    switch self {
    case .openAI: "/v1/embeddings"
    case .tei: "/embed"
    case .ollama: "/api/embed"
    case .llamaServer: "/embedding"
    }
  }

  /// Whether a request has to name a model.
  var namesModel: Bool { self == .openAI || self == .ollama }

  // MARK: Requests

  /// - Parameter inputs: several texts, or one input with pictures.
  func request(_ inputs: [Endpoint.Input], _ settings: Endpoint.Settings) throws(Failure) -> JSONText {
    let texts = JSONText.array(inputs.map { .string($0.text ?? "") })
    let hasPictures = inputs.contains { !$0.pictures.isEmpty }
    guard !hasPictures || self == .openAI else {
      throw Failure(.unsupported, "pictures are sent by the API openai alone, as vLLM takes them; not by \(rawValue)")
    }
    var members: [(String, JSONText)] = []
    if namesModel { members.append(("model", .string(settings.model ?? ""))) }
    switch self {
    case .openAI:
      members.append(hasPictures ? ("messages", try messages(inputs[0])) : ("input", texts))
      members.append(("encoding_format", .string(settings.isBase64 ? "base64" : "float")))
      if let dimensions = settings.dimensions { members.append(("dimensions", .int(dimensions))) }
    case .tei:
      members += [("inputs", texts), ("truncate", .bool(true))]
      if let dimensions = settings.dimensions { members.append(("dimensions", .int(dimensions))) }
    case .ollama:
      members.append(("input", texts))
      if let dimensions = settings.dimensions { members.append(("dimensions", .int(dimensions))) }
    case .llamaServer:
      guard settings.dimensions == nil else {
        throw Failure(.unsupported, "llama-server's /embedding has no dimensions; see --api openai")
      }
      members.append(("content", texts))
    }
    return .object(members)
  }

  private func messages(_ input: Endpoint.Input) throws(Failure) -> JSONText {
    var parts: [JSONText] = []
    for picture in input.pictures {
      guard let type = EndpointAPI.mediaType(picture) else {
        throw Failure(.unsupported, "a picture that is neither JPEG, PNG, WebP nor GIF")
      }
      let url = "data:\(type);base64,\(Base64.encoded(picture))"
      parts.append(["type": "image_url", "image_url": ["url": .string(url)]])
    }
    if let text = input.text { parts.append(["type": "text", "text": .string(text)]) }
    return [["role": "user", "content": .array(parts)]]
  }

  private static func mediaType(_ bytes: [UInt8]) -> String? {
    if bytes.starts(with: [0xFF, 0xD8]) { return "image/jpeg" }
    if bytes.starts(with: [0x89, 0x50, 0x4E, 0x47]) { return "image/png" }
    if bytes.starts(with: "GIF8".utf8) { return "image/gif" }
    return bytes.starts(with: "RIFF".utf8) && bytes.dropFirst(8).starts(with: "WEBP".utf8) ? "image/webp" : nil
  }

  // MARK: Answers

  /// The vectors of an answer, in the order of the inputs.
  func vectors(_ answer: JSON, count: Int) throws(Failure) -> [[Float]] {
    let rows: [(place: Int, vector: JSON)]
    switch self {
    case .openAI:
      rows = try answer.required("data").elements("data").enumerated().map { (place, row) throws(Failure) in
        (try row.optional("index")?.integer("index", in: 0...count - 1) ?? place, try row.required("embedding"))
      }
    case .tei: rows = try answer.elements("the answer").enumerated().map { ($0, $1) }
    case .ollama:
      rows = try answer.required("embeddings").elements("embeddings").enumerated().map { ($0, $1) }
    case .llamaServer:
      rows = try answer.elements("the answer").enumerated().map { (place, row) throws(Failure) in
        let nested = try row.required("embedding")
        // Pooled vectors come as a list of one.
        let parts = try nested.elements("embedding")
        let vector = parts.count == 1 && parts[0].kind == .array ? parts[0] : nested
        return (try row.optional("index")?.integer("index", in: 0...count - 1) ?? place, vector)
      }
    }
    guard rows.count == count, Set(rows.map(\.place)).count == count else {
      throw Failure(.malformed, "answered with \(rows.count) vectors to \(count) inputs")
    }
    return try rows.sorted { $0.place < $1.place }.map { (_, vector) throws(Failure) in
      try EndpointAPI.vector(vector)
    }
  }

  /// Numbers, or their bytes as base64. `null` stands for what is not finite: JSON has no other way to say it.
  private static func vector(_ json: JSON) throws(Failure) -> [Float] {
    if json.kind == .string {
      guard let bytes = Base64.decoded(try json.bytes("embedding")), bytes.count % 4 == 0, !bytes.isEmpty else {
        throw json.failure("the embedding is a string, but no base64 of Float32 numbers")
      }
      return stride(from: 0, to: bytes.count, by: 4).map { place in
        Float(bitPattern: bytes[place..<place + 4].reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) })
      }
    }
    let values = try json.elements("embedding").map { (value) throws(Failure) in
      value.kind == .null ? Float.nan : Float(try value.double("a number of the embedding"))
    }
    guard !values.isEmpty else { throw json.failure("an embedding without numbers") }
    return values
  }
}
