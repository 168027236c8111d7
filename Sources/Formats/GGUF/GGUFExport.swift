import Bytes
import Tensors

/// A model as GGUF files: one for a text model, two for the LLaVE family (the second, `NAME-mmproj.gguf`, for
/// pictures).
public struct GGUFExport: Sendable {
  private let plans: [GGUFPlan]
  /// What could not be had as asked, for people, before anything is written.
  public let notes: [String]

  public struct Options: Sendable {
    /// ggml's type for weights of linear operations; nil keeps what each tensor is.
    public var type: String?
    /// For the token table. nil for eight bits, or for `type` where that is wider.
    public var table: String?
    /// Bytes of data of a file at most; nil for one file.
    public var split: Int?

    public init(type: String? = nil, table: String? = nil, split: Int? = nil) {
      self.type = type
      self.table = table
      self.split = split
    }
  }

  /// Bytes of all files.
  public func fileBytes() throws(Failure) -> Int {
    var total = 0
    for plan in plans { total += try plan.fileBytes() }
    return total
  }

  /// Types of blocks that are written.
  public static let blockTypes = BlockEncoder.writable.filter { BlockType.named($0)?.elements ?? 1 > 1 }
    .joined(separator: " ")

  /// Decides names, types and keys; no tensor's bytes are touched.
  public init(_ model: Model, path: String, _ options: Options) throws(Failure) {
    let family = try Family(exporting: model)
    let choice = try TypeChoice(options)
    var notes: [String] = []
    var plans: [GGUFPlan] = []
    let tokenizer = try GGUFTokenizerKeys(family.checkpoint, rows: try GGUFExport.tokenRows(family))
    func plan(
      _ path: String, _ names: GGUFNames, _ keys: [GGUFKey], of text: (any GGUFFamily)? = nil
    ) throws(Failure) -> GGUFPlan {
      var entries: [GGUFPlan.Entry] = []
      for tensor in try text?.together(family.tensors, forGGUF: true) ?? family.tensors {
        let own = tensor.name.text == GGUFNames.newline.checkpoint && keys.contains { $0.name == "clip.projector_type" }
        guard let name = own ? GGUFNames.newline.ggml[0] : names.ggml(tensor.name.text) else { continue }
        let tensor = try text?.ggufTensor(tensor) ?? tensor
        let (type, isKept) = try choice.type(of: tensor, name, &notes)
        entries.append(.init(name: name, tensor: tensor, type: type, isKept: isKept))
      }
      return GGUFPlan(path: path, keys: keys + [.init("general.file_type", .uint32(choice.fileType))], entries: entries)
    }
    switch family.kind {
    case .text(let text):
      let text = try GGUFExport.family(text)
      plans.append(try plan(path, text.ggufNames, try text.ggufKeys(model) + tokenizer.keys, of: text))
    case .llave(let facts):
      let stem = path.hasSuffix(".gguf") ? String(path.dropLast(5)) : path
      plans.append(try plan(path, .qwen2, try facts.text.ggufKeys("qwen2", model) + tokenizer.keys))
      plans.append(try plan(stem + "-mmproj.gguf", .clip, try facts.keys()))
    case .siglip:
      throw Failure(.unsupported, "ggml has no architecture for a SigLIP tower alone")
    }
    let written = Set(plans.flatMap { $0.entries.map(\.tensor.name) })
    for tensor in family.tensors where !written.contains(tensor.name) {
      notes.append("tensor \(tensor.name.quoted) has no name in GGUF and is left out")
    }
    if !model.configuration.prompts.isEmpty { notes.append("prompts are left out: GGUF has no keys for them") }
    self.notes = notes
    guard let size = options.split else {
      self.plans = plans
      return
    }
    var parts: [GGUFPlan] = []
    for plan in plans { parts += try plan.split(size: size) }
    self.plans = parts
  }

  /// Rows of the token table: as many tokens as the vocabulary must have, whatever the configuration says.
  private static func tokenRows(_ family: Family) throws(Failure) -> Int {
    switch family.kind {
    case .text(let text): return text.vocabulary
    case .llave(let facts): return facts.text.vocabulary
    case .siglip: throw Failure(.unsupported, "the model has no token table, and GGUF no architecture for it")
    }
  }

  /// Files in the order written, with the bytes of their data.
  public func files() throws(Failure) -> [(path: String, bytes: Int)] {
    var result: [(String, Int)] = []
    for plan in plans { result.append((plan.path, try plan.dataBytes())) }
    return result
  }

  /// Type and number of tensors of each type.
  public var types: [(name: String, tensors: Int)] {
    var counts: [String: Int] = [:]
    for entry in plans.flatMap(\.entries) { counts[entry.type.name, default: 0] += 1 }
    return counts.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }

  /// Writes all files, and makes them visible when all are whole.
  ///
  /// - Returns: what each tensor lost that was rounded.
  public func write(
    isReplacing: Bool, threads: Int, progress: (_ bytes: Int) -> Void
  ) throws(Failure) -> [(name: String, loss: TensorLoss)] {
    var losses: [(name: String, loss: TensorLoss)] = []
    var outputs: [OutputFile] = []
    var done = 0
    for plan in plans { outputs.append(try OutputFile(plan.path, isReplacing: isReplacing)) }
    for (plan, output) in zip(plans, outputs) {
      try plan.write(output, threads: threads, losses: &losses) {
        done += $0
        progress(done)
      }
    }
    for output in outputs { try output.commit() }
    return losses
  }
}

