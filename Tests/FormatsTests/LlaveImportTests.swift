import Bytes
import Formats
import Foundation
import Tensors
import TestSupport
import Testing

/// What is read of a LLaVE checkpoint, what is left out, and what is refused.
struct LlaveImportTests {
  static let tower = "model.vision_tower.vision_tower.vision_model."

  /// Imports the tiny checkpoint with a changed config.json and changed tensors.
  static func load(
    _ change: (inout [String: Any]) -> Void = { _ in }, tensors: (Tensor) -> Tensor? = { $0 }
  ) throws -> Result<(Model, [String]), Failure> {
    let data = try Data(contentsOf: URL(fileURLWithPath: TinyLlave.folder + "model/config.json"))
    var config = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    change(&config)
    let directory = try TemporaryDirectory()
    try directory.write("config.json", [UInt8](try JSONSerialization.data(withJSONObject: config)))
    try FileManager.default.createSymbolicLink(
      atPath: directory.path + "/model.safetensors", withDestinationPath: TinyLlave.folder + "model/model.safetensors")
    var checkpoint = try Checkpoint.open(directory.path)
    checkpoint.tensors = checkpoint.tensors.compactMap(tensors)
    var notes: [String] = []
    return outcome { () throws(Failure) in (try Import.model(checkpoint, notes: &notes), notes) }
  }

  static func renamed(_ tensor: Tensor, _ name: String) -> Tensor {
    Tensor(TensorName(name), shape: tensor.shape, encoding: tensor.encoding, content: tensor.content)
  }

