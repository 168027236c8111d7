import Bytes
import Tensors

/// A model taken back to the checkpoint it came from: which family it is of, what the configuration says, and every
/// tensor under the name it has in the family's first layout. Where export starts.
public struct Family {
  enum Kind {
    case text(any TextFamily)
    case llave(Llave.Facts)
    case siglip
  }

  private(set) var kind: Kind
  /// With the names of the family's first layout: `embeddings.…` for BERT, `model.layers.…` for decoders, the authors'
  /// for LLaVE.
  public let tensors: [Tensor]
  /// With the names of the layout that was imported, in the order of `tensors`: the model's, then what a checkpoint
  /// must have besides.
  private(set) var checkpoint: Checkpoint
  private let architecture: Architecture

  /// - Throws: `unsupported` for a model whose operations are fused, because no other program knows its tensors.
  public init(_ model: Model) throws(Failure) {
    checkpoint = try Checkpoint(model)
    guard let config = try checkpoint.json("config.json") else {
      throw Failure(.unsupported, "the container holds no config.json; import the checkpoint again")
    }
    if let tensor = checkpoint.tensors.first(where: { $0.name.isFused }) { throw Family.refusal(tensor.name) }
    var notes: [String] = []
    let shapes = Shapes(checkpoint.tensors)
    switch model.configuration.architecture {
    case "llava_onevision":
      guard let layout = Llave.Layout(shapes) else { throw Failure(.malformed, "the projector's tensors are missing") }
      let facts = try Llave.Facts(checkpoint, config: config, layout, shapes, notes: &notes)
      (kind, architecture) = (.llave(facts), Llave.architecture(facts))
      checkpoint.tensors = try architecture.completed(checkpoint.tensors)
      if facts.depth < facts.vision.layers { try checkpoint.declare(visionLayers: facts.depth, config) }
      tensors = layout.renamed(checkpoint.tensors, to: .original)
    case "siglip":
      let prefix = Siglip.prefix(shapes) ?? ""
      kind = .siglip
      architecture = Siglip.architecture(try Siglip.numbers(config, prefix: prefix, shapes), prefix: prefix)
      checkpoint.tensors = try architecture.completed(checkpoint.tensors)
      tensors = checkpoint.tensors
    case let name:
      guard let type = try TextFamilies.family(name, config) else {
        throw Failure(.unsupported, "architecture \(Failure.quoted(name)) cannot be exported")
      }
      let family = try type.init(config, shapes, notes: &notes)
      (kind, architecture) = (.text(family), family.architecture)
      checkpoint.tensors = try architecture.completed(checkpoint.tensors)
      tensors = checkpoint.tensors.renamed(from: family.prefixes.own, to: family.prefixes.first)
    }
    if let tensor = checkpoint.tensors.first(where: { $0.name.bytes.contains(UInt8(ascii: "+")) }) {
      throw Family.refusal(tensor.name)
    }
  }

  /// How the checkpoint of a model scales pixels; nil for a model without pictures.
  public static func pixels(of model: Model) throws(Failure) -> Op.Rescale? {
    guard model.configuration.vision != nil else { return nil }
    if Shapes(model.tensors).has(Llave.Layout.original.projector[0] + ".weight") { return PictureScaling.siglip }
    var notes: [String] = []
    return try PictureScaling.read(try Checkpoint(model), notes: &notes)
  }

  /// Modules that other programs make whether the checkpoint holds them or not, and that no embedding reads.
  var unusedModules: [String] {
    architecture.rules.filter { $0.need == .unused && $0.pattern.hasSuffix(".weight") }.map {
      architecture.prefix + $0.pattern.dropLast(".weight".count)
    }
  }

  private static func refusal(_ name: TensorName) -> Failure {
    Failure(
      .unsupported, "is of no checkpoint, and what passes did to it cannot be undone; quantize with --no-fuse",
      thing: "tensor \(name.quoted)")
  }

  /// Holds a model to what other programs read: a bias that rounding asked for (`quantize --calibration`) needs a
  /// place.
  ///
  /// - Parameter format: for the message.
  /// - Throws: `unsupported` for the first bias that a checkpoint of this family does not have.
  public func refuseForeignBiases(_ model: Model, format: String) throws(Failure) {
    for node in model.graphs.flatMap(\.graph.nodes) where node.inputs.count > 2 {
      guard case .linear = node.op, case .tensor(let name) = node.inputs[2],
        !architecture.has(name, among: checkpoint.tensors)
      else { continue }
      throw Failure(
        .unsupported,
        "makes up for what rounding its weight changed, which \(format) has no place for; quantize again with "
          + "--for FORMAT",
        thing: "tensor \(name.quoted)")
    }
  }
}

