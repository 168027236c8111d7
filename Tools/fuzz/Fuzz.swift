import Bytes
import Calibration
import Formats
import Foundation
import Inputs
import Passes
import Tensors

/// One target for every parser of untrusted bytes, for libFuzzer. FUZZ_TARGET chooses; Tools/fuzz/run drives it.
///
/// Whatever the bytes are, a parser must give a value or a `Failure`; a trap, a sanitizer report or a hang is a
/// finding.
private func fuzzOne(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  let bytes = Array(UnsafeBufferPointer(start: start, count: count))
  switch target {
  case "json": _ = try? JSON.parse(bytes)
  case "safetensors":
    withFile(bytes) { path in
      guard let contents = try? Safetensors.read(InputFile(path)) else { return }
      for tensor in contents.tensors.prefix(8) { _ = try? tensor.load() }
    }
  case "shard-index": shardIndex(bytes)
  case "lz4": lz4(bytes)
  case "llv": llv(bytes)
  case "manifest":
    withContainer(bytes) { contents in
      for tensor in contents.model.tensors.prefix(8) { _ = try? tensor.floats(threads: 1) }
      for file in contents.model.files.prefix(4) { _ = try? contents.model.file(file.name) }
    }
  case "calibration": calibration(bytes)
  case "plan": plan(bytes)
  case "anchors":
    guard let file = Structured.anchors(bytes) else { return 0 }
    withFile(file) { _ = try? AnchorFile($0) }
  case "grouped": Structured.grouped(bytes)
  case "tokenizer":
    guard let tokenizer = try? Tokenizer.load({ (name) throws(Failure) in name == "tokenizer.json" ? bytes : nil })
    else { return 0 }
    _ = tokenizer.encode("Hello wörld [CLS] 你好 a\u{301}", maximum: 16)
  case "config", "llave-config": config(bytes)
  case "gguf":
    withFile(bytes, "f.gguf") { path in
      guard let file = try? GGUF.read(path) else { return }
      for tensor in file.tensors.prefix(8) where tensor.count < 1 << 20 { _ = try? tensor.floats() }
      if let json = try? file.keys.tokenizerJSON().bytes() {
        _ = try? Tokenizer.load { (name) throws(Failure) in name == "tokenizer.json" ? json : nil }
      }
      var notes: [String] = []
      if let checkpoint = try? Checkpoint.open(path) { _ = try? Import.model(checkpoint, notes: &notes) }
    }
  case "quantized": quantized(bytes)
  case "picture":
    guard let picture = try? Picture(encoded: bytes), picture.width * picture.height < 1 << 20 else { return 0 }
    let vision = Vision(
      tile: 18, patch: 4, width: 8, grid: [.init(18, 18), .init(36, 18), .init(18, 36)], maximumViews: 1)
    _ = AnyRes(vision).views(picture)
    _ = AnyRes(vision).features(picture.width, picture.height)
  case "item":
    var reader = DataReader()
    for line in bytes.split(separator: 10) { _ = (try? JSON.parse(Array(line))).flatMap { try? reader.read($0) } }
    _ = reader.keys.note
  case "table": withFile(bytes, bytes.first == 9 ? "t.tsv" : "t.csv") { _ = try? Table($0) }
  default: preconditionFailure("FUZZ_TARGET is none of the targets in Tools/fuzz/run")
  }
  return 0
}

private let target = ProcessInfo.processInfo.environment["FUZZ_TARGET"] ?? ""
/// Targets whose inputs are JSON.
let isJSON = [
  "manifest", "calibration", "plan", "anchors", "tokenizer", "config", "llave-config", "shard-index",
].contains(target)
/// In memory, where the system has such a folder: a disk is most of the time of a small input.
private let folder: String = {
  let path = (access("/dev/shm", W_OK) == 0 ? "/dev/shm" : NSTemporaryDirectory()) + "/llvconv-fuzz-\(getpid())"
  try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  return path
}()

private func withFile(_ bytes: [UInt8], _ name: String = "f", _ body: (String) -> Void) {
  let path = folder + "/" + name
  let descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC, 0o644)
  _ = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
  close(descriptor)
  body(path)
}

/// The index is fuzzed; two good shards lie beside it.
private func shardIndex(_ bytes: [UInt8]) {
  let header = #"{"NAME":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#
  for name in ["a", "b"] {
    let text = header.replacingOccurrences(of: "NAME", with: name)
    withFile([UInt8(text.utf8.count), 0, 0, 0, 0, 0, 0, 0] + Array(text.utf8) + [1], "\(name).safetensors") { _ in }
  }
  withFile(bytes, "model.safetensors.index.json") { _ = try? Checkpoint.open($0) }
}

/// Two bytes of expected size, then the frame.
private func lz4(_ bytes: [UInt8]) {
  guard bytes.count >= 2, let buffer = try? Buffer(count: Int(bytes[0]) | Int(bytes[1]) << 8),
    let frame = try? Buffer(Array(bytes.dropFirst(2)))
  else { return }
  frame.withBytes { source in buffer.withMutableBytes { target in _ = try? LZ4Frame.decompress(source, into: target) } }
}

