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
       "added_tokens": [\(added)], "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
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
    for choice in target.choices where choice != .bfloat16 {
      let (container, files) = (path + "/q.llv", path + "/out-\(choice.text.replacing(":", with: "-"))")
      _ = try run(
        ["quantize", model, "--for", target.rawValue, "--weights", choice.text, "-o", container, "--force"])
      _ = try run(["export", container, "--to", target.rawValue, "-o", files])
      let difference = try run(["diff", container, files])
      #expect(!difference.output.contains("differs"), "\(choice.text): \(difference.output)")
      _ = try run(["import", files, "-o", path + "/again.llv", "--force"])
      #expect(try embed(container) == embed(path + "/again.llv"), "\(choice.text)")
    }
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
