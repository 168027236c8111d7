import Bytes
import Formats
import Foundation
import Passes
import TestSupport
import Testing

/// What is quantized for another program is what its files hold.
struct TargetCommandTests {
  /// Wide enough for ggml's blocks of 256.
  static func imported() throws -> TemporaryDirectory {
    var tiny = TinyBert()
    (tiny.hidden, tiny.intermediate, tiny.layers) = (256, 512, 1)
    return try imported(tiny)
  }

  static func imported(_ tiny: TinyBert) throws -> TemporaryDirectory {
    let directory = try TemporaryDirectory()
    let path = try tiny.write(to: directory)
    let added = tiny.words.enumerated().filter { $1.hasPrefix("[") }
      .map { "{\"id\": \($0), \"content\": \"\($1)\", \"special\": true}" }.joined(separator: ", ")
    let vocabulary = tiny.words.enumerated().map { "\"\($1)\": \($0)" }.joined(separator: ", ")
    try directory.write(
      "model/tokenizer.json",
      """
      {"normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                      "strip_accents": null, "lowercase": true},
       "pre_tokenizer": {"type": "BertPreTokenizer"},
       "added_tokens": [\(added)],
       "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
       "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                 "max_input_chars_per_word": 100, "vocab": {\(vocabulary)}}}
      """)
    let run = try ProgramRun(["import", path, "-o", directory.path + "/m.llv"])
    #expect(run.status == 0, "\(run.errors)")
    return directory
  }

  private func run(_ words: [String]) throws -> ProgramRun {
    let run = try ProgramRun(words)
    #expect(run.status == 0, "\(words): \(run.errors)")
    return run
  }

