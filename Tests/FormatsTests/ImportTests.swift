import Bytes
import Formats
import Foundation
import Tensors
import TestSupport
import Testing

struct ImportTests {
  static func model(_ tiny: TinyBert, edit: (TemporaryDirectory) throws -> Void = { _ in }) throws -> Result<
    (Model, [String]), Failure
  > {
    let directory = try TemporaryDirectory()
    let path = try tiny.write(to: directory)
    try edit(directory)
    return outcome { () throws(Failure) in
      var notes: [String] = []
      let model = try Import.model(try Checkpoint.open(path), notes: &notes)
      return (model, notes)
    }
  }

  static func message(_ result: Result<(Model, [String]), Failure>) -> String {
    if case .failure(let failure) = result { failure.description } else { "accepted" }
  }

  @Test("a checkpoint becomes a model with its tensors, graph and files")
  func aCheckpointBecomesAModelWithItsTensorsGraphAndFiles() throws {
    let (model, _) = try ImportTests.model(TinyBert()).get()
    #expect(model.configuration.architecture == "bert" && model.configuration.width == 32)
    #expect(model.configuration.maximumTokens == 24)
    #expect(model.unused == ["pooler.dense.weight"])
    #expect(model.files.map(\.name).contains("vocab.txt"))
    #expect(model.graph("text")?.nodes.last?.op == .normalize)
  }

  @Test("the prefix and the old names of other checkpoints are read")
  func thePrefixAndTheOldNamesOfOtherCheckpointsAreRead() throws {
    var tiny = TinyBert()
    tiny.change = { name, shape, values in
      (
        "bert."
          + name.replacingOccurrences(of: "LayerNorm.weight", with: "LayerNorm.gamma").replacingOccurrences(
            of: "LayerNorm.bias", with: "LayerNorm.beta"), shape, values
      )
    }
    let (model, _) = try ImportTests.model(tiny).get()
    #expect(model.graph("text")?.tensors.contains("bert.encoder.layer.1.output.LayerNorm.gamma") ?? false)
  }

  @Test("all faults of a checkpoint come at once, with the nearest name there is")
  func allFaultsOfACheckpointComeAtOnceWithTheNearestNameThereIs() throws {
    var tiny = TinyBert()
    tiny.change = { name, shape, values in
      switch name {
      case "encoder.layer.0.output.dense.bias": nil
      case "encoder.layer.1.attention.self.key.weight": ("encoder.layer.1.attention.self.kye.weight", shape, values)
      case "embeddings.LayerNorm.weight": (name, [16, 2], values)
      default: (name, shape, values)
      }
    }
    let message = ImportTests.message(try ImportTests.model(tiny))
    #expect(message.split(separator: "\n").count == 3)
    #expect(message.contains(#""encoder.layer.0.output.dense.bias": is missing"#))
    #expect(message.contains(#"the nearest name there is "encoder.layer.1.attention.self.kye.weight""#))
    #expect(message.contains("has shape [16, 2], [32] [hidden_size] expected from config.json"))
  }

  /// Each row changes one thing of config.json.
  static let configs: [(String, String, String)] = [
    (#""model_type":"bert","#, "", "model_type"),
    (#""model_type":"bert""#, #""model_type":"gpt2""#, "supported: bert"),
    (#""hidden_size":32"#, #""hidden_size":0"#, "out of range"),
    (#""hidden_size":32"#, #""hidden_size":"32""#, "must be an integer"),
    (#""hidden_size":32"#, #""hidden_size":32.5"#, "must be an integer"),
    (#""hidden_size":32"#, #""hidden_size":-1"#, "out of range"),
    (#""num_attention_heads":4"#, #""num_attention_heads":5"#, "must divide"),
    (#""num_attention_heads":4"#, #""num_attention_heads":0"#, "out of range"),
    (#""num_hidden_layers":2"#, #""num_hidden_layers":1000000000"#, "1000000000 layers, the checkpoint holds 2"),
    (#""num_hidden_layers":2"#, #""num_hidden_layers":3"#, "3 layers, the checkpoint holds 2"),
    (#""num_hidden_layers":2"#, #""num_hidden_layers":1"#, "1 layers, the checkpoint holds 2"),
    (#""vocab_size":18"#, #""vocab_size":19"#, "[19, 32]"),
    (#""layer_norm_eps":1e-12"#, #""layer_norm_eps":0"#, "above 0"),
    (#""layer_norm_eps":1e-12"#, #""layer_norm_eps":null"#, "must be a number"),
    (#""hidden_act":"gelu""#, #""hidden_act":"swoosh""#, "swoosh"),
    (#""hidden_act":"gelu""#, #""hidden_act":"gelu","hidden_act":"relu""#, "duplicate key"),
    (#""hidden_act":"gelu""#, #""hidden_act":"gelu","position_embedding_type":"relative_key""#, "only absolute"),
  ]

  @Test("a bad configuration is refused by name", arguments: configs.indices)
  func aBadConfigurationIsRefusedByName(_ row: Int) throws {
    let (from, to, words) = ImportTests.configs[row]
    var text = ""
    let result = try ImportTests.model(TinyBert()) { directory in
      text = String(decoding: try Repository.read(directory.path + "/model/config.json"), as: UTF8.self)
        .replacingOccurrences(of: "1e-12", with: "1e-12")
      #expect(text.contains(from), "\(from) is not in \(text)")
      try directory.write("model/config.json", text.replacingOccurrences(of: from, with: to))
    }
    let message = ImportTests.message(result)
    #expect(message.contains(words), "\(message)")
    #expect(message.contains("config.json") || message.contains("model.safetensors"))
  }

  @Test("sentence-transformers' modules decide pooling, prompts and length")
  func sentenceTransformersModulesDecidePoolingPromptsAndLength() throws {
    let (model, _) = try ImportTests.model(TinyBert()) { directory in
      try directory.write(
        "model/1_Pooling/config.json", #"{"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":false}"#)
      try directory.write("model/sentence_bert_config.json", #"{"max_seq_length":16}"#)
      try directory.write(
        "model/config_sentence_transformers.json",
        #"{"prompts":{"query":"q: ","passage":""},"default_prompt_name":"query"}"#)
    }.get()
    #expect(model.configuration.maximumTokens == 16)
    #expect(model.configuration.prompts.map(\.text) == ["q: ", ""])
    #expect(model.graph("text")?.nodes.contains { $0.op == .pool(.first) } ?? false)
    for (file, content, words) in [
      ("1_Pooling/config.json", #"{"pooling_mode":"attention"}"#, "not supported"),
      ("1_Pooling/config.json", #"{"pooling_mode":"mean","include_prompt":false}"#, "include_prompt"),
      ("modules.json", #"[{"path":"","type":"x.Transformer"},{"path":"r","type":"x.Router"}]"#, "Router"),
      (
        "modules.json", #"[{"path":"","type":"x.Transformer"},{"path":"../1_Pooling","type":"x.Pooling"}]"#,
        "relative name"
      ),
      ("modules.json", #"[{"path":"","type":"x.Transformer"},{"path":"d","type":"x.Dense"}]"#, "Dense"),
      ("config_sentence_transformers.json", #"{"prompts":{},"default_prompt_name":"q"}"#, "not among the prompts"),
    ] {
      let message = ImportTests.message(try ImportTests.model(TinyBert()) { try $0.write("model/" + file, content) })
      #expect(message.contains(words) && message.contains(file), "\(message)")
    }
  }
}
