import Bytes
import Fidelity
import LLVConv

/// What a server is asked with.
let endpointOptions: [Command.Option] = [
  .init("--endpoint", "URL", "a server that makes vectors, held to anchors"),
  .init(
    "--api", Endpoint.apis.joined(separator: "|"),
    "how the server is asked (default: by the URL's path)"),
  .init("--endpoint-model", "NAME", "what the server calls the model; needed by openai and ollama"),
  .init("--dimensions", "N", "columns to ask the server for"),
  .init("--base64", nil, "ask for base64 in the place of decimal numbers (openai)"),
  .init("--no-prompts", nil, "send texts without the reference's prompts: the server puts them there itself"),
  .init("--rate", "N", "requests a second, at most"),
]

/// `verify --anchors`.
func verifyAnchors(_ arguments: Arguments) throws(Failure) -> Int32 {
  let page = try arguments.output("--report")
  let reports = try AnchorVerifyJob(arguments).run()
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