  private func embed(_ model: String) throws -> String {
    try ProgramRun(["embed", model], input: #"{"text":"the quick brown fox"}"# + "\n").output
  }

  /// Of a file, or of all files in a folder.
  private func bytes(_ path: String) throws -> Int {
    let inside = FileManager.default.enumerator(atPath: path)?.allObjects.map { "\(path)/\($0)" } ?? []
    return try ([path] + inside).reduce(0) { sum, file in
      let attributes = try FileManager.default.attributesOfItem(atPath: file)
      return sum + (attributes[.type] as? FileAttributeType == .typeRegular ? attributes[.size] as? Int ?? 0 : 0)
    }
  }

  @Test("codes of an export are those of the container", arguments: [Target.gguf, .compressedTensors, .mlx])
  func codesOfAnExportAreThoseOfTheContainer(_ target: Target) throws {
    let directory = try TargetCommandTests.imported()
    let (path, model) = (directory.path, directory.path + "/m.llv")
    // 16 bits alone are no integers, which `export` would make then.
    let choices = target.choices.filter { $0 != .bfloat16 }.map(\.text)
    for choice in choices + (target == .compressedTensors ? TargetCommandTests.schemes : []) {
      try expectSameCodes(model, target, ["--weights", choice], path)
    }
  }

  /// Beside what plans choose from.
  static let schemes = [
    "W4A16", "W4A16_ASYM", "W8A16", "W8A8", "W4A8", "4:g64:asymmetric", "4:g32:asymmetric", "8:g32:asymmetric",
  ]

  /// Quantizes, exports, and holds the files to the container: codes and scales, and embeddings to the last bit.
  private func expectSameCodes(_ model: String, _ target: Target, _ words: [String], _ path: String) throws {
    let (container, files, again) = (path + "/q.llv", path + "/out", path + "/again.llv")
    try? FileManager.default.removeItem(atPath: files)
    _ = try run(["quantize", model, "--for", target.rawValue, "-o", container, "--force"] + words)
    _ = try run(["export", container, "--to", target.rawValue, "-o", files])
    let difference = try run(["diff", container, files])
    #expect(!difference.output.contains("differs"), "\(words): \(difference.output)")
    _ = try run(["import", files, "-o", again, "--force"])
    #expect(try embed(container) == embed(again), "\(words)")
  }

  @Test("codes of an export are those of the container, on random models and recipes", arguments: 0..<18)
  func codesOfAnExportAreThoseOfTheContainerOnRandomModelsAndRecipes(_ seed: Int) throws {
    var random = Random(seed: UInt64(seed))
    var tiny = TinyBert()
    (tiny.hidden, tiny.intermediate) = (128 << random.below(2), 128 * (1 + random.below(4)))
    (tiny.layers, tiny.heads) = (1 + random.below(2), [2, 4, 8][random.below(3)])
    let factor = 0.5 + random.uniform()
    tiny.change = { name, shape, values in (name, shape, values.map { $0 * factor }) }
    let directory = try TargetCommandTests.imported(tiny)
    let target = [Target.gguf, .compressedTensors, .mlx][seed % 3]
    // 16 bits for all would be no integers.
    let choices = target.choices.map(\.text).filter { $0 != "16" && $0 != "F16" }
    let all = choices + (target == .compressedTensors ? TargetCommandTests.schemes : [])
    let first = all[random.below(all.count)]
    // Beside inputs that are rounded the format has no zeros.
    let zeros = target == .compressedTensors && !first.hasSuffix("A8") ? TargetCommandTests.schemes.suffix(3) : []
    let others = target.choices.map(\.text) + zeros
    var words = ["--weights", first]
    for pattern in ["*self*", "*attention.output*", "*intermediate*", "*layer.0.output*"] where random.below(2) == 0 {
      words += ["--tensor", "\(pattern)=\(others[random.below(others.count)])"]
    }
    try expectSameCodes(directory.path + "/m.llv", target, words, directory.path)
  }

  @Test("inputs are rounded as the configuration says, and what we cannot do is said", arguments: ["W8A8", "W4A8"])
  func inputsAreRoundedAsTheConfigurationSays(_ scheme: String) throws {
    let directory = try TargetCommandTests.imported()
    let (path, files, again) = (directory.path, directory.path + "/out", directory.path + "/again.llv")
    _ = try run(["export", path + "/m.llv", "--to", "compressed-tensors", "--weights", scheme, "-o", files])
    let config = try String(contentsOfFile: files + "/config.json", encoding: .utf8)
    func imported(_ old: String, _ new: String) throws -> (run: ProgramRun, vectors: String) {
      let changed = config.replacing(old, with: new)
      #expect(old == new || changed != config)
      try directory.write("out/config.json", changed)
      let run = try ProgramRun(["import", files, "-o", again, "--force"])
      return (run, run.status == 0 ? try embed(again) : "")
    }
    let rounded = try imported("int", "int")
    #expect(rounded.run.status == 0 && !rounded.run.errors.contains("rounded"), "\(rounded.run.errors)")
    var plain: Set<String> = []
    for (old, new) in [
      (#""dynamic": true"#, #""dynamic": false"#), (#""strategy": "token""#, #""strategy": "tensor""#),
    ] {
      let other = try imported(old, new)
      #expect(other.run.errors.contains("they stay as they are"), "\(other.run.errors)")
      plain.insert(other.vectors)
    }
    #expect(plain.count == 1 && !plain.contains(rounded.vectors))
    // Codes of eight bits under the name of four.
    let other = try imported(#""num_bits": 8"#, #""num_bits": 4"#)
    let isRefused = other.run.status == 65 && other.run.errors.contains("no integers of 4 bits")
    #expect(isRefused == (scheme == "W8A8"), "\(other.run.status) \(other.run.errors)")
  }

  /// A SigLIP tower alone: its head has three projections in one weight, which two operations read.
  private func tower(_ directory: TemporaryDirectory) throws -> String {
    var (random, entries) = (Random(seed: 3), [(String, [Int], [Float])]())
    func add(_ name: String, _ shape: [Int], mean: Float = 0, scale: Float = 0.2) {
      entries.append((name, shape, (0..<shape.reduce(1, *)).map { _ in mean + scale * random.normal() }))
    }
    func linear(_ name: String, _ out: Int, _ input: Int) {
      add(name + ".weight", [out, input])
      add(name + ".bias", [out])
    }
    func norm(_ name: String) {
      add(name + ".weight", [64], mean: 1)
      add(name + ".bias", [64])
    }
    add("embeddings.patch_embedding.weight", [64, 3, 4, 4])
    add("embeddings.patch_embedding.bias", [64])
    add("embeddings.position_embedding.weight", [9, 64])
    let layer = "encoder.layers.0."
    for name in ["q", "k", "v", "out"] { linear(layer + "self_attn.\(name)_proj", 64, 64) }
    for stem in [layer, "head."] {
      linear(stem + "mlp.fc1", 128, 64)
      linear(stem + "mlp.fc2", 64, 128)
    }
    for name in [layer + "layer_norm1", layer + "layer_norm2", "post_layernorm", "head.layernorm"] { norm(name) }
    add("head.probe", [1, 1, 64], scale: 1)
    add("head.attention.in_proj_weight", [192, 64])
    add("head.attention.in_proj_bias", [192])
    linear("head.attention.out_proj", 64, 64)
    try directory.write("tower/model.safetensors", TinyBert.safetensors(entries))
    try directory.write(
      "tower/config.json",
      #"{"model_type": "siglip_vision_model", "image_size": 12, "patch_size": 4, "num_attention_heads": 4}"#)
    let model = directory.path + "/tower.llv"
    _ = try run(["import", directory.path + "/tower", "-o", model])
    return model
  }

  @Test("a fused tower goes out and comes back, and only modules' weights become others' integers")
  func aFusedTowerGoesOutAndComesBack() throws {
    let directory = try TemporaryDirectory()
    let (model, path) = (try tower(directory), directory.path)
    let item = #"{"images":["\#(TinyLlave.folder)square.png"]}"# + "\n"
    func vectors(_ model: String) throws -> [Double] {
      let line = try ProgramRun(["embed", model], input: item).output
      return try JSON.parse(Array(line.utf8), what: "line").required("embedding").elements().map { try $0.double() }
    }
    // The head's query is learned: all its inputs are one, and have no variance.
    try directory.write("x.jsonl", item)
    _ = try run(["measure", model, "--data", path + "/x.jsonl", "--sensitivity", "-o", path + "/c.llv"])
    // As containers fuse towers, codes become floats again.
    let (fused, floats) = (path + "/fused.llv", path + "/floats")
    _ = try run(["quantize", model, "--bits", "8", "-o", fused])
    _ = try run(["export", fused, "--to", "safetensors", "-o", floats])
    let worst = zip(try vectors(fused), try vectors(floats)).map { abs($0 - $1) }.max() ?? 1
    #expect(worst < 1e-4, "\(worst)")
    let (container, files) = (path + "/q.llv", path + "/integers")
    let words = ["--for", "compressed-tensors", "--tower", "--weights", "8:g32:symmetric"]
    _ = try run(["quantize", model, "-o", container] + words)
    _ = try run(["export", container, "--to", "compressed-tensors", "-o", files])
    let difference = try run(["diff", container, files])
    #expect(!difference.output.contains("differs"), "\(difference.output)")
    #expect(try vectors(container) == vectors(files))
    let names = try Container.open(container).model.tensors.filter { !$0.encoding.isPlain }.map(\.name.text)
    #expect(names.count == 7 && !names.contains { $0.contains("in_proj") }, "\(names)")
  }

  @Test("a budget for another program is one of its files")
  func aBudgetIsOneOfTheTargetsFiles() throws {
    let directory = try TargetCommandTests.imported()
    let (path, model) = (directory.path, directory.path + "/m.llv")
    let texts = ["hello world", "the quick brown fox", "a quick fox, hello", "world hello the", "brown world . hello"]
    try directory.write("x.jsonl", texts.map { #"{"text": "\#($0)"}"# }.joined(separator: "\n") + "\n")
    _ = try run(["measure", model, "--data", path + "/x.jsonl", "--sensitivity", "-o", path + "/c.llv"])
    for target in [Target.gguf, .compressedTensors, .mlx] {
      let small = try ProgramRun(["quantize", model, "--for", target.rawValue, "--size", "1000", "-o", path + "/s.llv"])
      #expect(small.status == 64 && small.errors.contains("try --size"), "\(small.errors)")
      let least = try #require(small.errors.split(separator: " ").last.flatMap { Int($0.filter(\.isNumber)) })
      for size in [least, least + 60_000] {
        let (container, files) = (path + "/\(target.rawValue)-\(size).llv", path + "/\(target.rawValue)-\(size)")
        _ = try run([
          "quantize", model, "--for", target.rawValue, "--size", "\(size)", "--calibration", path + "/c.llv", "-o",
          container,
        ])
        _ = try run(["export", container, "--to", target.rawValue, "-o", files])
        let bytes = try bytes(files)
        // Small tensors have large headers beside them.
        #expect(bytes <= size && bytes > size * 7 / 10, "\(target.rawValue): \(bytes) of \(size)")
        #expect(try run(["diff", container, files]).status == 0)
      }
    }
  }

  @Test("what a target cannot hold is refused by name")
  func whatATargetCannotHoldIsRefused() throws {
    let directory = try TargetCommandTests.imported()
    let model = directory.path + "/m.llv"
    for (words, message) in [
      (["--for", "gguf", "--weights", "4:g32:affine"], "is no type of ggml's"),
      (["--for", "mlx", "--weights", "Q4_K"], "is a type of ggml's alone"),
      (["--for", "mlx", "--weights", "7:g64:affine"], "has 7 bits"),
      (["--for", "compressed-tensors", "--weights", "4:g32:affine"], "zeros that are no whole codes"),
      (["--for", "gguf", "--weights", "Q4_0", "--activations", "8"], "--activations does not go with --for gguf"),
      (["--for", "compressed-tensors", "--weights", "W8A8", "--attention", "8"], "--attention 8 does not go with"),
      (["--weights", "Q4_K"], "say which with --for"), (["--weights", "5:g64"], "has 5 bits"),
      (["--for", "llama", "--bits", "8"], "--for"), (["--for", "gguf", "--weights", "Q9"], "--weights must be"),
      (["--for", "gguf", "--bits", "4", "--no-fuse"], "--no-fuse does not go with --for"),
    ] {
      let run = try ProgramRun(["quantize", model, "-o", directory.path + "/no.llv"] + words)
      #expect(run.status == 64 && run.errors.contains(message), "\(words): \(run.status) \(run.errors)")
      #expect(!FileManager.default.fileExists(atPath: directory.path + "/no.llv"))
    }
  }
}
