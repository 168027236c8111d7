import Bytes
import Tensors

/// A low-rank adapter as PEFT writes it (LoRA, Hu et al. 2021): for some weights W two factors, A `[r, columns]` and B
/// `[rows, r]`, and a scale α / r.
struct LowRankAdapter {
  /// Of each module, by its name in the base model.
  private(set) var factors: [(module: String, a: Tensor, b: Tensor)] = []
  private(set) var scale = 1.0
  let file: InputFile

  /// - Parameter directory: with `adapter_config.json` and `adapter_model.safetensors`.
  /// - Throws: `unsupported` for adapters of other kinds, and for what cannot be merged.
  init(_ directory: String) throws(Failure) {
    let folder = directory.hasSuffix("/") ? directory : directory + "/"
    let settings = folder + "adapter_config.json"
    let bytes = try InputFile(settings).all(limit: Limits.config, what: "file")
    let rank: Int
    do throws(Failure) {
      let json = try JSON.parse(bytes, what: "adapter_config.json")
      let kind = try json.required("peft_type")
      guard try kind.string("peft_type") == "LORA" else {
        throw kind.failure("adapters of type \(Failure.quoted(try kind.bytes())) are not read; LORA is", .unsupported)
      }
      for key in ["use_dora", "fan_in_fan_out", "lora_bias"] { try json.require(key, false) }
      for key in ["rank_pattern", "alpha_pattern"] {
        if let value = json.optional(key), try !value.members(key).isEmpty {
          throw value.failure("\(key): layers with a rank or scale of their own are not read", .unsupported)
        }
      }
      rank = try json.size("r")
      let alpha = try json.required("lora_alpha").double("lora_alpha")
      let isRooted = try json.optional("use_rslora")?.bool("use_rslora") ?? false
      scale = alpha / (isRooted ? Double(rank).squareRoot() : Double(rank))
      guard scale.isFinite else { throw json.failure("lora_alpha must be a finite number") }
    } catch { throw error.inFile(settings) }
    file = try InputFile(folder + "adapter_model.safetensors")
    do throws(Failure) { try read(try Safetensors.read(file).tensors, rank) } catch { throw error.inFile(file.path) }
  }

  private mutating func read(_ tensors: [Tensor], _ rank: Int) throws(Failure) {
    let (head, tails) = ("base_model.model.", [".lora_A.weight", ".lora_B.weight"])
    var parts: [String: [Tensor?]] = [:]
    for tensor in tensors {
      let name = tensor.name.text
      guard name.hasPrefix(head), let which = tails.firstIndex(where: name.hasSuffix) else {
        throw Failure(.unsupported, "is no factor of a weight", thing: "tensor \(tensor.name.quoted)")
      }
      let module = String(name.dropFirst(head.count).dropLast(tails[which].count))
      parts[module, default: [nil, nil]][which] = tensor
    }
    for (module, pair) in parts.sorted(by: { $0.key < $1.key }) {
      guard let a = pair[0], let b = pair[1], a.shape.count == 2, b.shape.count == 2, a.shape[0] == rank,
        b.shape[1] == rank
      else {
        throw Failure(
          .malformed, "needs two factors of rank \(rank), found \(pair.compactMap { $0?.shape })",
          thing: "module \(Failure.quoted(module))")
      }
      factors.append((module, a, b))
    }
    guard !factors.isEmpty else { throw Failure(.malformed, "holds no factors") }
  }

  /// `W + scale · B A`, in Float32.
  ///
  /// - Rounding: sums in double, rounded once; then one addition.
  fileprivate func merged(_ weight: Tensor, _ a: Tensor, _ b: Tensor) -> Tensor {
    let (rows, columns, rank, scale) = (weight.rows, weight.columns, a.rows, scale)
    let content = Tensor.Computation { (threads) throws(Failure) in
      let (result, first, second) = (try weight.floats(threads: threads), try a.floats(), try b.floats())
      func shared(_ buffer: Buffer) -> SharedPointer<Float> {
        SharedPointer(buffer.start.assumingMemoryBound(to: Float.self))
      }
      let (target, wide, tall) = (shared(result), shared(first), shared(second))
      try parallel(rows, threads: threads) { row in
        var sums = [Double](repeating: 0, count: columns)
        let factors = tall.pointer + row * rank
        for place in 0..<rank {
          let factor = Double(factors[place])
          let from = wide.pointer + place * columns
          for column in 0..<columns { sums[column] += factor * Double(from[column]) }
        }
        let to = target.pointer + row * columns
        for column in 0..<columns { to[column] += Float(scale * sums[column]) }
      }
      withExtendedLifetime((first, second)) {}
      return (result, nil)
    }
    return Tensor(weight.name, shape: weight.shape, encoding: .plain(.F32), content: .computed(content))
  }
}

extension Checkpoint {
  /// Merges an adapter into the weights that it was trained for.
  ///
  /// - Throws: `malformed` for a factor whose weight the checkpoint lacks, or has with another shape.
  public mutating func merge(adapter directory: String) throws(Failure) {
    let adapter = try LowRankAdapter(directory)
    for (module, a, b) in adapter.factors {
      // The adapter's base may have stood in another class, whose names have another prefix.
      let name = module + ".weight"
      let places = tensors.indices.filter { index in
        let own = tensors[index].name.text
        return own == name || own.hasSuffix("." + name) || name.hasSuffix("." + own)
      }
      let thing = "module \(Failure.quoted(module))"
      guard places.count == 1, case let weight = tensors[places[0]] else {
        throw Failure(
          .malformed, "is of \(places.count) weights of the checkpoint, one expected", file: adapter.file.path,
          thing: thing)
      }
      guard weight.shape == [b.rows, a.columns], weight.encoding.isPlain else {
        throw Failure(
          .malformed,
          "changes a weight of shape [\(b.rows), \(a.columns)], the checkpoint's has \(weight.shape) as "
            + weight.encoding.text, file: adapter.file.path, thing: thing)
      }
      tensors[places[0]] = adapter.merged(weight, a, b)
    }
    weights.append(adapter.file)
    notes.append("an adapter is merged into \(adapter.factors.count) weights, which are Float32 now")
  }
}
