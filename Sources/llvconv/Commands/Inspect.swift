import Bytes
import Formats
import LLVConv
import Tensors

let inspectCommand = Command(
  name: "inspect",
  abstract: "Shows what a container or checkpoint holds.",
  positionals: ["FILE"],
  options: [
    .init("--statistics", nil, "read every tensor: range, mean, NaN and infinities; checks checksums"),
    .init("--graph", nil, "list the operations"), Command.json, Command.threads,
  ],
  discussion: """
    FILE is an .llv container, a .safetensors or GGUF file, an *.index.json or a model folder. For a checkpoint it also
    says whether import takes it, and as what, or what is missing. Without --statistics only headers are read, whatever
    the size of the file.
    """,
  examples: ["llvconv inspect llave-4bit.llv --statistics"]
) { (arguments) throws(Failure) in
  let path = arguments.positionals[0]
  let threads = try arguments.threads()
  let subject = try Subject(path)
  var statistics: [TensorName: Statistics] = [:]
  if arguments.has("--statistics") {
    let progress = Progress("reading", of: subject.tensors.reduce(0) { $0 + $1.byteCount })
    var done = 0
    for tensor in subject.tensors {
      statistics[tensor.name] = try Statistics(tensor, threads: threads)
      done += tensor.byteCount
      progress.show(done)
    }
    Progress.clear()
  }
  if arguments.has("--json") {
    Output.print(subject.json(statistics))
  } else {
    subject.print(statistics, withGraph: arguments.has("--graph"))
  }
  if let support = subject.support, !support.isSupported { return 0 }
  Output.next(
    FileKind(path) != .container
      ? "llvconv import \(path) -o m.llv"
      : subject.tensors.contains { !$0.encoding.isPlain }
        ? "llvconv verify \(path) --reference FULL.llv --data PAIRS.jsonl"
        : "llvconv quantize \(path) --bits 4 -o OUT.llv")
  return 0
}

/// What import would make of a checkpoint, found out without writing anything.
private struct Support {
  let isSupported: Bool
  let text: String

  init(_ path: String) {
    do throws(Failure) {
      let checkpoint = try Checkpoint.open(path)
      var notes: [String] = []
      let model = try Import.model(checkpoint, notes: &notes)
      try checkTokenizer(model, of: checkpoint)
      let configuration = model.configuration
      let pooling = (model.graph("text")?.nodes ?? []).compactMap { node in
        if case .pool(let kind) = node.op { kind.rawValue } else { nil }
      }
      let prompts = configuration.prompts.map(\.name)
      text =
        "supported: \(configuration.architecture), vectors of \(configuration.width), at most "
        + "\(configuration.maximumTokens) tokens"
        + (pooling.isEmpty ? "" : ", pooling \(pooling.joined(separator: " and "))")
        + (prompts.isEmpty ? "" : ", prompts \(prompts.joined(separator: ", "))")
      isSupported = true
    } catch {
      text = "not supported: \(error)"
      isSupported = false
    }
  }

  var json: JSONText { ["supported": .bool(isSupported), "says": .string(text)] }
}

/// A container, or a checkpoint that nobody has given a meaning yet.
private struct Subject {
  let path: String
  var tensors: [Tensor]
  var contents: Container.Contents?
  var keys: GGUFKeys?
  var notes: [String] = []
  /// Of a checkpoint, whether it can be imported.
  var support: Support?

  init(_ path: String) throws(Failure) {
    self.path = path
    if FileKind(path) != .container { support = Support(path) }
    switch isDirectory(path) || path.hasSuffix(".index.json") ? nil : try CheckpointFormat.detect(try InputFile(path)) {
    case .container:
      let opened = try Container.open(path)
      (contents, tensors) = (opened, opened.model.tensors)
    case .gguf:
      // As the file has them, whatever its architecture.
      let parts = try GGUF.Parts(path)
      (keys, tensors, notes) = (parts.keys, parts.tensors, parts.notes)
    case .safetensors, nil:
      let checkpoint = try Checkpoint.open(path)
      (tensors, notes) = (checkpoint.tensors, checkpoint.notes)
    }
  }

  func json(_ statistics: [TensorName: Statistics]) -> JSONText {
    var members: [(String, JSONText)] = [("file", .string(path))]
    if let contents {
      let configuration = contents.model.configuration
      members += [
        ("program", .string(contents.program)), ("architecture", .string(configuration.architecture)),
        ("width", .int(configuration.width)), ("maximum_tokens", .int(configuration.maximumTokens)),
        ("pictures", configuration.vision?.json ?? .null), ("history", .array(contents.model.history)),
        ("files", .array(contents.model.files.map { ["name": .string($0.name), "bytes": .int($0.count)] })),
        ("unused", .array(contents.model.unused.map { .string($0.text) })),
        (
          "graphs",
          .array(contents.model.graphs.map { ["name": .string($0.name), "nodes": .int($0.graph.nodes.count)] })
        ),
      ]
    }
    if let support { members.append(("import", support.json)) }
    if let keys { members.append(("keys", .object(keys.values.map { ($0.key, $0.value.json) }))) }
    members.append(("bytes", .int(tensors.reduce(0) { $0 + $1.byteCount })))
    members.append(("notes", .array(notes.map(JSONText.string))))
    members.append(
      (
        "tensors",
        .array(
          tensors.map { tensor in
            var entry: [(String, JSONText)] = [
              ("name", .string(tensor.name.text)), ("shape", .array(tensor.shape.map(JSONText.int))),
              ("encoding", .string(tensor.encoding.text)), ("bytes", .int(tensor.byteCount)),
              ("stored_bytes", .int(tensor.storedByteCount)),
            ]
            if let found = statistics[tensor.name] { entry.append(("statistics", found.json)) }
            return .object(entry)
          })
      ))
    return .object(members)
  }

