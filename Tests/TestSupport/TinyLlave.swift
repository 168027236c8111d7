import Bytes
import Foundation
import Formats
import Inputs
import Tensors
import Testing

/// The tiny LLaVE with random weights that Tools/make-llave-goldens makes, and what is known of it.
public enum TinyLlave {
  public static let folder = Repository.root + "/Tests/Goldens/llave/"

  public struct Case: Sendable {
    public let name: String
    public let config: String
    public let item: Item
    public let tokens: Int
    public let embedding: [Float]
  }

  public static func cases() throws -> [Case] {
    try Repository.json("Tests/Goldens/llave/cases.json").elements().map { row in
      Case(
        name: try row.required("name").string(), config: try changed(try row.required("config")),
        item: try Item(try row.required("item")), tokens: try row.required("tokens").integer(in: 1...10_000),
        embedding: try row.required("embedding").elements().map { Float(try $0.double()) })
    }
  }

  /// The model's config.json with a few keys replaced.
  public static func changed(_ changes: JSON) throws -> String {
    let data = try Data(contentsOf: URL(fileURLWithPath: folder + "model/config.json"))
    var config = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    for (key, value) in try changes.members() {
      let name = String(decoding: key, as: UTF8.self)
      switch value.kind {
      case .string: config[name] = try value.string()
      case .number: config[name] = try value.integer(in: 0...1_000_000)
      default: config[name] = try value.elements().map { try $0.elements().map { try $0.integer(in: 0...10_000) } }
      }
    }
    return String(decoding: try JSONSerialization.data(withJSONObject: config), as: UTF8.self)
  }

  /// The tiny checkpoint under another configuration.
  public static func model(_ config: String? = nil) throws -> Model {
    guard let config else {
      var notes: [String] = []
      return try Import.model(try Checkpoint.open(folder + "model"), notes: &notes)
    }
    let directory = try TemporaryDirectory()
    try directory.write("config.json", config)
    for name in ["model.safetensors", "tokenizer.json"] {
      try FileManager.default.createSymbolicLink(
        atPath: directory.path + "/" + name, withDestinationPath: folder + "model/" + name)
    }
    var notes: [String] = []
    var model = try Import.model(try Checkpoint.open(directory.path), notes: &notes)
    // The directory goes away before the model does.
    for tensor in model.tensors {
      model.set(
        Tensor(
          tensor.name, shape: tensor.shape, encoding: tensor.encoding, content: .bytes(ByteView(try tensor.load()))))
    }
    return model
  }

  public static func builder(_ model: Model) throws -> SampleBuilder {
    let tokenizer = try Tokenizer.load { (name) throws(Failure) in try model.file(name) }
    return SampleBuilder(model.configuration, tokenizer: tokenizer)
  }

  public static func samples() throws -> (model: Model, prefix: [Int32], samples: [Sample]) {
    let model = try TinyLlave.model()
    let builder = try TinyLlave.builder(model)
    let samples = try TinyLlave.cases().filter { $0.config.contains("\"grid\"") && $0.tokens != 60 }.map {
      try builder.build($0.item, folder: TinyLlave.folder).sample
    }
    return (model, builder.prefix, samples)
  }
}