/// Which type each tensor gets.
private struct TypeChoice {
  private let wanted, table: BlockType?

  init(_ options: GGUFExport.Options) throws(Failure) {
    wanted = try options.type.map { (name) throws(Failure) in try TypeChoice.find(name) }
    if let name = options.table {
      table = try TypeChoice.find(name)
    } else {
      // Errors in the token table reach every layer.
      table = wanted.flatMap { $0.elements > 1 ? BlockType.named("Q8_0") : $0 }
    }
  }

  private static func find(_ name: String) throws(Failure) -> BlockType {
    guard let type = BlockType.named(name), BlockEncoder.writable.contains(type.name) else {
      throw Failure(
        .usage, "type \(Failure.quoted(name)) is not written; \(BlockEncoder.writable.joined(separator: ", ")) are")
    }
    return type
  }

  /// As llama.cpp numbers a file's main type.
  var fileType: Int {
    let numbers = [
      "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K": 12, "Q4_K": 14,
      "Q5_K": 16, "Q6_K": 18,
      "IQ4_NL": 25, "BF16": 32,
    ]
    return wanted.flatMap { numbers[$0.name] } ?? 1024  // guessed: kept as it was
  }

  /// Small tensors that ggml reads in Float32 alone, or that are too few to be worth rounding.
  private static let whole: Set<String> = [
    "position_embd.weight", "token_types.weight", "v.position_embd.weight", "v.patch_embd.weight",
  ]

  /// - Returns: the type, and whether it must hold the tensor's own values.
  func type(
    of tensor: Tensor, _ name: String, _ notes: inout [String]
  ) throws(Failure) -> (type: BlockType, isKept: Bool) {
    if tensor.shape.count < 2 || TypeChoice.whole.contains(name) { return (try TypeChoice.find("F32"), false) }
    guard let asked = name == "token_embd.weight" ? table : wanted else {
      guard let own = try BlockEncoder.keeping(tensor) else {
        throw Failure(
          .unsupported, "is \(tensor.encoding.text), which no GGUF type holds; choose one with --type",
          thing: "tensor \(tensor.name.quoted)")
      }
      return (own, true)
    }
    if tensor.columns % asked.elements == 0 { return (asked, false) }
    // As llama.cpp falls back: the nearest type of blocks of 32, then none.
    let smaller = BlockForm(rawValue: asked.name)?.fallback.flatMap { BlockType.named($0.rawValue) }
    let fallback = smaller.flatMap { tensor.columns % $0.elements == 0 ? $0 : nil }
    let half = try TypeChoice.find("F16")
    let chosen = fallback ?? half
    notes.append(
      "\(name): rows of \(tensor.columns) are no multiple of \(asked.elements), \(chosen.name) in the place of "
        + "\(asked.name)"
    )
    return (chosen, false)
  }
}

// MARK: Keys

extension Llave.Facts {
  fileprivate func keys() throws(Failure) -> [GGUFKey] {
    let half = GGUFKey.Value.float32s([0.5, 0.5, 0.5])
    guard scaling == PictureScaling.siglip else {
      throw Failure(.unsupported, "pictures are not scaled to -1…1, as an mmproj file of this kind means")
    }
    return [
      .init("general.architecture", .string("clip")), .init("general.type", .string("mmproj")),
      .init("general.quantization_version", .uint32(2)), .init("clip.has_vision_encoder", .bool(true)),
      .init("clip.projector_type", .string("mlp")), .init("clip.use_gelu", .bool(true)),
      .init("clip.vision.image_size", .uint32(vision.tile)), .init("clip.vision.patch_size", .uint32(vision.patch)),
      .init("clip.vision.embedding_length", .uint32(vision.width)),
      .init("clip.vision.feed_forward_length", .uint32(vision.intermediate)),
      .init("clip.vision.block_count", .uint32(depth)),
      .init("clip.vision.projection_dim", .uint32(text.hidden)),
      .init("clip.vision.attention.head_count", .uint32(vision.heads)),
      .init("clip.vision.attention.layer_norm_epsilon", .float32(vision.epsilon)),
      .init("clip.vision.image_mean", half), .init("clip.vision.image_std", half),
      // Without it the reader would stop one layer early: the layer that is never used is not in the file.
      .init("clip.vision.feature_layer", .int32s([depth])),
      .init("clip.vision.mm_patch_merge_type", .string("spatial_unpad")),
      .init("clip.vision.image_grid_pinpoints", .int32s(pictures.grid.flatMap { [$0.width, $0.height] })),
      .init("llvconv.image_aspect_ratio", .string("anyres_max_\(pictures.maximumViews ?? 9)")),
      .init("llvconv.newline_position", .string(pictures.newline.rawValue)),
      .init(GGUFKeys.ownTokens.key, .uint32(maximumTokens)),
    ]
  }
}
