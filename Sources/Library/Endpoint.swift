import Bytes
import Glibc

/// A server that makes vectors. `curl` speaks to it, as another program: no HTTP is written here.
package struct Endpoint: Sendable, CustomStringConvertible {
  /// What `--api` takes.
  package static let apis = EndpointAPI.allCases.map(\.rawValue)

  struct Input: Sendable {
    var text: String?
    /// Files of pictures.
    var pictures: [[UInt8]] = []
  }

  struct Settings: Sendable {
    var model: String?
    var dimensions: Int?
    var isBase64 = false
    /// Least seconds between the starts of two requests.
    var interval = 0.0
  }

  let api: EndpointAPI
  let host: String
  private let url: String
  private var settings: Settings
  /// From the environment alone, where no list of processes and no log shows it.
  private let token: String?

  /// The environment's variable that holds a token.
  static let tokenVariable = "LLVCONV_TOKEN"
  private static let inputsPerRequest = 16
  private static let attempts = 4
  /// Seconds that a request may take.
  private static let patience = 300

  package var description: String { "\(url) (\(api.rawValue)\(settings.model.map { ", model \($0)" } ?? ""))" }

  /// - Parameter text: a URL; without a path the API's own is put behind it.
  /// - Throws: `usage` for what is no http or https URL, or says a user and password, which would be shown.
  init(_ text: String, api given: EndpointAPI?, _ settings: Settings) throws(Failure) {
    let parts = text.split(separator: "/", maxSplits: 3, omittingEmptySubsequences: false)
    guard parts.count >= 3, ["http:", "https:"].contains(parts[0].lowercased()), parts[1].isEmpty, !parts[2].isEmpty,
      text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "\\") && $0 != UInt8(ascii: "\"") })
    else {
      throw Failure(
        .usage, "--endpoint takes a URL, as http://localhost:8080/v1/embeddings; found \(Failure.quoted(text))")
    }
    guard !parts[2].contains("@") else {
      throw Failure(
        .usage,
        "--endpoint takes no user and password, which logs would show; a token goes into \(Endpoint.tokenVariable)")
    }
    let path = parts.count > 3 ? "/" + parts[3].prefix { $0 != "?" } : ""
    let isRoot = path.isEmpty || path == "/"
    guard let api = given ?? (isRoot ? .openAI : EndpointAPI(path: path[...])) else {
      throw Failure(.usage, "the path \(Failure.quoted(path)) does not say which API it is: see --api")
    }
    self.api = api
    host = String(parts[2])
    url = isRoot ? parts[0] + "//" + parts[2] + api.path : text
    self.settings = settings
    token = getenv(Endpoint.tokenVariable).map { String(cString: $0) }
    guard !api.namesModel || settings.model != nil else {
      throw Failure(.usage, "--api \(api.rawValue) needs --endpoint-model, the name that the server has for the model")
    }
    if let token, !token.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) {
      throw Failure(.usage, "\(Endpoint.tokenVariable) holds other than printable characters")
    }
  }

  /// A vector for each input, all of one width.
  ///
  /// - Throws: `io` where the server cannot be reached or answers with an error, `malformed` for any other answer.
  func embed(_ inputs: [Input], progress: (Int) -> Void) throws(Failure) -> [[Float]] {
    var rows: [[Float]] = []
    do throws(Failure) {
      while rows.count < inputs.count {
        let rest = inputs[rows.count...]
        let texts = rest.prefix(Endpoint.inputsPerRequest).prefix { $0.pictures.isEmpty }
        let part = Array(texts.isEmpty ? rest.prefix(1) : texts)
        rows += try api.vectors(try answer(to: try api.request(part, settings)), count: part.count)
        progress(rows.count)
      }
    } catch { throw error.inFile(url) }
    guard let width = rows.first?.count, let odd = rows.first(where: { $0.count != width }) else { return rows }
    throw Failure(.malformed, "answered with vectors of \(width) and of \(odd.count) columns", file: url)
  }

  // MARK: One request

  private func answer(to request: JSONText) throws(Failure) -> JSON {
    var failure = Failure(.io, "no answer")
    for attempt in 0..<Endpoint.attempts {
      // A server that starts, or that has too much to do, is asked again after 1, 2 and 4 seconds.
      if attempt > 0 { usleep(500_000 << UInt32(attempt)) }
      if settings.interval > 0 { usleep(UInt32(settings.interval * 1e6)) }
      let (status, body): (Int, [UInt8])
      do throws(Failure) { (status, body) = try post(request) } catch {
        guard error.kind == .io else { throw error }
        failure = error
        continue
      }
      if (200..<300).contains(status) { return try Endpoint.json(body) }
      failure = Failure(.io, "answered \(status): \(Failure.escaped(body, limit: 300))")
      guard status == 408 || status == 429 || status >= 500 else { throw failure }
    }
    failure.problem += " (asked \(Endpoint.attempts) times)"
    throw failure
  }

  /// The status and what came with it.
  private func post(_ request: JSONText) throws(Failure) -> (status: Int, body: [UInt8]) {
    let input = try InputFile(unnamed: configuration(request))
    let process = try ChildProcess(
      "curl", ["-q", "--config", "-"], input: input, patience: Int32(Endpoint.patience + 5),
      install: "install it: apt-get install curl")
    let output = try process.readAll(limit: Limits.answer)
    do throws(Failure) { try process.finish() } catch {
      throw Failure(error.kind == .malformed ? .io : error.kind, error.problem)
    }
    guard let end = output.lastIndex(of: UInt8(ascii: "\n")),
      let status = Int(String(decoding: output[(end + 1)...], as: UTF8.self))
    else { throw Failure(.io, "curl says no status") }
    return (status, Array(output[..<end]))
  }

  /// What curl is told, on its standard input: arguments would show the token to everybody on the machine.
  private func configuration(_ request: JSONText) -> [UInt8] {
    var lines = [
      "url = \"\(url)\"", "request = \"POST\"", "header = \"Content-Type: application/json\"",
      "header = \"Accept: application/json\"", "header = \"Expect:\"", "proto = \"=http,https\"", "silent",
      "show-error",
      "connect-timeout = 10", "max-time = \(Endpoint.patience)", "write-out = \"\\n%{http_code}\"",
    ]
    if let token { lines.append("header = \"Authorization: Bearer \(Endpoint.escaped(token))\"") }
    var text = Array(lines.joined(separator: "\n").utf8)
    text += Array("\ndata-binary = \"".utf8)
    for byte in request.bytes() {
      if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { text.append(UInt8(ascii: "\\")) }
      text.append(byte)
    }
    return text + Array("\"\n".utf8)
  }

  private static func escaped(_ text: String) -> String {
    text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
  }

  /// Python's servers write `NaN` and `Infinity`, which JSON does not have, where an encoder overflows.
  private static func json(_ body: [UInt8]) throws(Failure) -> JSON {
    do throws(Failure) { return try JSON.parse(body, what: "answer") } catch {
      var text = String(decoding: body, as: UTF8.self)
      guard text.contains("NaN") || text.contains("Infinity") else { throw error }
      for word in ["-Infinity", "Infinity", "NaN"] { text = text.replacing(word, with: "null") }
      return try JSON.parse(Array(text.utf8), what: "answer")
    }
  }
}