  @Test("dead weight is left out and reported, and the rest is as it was")
  func deadWeightIsLeftOutAndReported() throws {
    let (model, notes) = try LlaveImportTests.load().get()
    #expect(
      model["lm_head.weight"] == nil && model[TensorName(LlaveImportTests.tower + "post_layernorm.weight")] == nil)
    #expect(notes.contains { $0.hasPrefix("3 tensors") && $0.contains("left out") }, "\(notes)")
    #expect(model.graphs.map(\.name) == ["vision", "projector", "text"] && model.unused.isEmpty)
    #expect(model.configuration.width == 64 && model.configuration.vocabulary == 338)
    #expect(model.configuration.vision?.grid.count == 4 && model.configuration.vision?.newline == .grid)
    #expect(model.configuration.template?.before.hasPrefix("<|im_start|>system\n") == true)
  }

  @Test("a grid may be written as the recipe's text, and order is kept")
  func aGridMayBeWrittenAsTheRecipesText() throws {
    let (model, _) = try LlaveImportTests.load { $0["image_grid_pinpoints"] = "(1x1),...,(2x3)" }.get()
    let grid = model.configuration.vision?.grid.map { [$0.width / 18, $0.height / 18] }
    #expect(grid == [[1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3]])
  }

  static let refused: [(Failure.Kind, String, @Sendable (inout [String: Any]) -> Void)] = [
    (.unsupported, "spatial_unpad", { $0["mm_patch_merge_type"] = "flat" }),
    (.malformed, "mm_patch_merge_type", { $0["mm_patch_merge_type"] = nil }),
    (.unsupported, "anyres_max_N", { $0["image_aspect_ratio"] = "pad" }),
    (.unsupported, "anyres_max_N", { $0["image_aspect_ratio"] = "anyres" }),
    (.unsupported, "anyres_max_N", { $0["image_aspect_ratio"] = "anyres_max_0" }),
    (.malformed, "multiples", { $0["image_grid_pinpoints"] = [[18, 20]] }),
    (.malformed, "two sides", { $0["image_grid_pinpoints"] = [[18]] }),
    (.malformed, "empty", { $0["image_grid_pinpoints"] = [[Int]]() }),
    (.malformed, "pairs", { $0["image_grid_pinpoints"] = "(1x1)" }),
    (.unsupported, "mm_newline_position", { $0["mm_newline_position"] = "sometimes" }),
    (.unsupported, "mlp2x_gelu", { $0["mm_projector_type"] = "linear" }),
    (.unsupported, "mm_resampler_type", { $0["mm_resampler_type"] = "perceiver" }),
    (.unsupported, "bilinear", { $0["mm_spatial_pool_mode"] = "average" }),
    (.unsupported, "must be 2", { $0["mm_spatial_pool_stride"] = 4 }),
    (.unsupported, "must be false", { $0["add_faster_video"] = true }),
    (.unsupported, "must be false", { $0["mm_use_im_start_end"] = true }),
    (.unsupported, "mm_vision_tower", { $0["mm_vision_tower"] = "somewhere/else" }),
    (.malformed, "position embeddings", { $0["mm_vision_tower"] = "tiny/siglip-patch4-24" }),
    (.malformed, "do not divide", { $0["mm_vision_attention_heads"] = 5 }),
    (.malformed, "num_attention_heads", { $0["num_attention_heads"] = 0 }),
    (.malformed, "must divide", { $0["num_attention_heads"] = 7 }),
    (.malformed, "num_attention_heads", { $0["num_attention_heads"] = nil }),
    (.malformed, "k_proj holds", { $0["num_key_value_heads"] = 4 }),
    (.malformed, "says 4 layers, the checkpoint holds 3", { $0["num_hidden_layers"] = 4 }),
    (.malformed, "says 2 layers, the checkpoint holds 3", { $0["num_hidden_layers"] = 2 }),
    (.malformed, "says 1000000000 layers", { $0["num_hidden_layers"] = 1_000_000_000 }),
    (.malformed, "token table", { $0["hidden_size"] = 65 }),
    (.malformed, "integer", { $0["hidden_size"] = "64" }),
    (.malformed, "rms_norm_eps", { $0["rms_norm_eps"] = 0 }),
    (.malformed, "rope_theta", { $0["rope_theta"] = 0 }),
    (.unsupported, "rope_type", { $0["rope_scaling"] = ["type": "longrope", "factor": 4] }),
    (.malformed, "sliding_window", { $0.merge(["use_sliding_window": true, "sliding_window": 0]) { $1 } }),
    (.unsupported, "hidden_act", { $0["hidden_act"] = "swoosh" }),
  ]

  @Test("configurations of something else are refused by name", arguments: refused.indices)
  func configurationsOfSomethingElseAreRefused(_ index: Int) throws {
    let (kind, words, change) = LlaveImportTests.refused[index]
    guard case .failure(let failure) = try LlaveImportTests.load(change) else {
      Issue.record("row \(index) was accepted")
      return
    }
    #expect(failure.kind == kind && failure.description.contains(words), "\(failure)")
    #expect(failure.file?.hasSuffix("config.json") == true || failure.thing != nil, "\(failure)")
  }

  @Test("missing and misshapen tensors are named, all at once")
  func missingAndMisshapenTensorsAreNamedAllAtOnce() throws {
    let result = try LlaveImportTests.load(tensors: { tensor in
      switch tensor.name.text {
      case "model.layers.1.mlp.up_proj.weight": LlaveImportTests.renamed(tensor, "model.layers.1.mlp.upp_proj.weight")
      case "model.image_newline": nil
      case "model.mm_projector.2.bias":
        Tensor(tensor.name, shape: [32, 2], encoding: tensor.encoding, content: tensor.content)
      default: tensor
      }
    })
    guard case .failure(let failure) = result else {
      Issue.record("accepted")
      return
    }
    for words in ["upp_proj", "\"model.image_newline\": is missing", "[32, 2]"] {
      #expect(failure.description.contains(words), "\(failure)")
    }
    #expect(failure.description.split(separator: "\n").count == 3)
  }

  @Test("a tower with one layer too many is so400m's only at its width; surplus layers of the text are refused")
  func surplusLayers() throws {
    let head = LlaveImportTests.tower + "encoder.layers.2."
    // Without configuration of its own the tower is as deep as it is: a lost layer in the middle is missing.
    let lost = try LlaveImportTests.load(tensors: { tensor in
      tensor.name.text.hasPrefix(LlaveImportTests.tower + "encoder.layers.1.") ? nil : tensor
    })
    guard case .failure(let failure) = lost else {
      Issue.record("accepted")
      return
    }
    #expect(failure.description.contains("encoder.layers.1."))
    let (model, _) = try LlaveImportTests.load(tensors: { $0.name.text.hasPrefix(head) ? nil : $0 }).get()
    #expect(model.graph("vision")?.nodes.count { if case .attention = $0.op { true } else { false } } == 2)
  }
}
