import Bytes
import Fidelity
import Formats

/// Models, files of vectors and a server held to anchors: what `verify --anchors` does.
package struct AnchorVerifyJob {
  private let arguments: Arguments

  package init(_ arguments: Arguments) { self.arguments = arguments }

  /// Embeds and compares: a report for each candidate, the server's last.
  package func run() throws(Failure) -> [FidelityReport] {
    for name in ["--reference", "--data", "--vectors", "--profile", "--no-layers", "--no-cache", "--strict"]
    where arguments.has(name) {
      throw Failure(.usage, "\(name) does not go with --anchors, which hold what they need")
    }
    let verdict = try AnchorVerdict(try arguments.required("--anchors"), arguments)
    let endpoint = try Endpoint(arguments)
    guard !arguments.positionals.isEmpty || endpoint != nil else {
      throw Failure(.usage, "verify --anchors needs a CANDIDATE, or --endpoint")
    }
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
    return reports
  }
}

extension Endpoint {
  fileprivate init?(_ arguments: Arguments) throws(Failure) {
    guard let url = arguments["--endpoint"] else {
      for name in ["--api", "--endpoint-model", "--dimensions", "--base64", "--no-prompts", "--rate"]
      where arguments.has(name) {
        throw Failure(.usage, "\(name) goes with --endpoint")
      }
      return nil
    }
    let api = try arguments.choice("--api", Endpoint.apis).flatMap(EndpointAPI.init)
    var settings = Settings()
    settings.model = arguments["--endpoint-model"]
    settings.dimensions = try arguments.integer("--dimensions", in: 1...1 << 20)
    settings.isBase64 = arguments.has("--base64")
    settings.interval = try arguments.number("--rate", in: 0.001...10_000).map { 1 / $0 } ?? 0
    try self.init(url, api: api, settings)
  }
}
