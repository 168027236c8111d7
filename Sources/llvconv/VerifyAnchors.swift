import Bytes
import Fidelity
import Formats
import Inputs

/// What a server is asked with.
let endpointOptions: [Command.Option] = [
  .init("--endpoint", "URL", "a server that makes vectors, held to anchors"),
  .init(
    "--api", EndpointAPI.allCases.map(\.rawValue).joined(separator: "|"),
    "how the server is asked (default: by the URL's path)"),
  .init("--endpoint-model", "NAME", "what the server calls the model; needed by openai and ollama"),
  .init("--dimensions", "N", "columns to ask the server for"),
  .init("--base64", nil, "ask for base64 in the place of decimal numbers (openai)"),
  .init("--no-prompts", nil, "send texts without the reference's prompts: the server puts them there itself"),
  .init("--rate", "N", "requests a second, at most"),
]

/// `verify --anchors`.
func verifyAnchors(_ arguments: Arguments) throws(Failure) -> Int32 {
  for name in ["--reference", "--data", "--vectors", "--profile", "--no-layers", "--no-cache", "--strict"]
  where arguments.has(name) {
    throw Failure(.usage, "\(name) does not go with --anchors, which hold what they need")
  }
  let verdict = try AnchorVerdict(try arguments.required("--anchors"), arguments)
  let endpoint = try Endpoint(arguments)
  guard !arguments.positionals.isEmpty || endpoint != nil else {
    throw Failure(.usage, "verify --anchors needs a CANDIDATE, or --endpoint")
  }
  let page = try arguments.output("--report")
  let options = try LoadedModel.Options(arguments)
  var found: [AnchorVerdict.Found] = []
  for path in arguments.positionals {
    if FileKind(path) == .vectors {
      found.append(try verdict.found(vectors: path))
    } else {
      found.append(
        try verdict.found(try LoadedModel(ModelFile(path, projector: arguments["--mmproj"]), options)))
    }
  }
  if let endpoint { found.append(try verdict.found(endpoint, sendsPrompts: !arguments.has("--no-prompts"))) }
  var reports: [FidelityReport] = []
  let progress = Progress("searching", of: 100)
  for candidate in found { reports.append(try verdict.report(candidate) { progress.show(Int($0 * 100)) }) }
  Progress.clear()
  try page?.write(Array(FidelityReport.page(reports, facts: Program.facts()).utf8))
  try page?.commit()
  if arguments.has("--json") {
    Output.print(reports.count == 1 ? reports[0].json : .array(reports.map(\.json)))
  } else {
    let comparison = reports.count > 1 ? [Comparison(reports).text] : []
    Output.print((comparison + reports.map(\.text)).joined(separator: "\n\n"))
  }
  if let path = arguments["--report"] { Output.note("report: \(path)") }
  return exitCode(reports)
}

extension Endpoint {
  fileprivate init?(_ arguments: Arguments) throws(Failure) {
    guard let url = arguments["--endpoint"] else {
      if let option = endpointOptions.first(where: { arguments.has($0.name) }) {
        throw Failure(.usage, "\(option.name) goes with --endpoint")
      }
      return nil
    }
    let api = try arguments.choice("--api", EndpointAPI.allCases.map(\.rawValue)).flatMap(EndpointAPI.init)
    var settings = Settings()
    settings.model = arguments["--endpoint-model"]
    settings.dimensions = try arguments.integer("--dimensions", in: 1...1 << 20)
    settings.isBase64 = arguments.has("--base64")
    settings.interval = try arguments.number("--rate", in: 0.001...10_000).map { 1 / $0 } ?? 0
    try self.init(url, api: api, settings)
  }
}
