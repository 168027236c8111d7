import Bytes
import Foundation
import Formats
import Tensors

/// A BERT checkpoint of a few kilobytes with random weights, as a model hub would lay it out.
public struct TinyBert {
  public var hidden = 32
  public var layers = 2
  public var heads = 4
  public var intermediate = 48
  public var positions = 24
  public var type: DType = .F32
  public var words = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "the", "quick", "brown", "fox", ",", ".", "a",
    "##s", "##ing", "中", "é",
  ]
  /// Applied to every tensor before it is written; nil leaves it out.
  public var change: (String, [Int], [Float]) -> (String, [Int], [Float])? = { ($0, $1, $2) }

  public init() {}

  /// Writes config.json, model.safetensors, vocab.txt and modules into `directory`.
  public func write(to directory: TemporaryDirectory, name: String = "model") throws -> String {
    let config: JSONText = [
      "model_type": "bert", "hidden_size": .int(hidden), "num_hidden_layers": .int(layers),
      "num_attention_heads": .int(heads),
      "intermediate_size": .int(intermediate), "vocab_size": .int(words.count),
      "max_position_embeddings": .int(positions),
      "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu",
    ]
    try directory.write("\(name)/config.json", config.text())
    try directory.write("\(name)/vocab.txt", words.joined(separator: "\n") + "\n")
    try directory.write(
      "\(name)/modules.json",
      #"[{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},"#
        + #"{"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.models.Pooling"},"#
        + #"{"idx":2,"name":"2","path":"2_Normalize","type":"sentence_transformers.models.Normalize"}]"#
    )
    try directory.write(
      "\(name)/1_Pooling/config.json", #"{"word_embedding_dimension":\#(hidden),"pooling_mode_mean_tokens":true}"#)
    try directory.write("\(name)/model.safetensors", safetensors())
    return directory.path + "/" + name
  }

  public func safetensors() -> [UInt8] {
    var random = Random(seed: 1)
    var entries: [(String, [Int], [Float])] = []
    func add(_ name: String, _ shape: [Int], mean: Float = 0, scale: Float = 0.2) {
      let values = (0..<shape.reduce(1, *)).map { _ in mean + scale * random.normal() }
      if let entry = change(name, shape, values) { entries.append(entry) }
    }
    add("embeddings.word_embeddings.weight", [words.count, hidden], scale: 1)
    add("embeddings.position_embeddings.weight", [positions, hidden], scale: 0.5)
    add("embeddings.token_type_embeddings.weight", [2, hidden])
    add("embeddings.LayerNorm.weight", [hidden], mean: 1)
    add("embeddings.LayerNorm.bias", [hidden])
    for layer in 0..<layers {
      let prefix = "encoder.layer.\(layer)."
      for name in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
        add(prefix + name + ".weight", [hidden, hidden])
        add(prefix + name + ".bias", [hidden])
      }
      add(prefix + "intermediate.dense.weight", [intermediate, hidden])
      add(prefix + "intermediate.dense.bias", [intermediate])
      add(prefix + "output.dense.weight", [hidden, intermediate])
      add(prefix + "output.dense.bias", [hidden])
      for name in ["attention.output.LayerNorm", "output.LayerNorm"] {
        add(prefix + name + ".weight", [hidden], mean: 1)
        add(prefix + name + ".bias", [hidden])
      }
    }
    add("pooler.dense.weight", [hidden, hidden])
    return TinyBert.safetensors(entries, type)
  }

  /// A safetensors file of plain tensors of one type.
  public static func safetensors(_ entries: [(String, [Int], [Float])], _ type: DType = .F32) -> [UInt8] {
    var data: [UInt8] = []
    var header: [(String, JSONText)] = [("__metadata__", ["format": "pt"])]
    for (name, shape, values) in entries {
      let start = data.count
      for value in values {
        switch type {
        case .BF16: withUnsafeBytes(of: UInt16(value.bitPattern >> 16).littleEndian) { data += $0 }
        default: withUnsafeBytes(of: value.bitPattern.littleEndian) { data += $0 }
        }
      }
      header.append(
        (
          name,
          [
            "dtype": .string(type.rawValue), "shape": .array(shape.map(JSONText.int)),
            "data_offsets": [.int(start), .int(data.count)],
          ]
        ))
    }
    let text = JSONText.object(header).bytes()
    var result: [UInt8] = []
    withUnsafeBytes(of: UInt64(text.count).littleEndian) { result += $0 }
    return result + text + data
  }
}