  func print(_ statistics: [TensorName: Statistics], withGraph: Bool) {
    if let contents {
      let configuration = contents.model.configuration
      Output.print(
        "\(path): \(configuration.architecture), vectors of \(configuration.width), at most "
          + "\(configuration.maximumTokens) tokens"
      )
      Output.print("written by \(contents.program), content \(XXH64.text(contents.checksum))")
      if let vision = configuration.vision { Output.print("pictures: \(vision.summary)") }
      for event in contents.model.history { Output.print("  \(event.summary)") }
      for file in contents.model.files { Output.print("  file \(file.name), \(Output.size(file.count))") }
    } else {
      Output.print("\(path): \(keys == nil ? "checkpoint" : "GGUF")")
      if let support { Output.print("  " + support.text) }
    }
    for (key, value) in keys?.values ?? [] { Output.print("  \(key): \(value.summary)") }
    for note in notes { Output.print("note: \(note)") }
    let unused = Set(contents?.model.unused ?? [])
    for line in TensorTree(tensors).lines {
      guard let tensor = line.tensor else {
        Output.print("\(line.label)  \(Output.size(line.bytes))")
        continue
      }
      let found = statistics[tensor.name].map { "  \($0.text)" } ?? ""
      let mark = unused.contains(tensor.name) ? "  (unused)" : ""
      Output.print(
        "\(line.label)  \(tensor.encoding.text) \(tensor.shape)  \(Output.size(tensor.byteCount))\(mark)\(found)")
    }
    Output.print("\(tensors.count) tensors, \(Output.size(tensors.reduce(0) { $0 + $1.byteCount }))")
    guard withGraph, let contents else { return }
    for (name, graph) in contents.model.graphs {
      Output.print("\ngraph \(name):")
      for (index, node) in graph.nodes.enumerated() {
        Output.print(
          "  %\(index) = \(node.op.name)(\(node.inputs.map(\.text).joined(separator: ", ")))\(node.op.details)")
      }
    }
  }
}

extension Tensor {
  fileprivate var storedByteCount: Int {
    switch content {
    case .stored(let stored), .panels(let stored): stored.stored.count
    default: byteCount
    }
  }
}

extension GGUFKeys.Value {
  /// Arrays by their length.
  fileprivate var json: JSONText {
    switch self {
    case .integer(let value): .int(Int(value))
    case .real(let value): .number(value)
    case .bool(let value): .bool(value)
    case .string(let bytes): .string(String(decoding: bytes, as: UTF8.self))
    case .array(let array): ["elements": .int(array.count)]
    }
  }

  /// Texts escaped and cut: they may hold anything.
  fileprivate var summary: String {
    switch self {
    case .string(let bytes): Failure.quoted(bytes)
    case .array(let array): "\(array.count) elements"
    default: json.text()
    }
  }
}

extension JSONText {
  /// An event of the history in one line, long lists left out.
  fileprivate var summary: String {
    guard case .object(let members) = self else { return text() }
    return members.filter { !["losses", "sketch"].contains($0.0) }.map { "\($0.0): \($0.1.text())" }.joined(
      separator: ", ")
  }
}

extension Graph.Source {
  fileprivate var text: String {
    switch self {
    case .node(let index): "%\(index)"
    case .tensor(let name): name.text
    case .input(let input): input.rawValue
    }
  }
}

extension Op {
  fileprivate var details: String {
    switch self {
    case .add, .multiply, .interpolate, .concatenate, .mix, .normalize: ""
    case .route(let top): "  the \(top) largest"
    case .routed(let expert): "  to expert \(expert)"
    case .embedding(let offset): offset == 0 ? "" : "  from row \(offset) on"
    case .rescale(let rescale): "  × \(rescale.factor), mean \(rescale.mean), deviation \(rescale.deviation)"
    case .rope(let rotation):
      "  θ \(rotation.theta), heads of \(rotation.headWidth)" + (rotation.scaling.map { ", \($0)" } ?? "")
    case .row(let index): "  row \(index)"
    case .linear(let input): input == .float ? "" : "  \(input.rawValue)"
    case .norm(let kind, let epsilon, let heads):
      "  \(kind.rawValue), ε \(epsilon)" + (heads == 1 ? "" : ", \(heads) heads")
    case .activation(let kind): "  \(kind.rawValue)"
    case .slice(let offset, let count): "  columns \(offset)..<\(offset + count)"
    case .attention(let attention):
      "  \(attention.heads) heads of \(attention.headWidth), \(attention.keyValueHeads) for keys, scale "
        + "\(attention.scale)"
        + (attention.isCausal ? ", causal" : "") + (attention.window.map { ", window \($0)" } ?? "")
        + (attention.farthest == nil ? "" : ", biases for distances") + (attention.hasSlopes ? ", slopes" : "")
        + (attention.input == .float ? "" : ", \(attention.input)")
    case .pool(let kind): "  \(kind.rawValue)"
    }
  }
}