/// Checksums are made right first, so that the fuzzer gets past them.
private func llv(_ bytes: [UInt8]) {
  var bytes = bytes
  if bytes.count >= 64 {
    let at = bytes.withUnsafeBytes { Int(truncatingIfNeeded: $0.loadUnaligned(fromByteOffset: 16, as: UInt64.self)) }
    func set(_ offset: Int, _ value: UInt64) {
      withUnsafeBytes(of: value.littleEndian) { bytes.replaceSubrange(offset..<offset + 8, with: $0) }
    }
    if at >= 64, at <= bytes.count {
      set(24, UInt64(bytes.count - at))
      set(32, XXH64.hash(Array(bytes[at...])))
      set(40, UInt64(bytes.count))
    }
    set(56, XXH64.hash(Array(bytes[..<56])))
  }
  withFile(bytes) { path in
    guard let contents = try? Container.open(path) else { return }
    for tensor in contents.model.tensors.prefix(8) { _ = try? tensor.floats() }
    for file in contents.model.files.prefix(4) { _ = try? contents.model.file(file.name) }
  }
}

private func withContainer(_ bytes: [UInt8], _ body: (Container.Contents) -> Void) {
  guard let file = Structured.container(bytes) else { return }
  withFile(file) { path in if let contents = try? Container.open(path) { body(contents) } }
}

/// The small model of seeds.py, without its files.
private let model: Model? = {
  guard let folder = ProcessInfo.processInfo.environment["FUZZ_MODEL"] else { return nil }
  var notes: [String] = []
  return (try? Checkpoint.open(folder)).flatMap { try? Import.model($0, notes: &notes) }
}()

/// What `measure` wrote, used as quantize does.
private func calibration(_ bytes: [UInt8]) {
  guard var model else { preconditionFailure("FUZZ_MODEL is no model") }
  withContainer(bytes) { contents in
    let rounding = Calibration.Method.Rounding.allCases[bytes.count % Calibration.Method.Rounding.allCases.count]
    let recipe = QuantizeRecipe(
      linear: WeightChoice(bytes.count % 2 == 0 ? "4:g8:affine" : "3:g8")!, table: .keep, input: .float)
    var notes: [String] = []
    let pass = Calibration(contents.model.tensors).quantize(recipe, .init(rounding, folds: bytes.count % 3 == 0))
    guard (try? pass.apply(&model, &notes)) != nil else { return }
    for tensor in model.tensors { _ = try? tensor.floats(threads: 1) }
  }
}

/// A plan, carried out.
private func plan(_ bytes: [UInt8]) {
  guard var model else { preconditionFailure("FUZZ_MODEL is no model") }
  guard let json = try? JSON.parse(bytes), let plan = try? Plan(json) else { return }
  _ = plan.json.bytes()
  var notes: [String] = []
  guard (try? Pass.quantize(plan.recipe).apply(&model, &notes)) != nil else { return }
  for tensor in model.tensors { _ = try? tensor.floats(threads: 1) }
}

/// A byte that chooses the method, then a safetensors file.
private func quantized(_ bytes: [UInt8]) {
  let configs = [
    #"{"quantization_config":{"quant_method":"compressed-tensors","format":"pack-quantized"}}"#,
    #"{"quantization_config":{"quant_method":"gptq","bits":4}}"#,
    #"{"quantization_config":{"quant_method":"gptq","bits":8}}"#,
    #"{"quantization_config":{"quant_method":"awq","bits":4}}"#, #"{"quantization":{"bits":4}}"#,
    #"{"quantization":{"bits":8}}"#,
  ]
  guard let first = bytes.first, let config = try? JSON.parse(Array(configs[Int(first) % configs.count].utf8)) else {
    return
  }
  withFile(Array(bytes.dropFirst()), "q.safetensors") { path in
    var notes: [String] = []
    guard let checkpoint = try? Checkpoint.open(path),
      let decoded = try? QuantizedImport.decoded(checkpoint, config: config, notes: &notes)
    else { return }
    for tensor in decoded.checkpoint.tensors.prefix(8) where tensor.count < 1 << 20 { _ = try? tensor.floats() }
  }
}

/// config.json is fuzzed; the tensors beside it are a good small model, given by FUZZ_MODEL.
private func config(_ bytes: [UInt8]) {
  guard let model = ProcessInfo.processInfo.environment["FUZZ_MODEL"] else { return }
  for name in ["model.safetensors", "vocab.txt", "tokenizer.json"] {
    try? FileManager.default.createSymbolicLink(atPath: folder + "/" + name, withDestinationPath: model + "/" + name)
  }
  withFile(bytes, "config.json") { _ in
    var notes: [String] = []
    guard let checkpoint = try? Checkpoint.open(folder) else { return }
    _ = try? Import.model(checkpoint, notes: &notes)
  }
}

@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
  _ count: UnsafeMutablePointer<CInt>,
  _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
  _ body: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

@main struct Fuzz {
  static func main() {
    var count = CommandLine.argc
    var arguments = CommandLine.unsafeArgv
    exit(runDriver(&count, &arguments, fuzzOne))
  }
}
