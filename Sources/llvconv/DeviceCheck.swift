import Bytes
import Inference
import LLVConv

/// Runs the conformance table.
func checkDevice(_ choice: DeviceChoice, _ arguments: Arguments) throws(Failure) -> Int32 {
  let device = try choice.open(threads: try arguments.threads()).device
  let rows = Conformance.rows
  let progress = Progress("checking \(device.shown)", of: rows.count)
  var outcomes: [Conformance.Outcome] = []
  for row in rows {
    do throws(Failure) { outcomes.append(try Conformance.check(row, on: device)) } catch {
      throw error.about("operation \(row.name)")
    }
    progress.show(outcomes.count)
  }
  Progress.clear()
  let failed = outcomes.filter { !$0.passes }
  if arguments.has("--json") {
    Output.print(
      .object([
        ("device", .string(device.shown)), ("passes", .bool(failed.isEmpty)),
        ("operations", .array(outcomes.map(\.json))),
      ]))
  } else {
    let width = outcomes.map(\.name.count).max() ?? 0
    for outcome in outcomes {
      let bits = outcome.hasSameBits.map { $0 ? "  same bits as cpu" : "  NOT the bits of cpu" } ?? ""
      Output.print(
        "\(outcome.name.padded(width))  \(outcome.error.fixed(8)) of \(outcome.tolerance.fixed(8))\(bits)"
          + (outcome.passes ? "" : "  FAIL"))
    }
    Output.print(
      "\(device.shown): \(outcomes.count - failed.count) of \(outcomes.count) operations agree: "
        + (failed.isEmpty ? "PASS" : "FAIL"))
  }
  return failed.isEmpty ? 0 : 1
}

extension Conformance.Outcome {
  fileprivate var json: JSONText {
    .object([
      ("name", .string(name)), ("error", .number(error)), ("tolerance", .number(tolerance)),
      ("sameBits", hasSameBits.map { .bool($0) } ?? .null), ("passes", .bool(passes)),
    ])
  }
}