extension Family {
  /// The same for other programs, which read from the configuration how pictures are laid out.
  ///
  /// - Throws: `unsupported` for what a configuration has no words for.
  init(exporting model: Model) throws(Failure) {
    try self.init(model)
    guard case .llave(var facts) = kind, let vision = model.configuration.vision else { return }
    guard vision.pooling == 1 else {
      throw Failure(
        .unsupported,
        "pictures are pooled (quantize --pool-pictures), which no checkpoint can say: other programs would not do it"
      )
    }
    guard !vision.grid.isEmpty else {
      throw Failure(
        .unsupported,
        "every picture is one view (quantize --views 1), which no checkpoint of this family can say; --views 2 it can")
    }
    guard facts.pictures.grid != vision.grid else { return }
    facts.pictures.grid = vision.grid
    kind = .llave(facts)
    try checkpoint.declare(vision.grid, isWidthFirst: facts.layout.isOriginal)
  }
}

extension Checkpoint {
  /// Puts a grid in the place of the one in the configuration and in the processor's.
  fileprivate mutating func declare(_ grid: [Vision.Size], isWidthFirst: Bool) throws(Failure) {
    let pairs = JSONText.array(
      grid.map { .array(isWidthFirst ? [.int($0.width), .int($0.height)] : [.int($0.height), .int($0.width)]) })
    for name in ["config.json", "preprocessor_config.json", "processor_config.json"] {
      guard let bytes = made[name] else { continue }
      let old = try JSONText(try JSON.parse(bytes, what: name))
      let new = old.replacing("image_grid_pinpoints", by: pairs)
      if new != old { made[name] = new.bytes(pretty: true) }
    }
  }
}

extension JSONText {
  /// With another value for every member of this name, however deep.
  fileprivate func replacing(_ key: String, by value: JSONText) -> JSONText {
    switch self {
    case .object(let members):
      .object(members.map { ($0.0, $0.0 == key ? value : $0.1.replacing(key, by: value)) })
    case .array(let values): .array(values.map { $0.replacing(key, by: value) })
    default: self
    }
  }
}

extension Checkpoint {
  /// A model's tensors and files.
  fileprivate init(_ model: Model) throws(Failure) {
    self.init(tensors: model.tensors, weights: [], directory: "", notes: [])
    for file in model.files { made[file.name] = try model.file(file.name) }
    isMade = true
  }
}

extension Checkpoint {
  /// Says in `config.json` that the tower has as many layers as import kept, and that the last one's state is used.
  fileprivate mutating func declare(visionLayers: Int, _ config: JSON) throws(Failure) {
    var members: [(String, JSONText)] = []
    for (key, value) in try config.members() {
      let name = String(decoding: key, as: UTF8.self)
      switch name {
      case "vision_feature_layer": members.append((name, -1))
      case "vision_config":
        var tower: [(String, JSONText)] = []
        for (key, value) in try value.members() where !key.elementsEqual("num_hidden_layers".utf8) {
          tower.append((String(decoding: key, as: UTF8.self), try JSONText(value)))
        }
        members.append((name, .object(tower + [("num_hidden_layers", .int(visionLayers))])))
      default: members.append((name, try JSONText(value)))
      }
    }
    made["config.json"] = JSONText.object(members).bytes(pretty: true)
  }
}

extension TensorName {
  /// Whether a pass made it: `a.{q,k}.weight`, `a.weight+scaled`. (`a.weight+gain` may be a norm's.)
  fileprivate var isFused: Bool {
    let rest = text.hasSuffix("+gain") ? text.dropLast(5) : text[...]
    return rest.contains { $0 == "{" || $0 == "+" }
  }
}

extension [Tensor] {
  /// With another prefix in the place of `old`, where a name has it.
  func renamed(from old: String, to new: String) -> [Tensor] {
    map { tensor in
      guard old != new, tensor.name.bytes.starts(with: old.utf8) else { return tensor }
      return tensor.renamed(TensorName([UInt8](new.utf8) + tensor.name.bytes.dropFirst(old.utf8.count)))
    }
  }
}
