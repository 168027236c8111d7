import Bytes
import GPU
import Inference
import LLVConv

let devicesCommand = Command(
  name: "devices",
  abstract: "Lists what models can run on here, and says why something cannot be used.",
  positionals: [],
  options: [
    Command.json,
    .init("--check", "cpu|gpu[:N]", "run every operation there and compare it with the reference"),
    .init("--speed", "cpu|gpu[:N]", "measure products and attentions of the models' shapes there"),
    .init(
      "--record", "T.json", "write what the GPU makes of single instructions, which tests compare with (for developers)"
    ),
    Command.force, Command.dryRun, Command.threads,
  ],
  discussion: """
    The processor is always there. A GPU needs NVIDIA's driver (CUDA 11.2 or later) and compute capability 8.0 or later
    (Ampere, 2020), and nothing else: no CUDA toolkit, no library. Names given here are what --device takes. With
    --check the exit code is 1 when an operation differs from the double-precision reference by more than its bound, or
    an integer product from the processor's by a bit.
    """,
  examples: ["llvconv devices", "llvconv devices --check gpu"]
) { (arguments) throws(Failure) in
  let threads = try arguments.threads()
  guard ["--check", "--speed", "--record"].count(where: arguments.has) <= 1 else {
    throw Failure(.usage, "--check, --speed and --record are jobs of their own; give one")
  }
  if let name = arguments["--check"] { return try checkDevice(try DeviceChoice(name), arguments) }
  if let name = arguments["--speed"] { return try measureDevice(try DeviceChoice(name), arguments) }
  if let path = arguments["--record"] {
    let file = try OutputFile(path, isReplacing: arguments.has("--force"))
    try file.write(Truth.record(try GPUDevice(Driver.installed())).bytes())
    try file.commit()
    return 0
  }
  var rows = [DeviceRow(name: "cpu", description: "\(threads) threads, \(CPUDevice.instructions)", problem: nil)]
  var driver: String?
  do throws(Failure) {
    let found = try Driver.installed()
    driver = found.version
    for card in try found.cards() {
      let (major, minor) = card.capability
      rows.append(
        DeviceRow(
          name: "gpu:\(card.index)",
          description: "\(card.name), compute \(major).\(minor), \(Output.size(card.memory)), "
            + "\(card.multiprocessors) multiprocessors",
          problem: card.problem))
    }
    if rows.count == 1 { rows.append(DeviceRow(name: "gpu", description: "none", problem: "the driver lists no GPU")) }
  } catch {
    rows.append(DeviceRow(name: "gpu", description: "none", problem: error.problem))
  }
  if arguments.has("--json") {
    Output.print(
      .object([("cudaVersion", driver.map { .string($0) } ?? .null), ("devices", .array(rows.map(\.json)))]))
  } else {
    let width = rows.map(\.name.count).max() ?? 0
    for row in rows {
      Output.print("\(row.name.padded(width))  \(row.description)" + (row.problem.map { "; not usable: \($0)" } ?? ""))
    }
    if let driver { Output.print("NVIDIA driver for CUDA \(driver)") }
  }
  Output.next("llvconv embed MODEL.llv --device \(rows.last { $0.problem == nil }?.name ?? "cpu")")
  return 0
}

private struct DeviceRow {
  let name, description: String
  let problem: String?

  var json: JSONText {
    .object([
      ("name", .string(name)), ("description", .string(description)), ("isUsable", .bool(problem == nil)),
      ("problem", problem.map { .string($0) } ?? .null),
    ])
  }
}
