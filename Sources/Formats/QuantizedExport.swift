import Bytes
import CKernels
import Tensors

/// Grouped integers as other programs store them beside safetensors: compressed-tensors (llm-compressor, vLLM,
/// transformers) and MLX. Codes and scales are taken over exactly; nothing is rounded.
public enum QuantizedLayout: Sendable {
  case compressedTensors, mlx

  /// Group sizes that MLX's kernels have.
  private static let mlxGroups = [32, 64, 128]

  /// The tensors that stand for `tensor`.
  ///
  /// - Parameter isInput8: whether the operation that reads the weight rounds its input to eight bits.
  /// - Throws: `unsupported` for encodings that the layout cannot hold.
  func tensors(_ tensor: Tensor, _ integers: GroupedInteger, isInput8: Bool) throws(Failure) -> [Tensor] {
    guard let layout = integers.layout(tensor.shape), tensor.shape.count == 2 else {
      throw Failure(.unsupported, "is no matrix of groups", thing: "tensor \(tensor.name.quoted)")
    }
    func refuse(_ what: String) -> Failure { Failure(.unsupported, what, thing: "tensor \(tensor.name.quoted)") }
    guard tensor.columns % integers.groupSize == 0, tensor.columns * integers.bits % 32 == 0 else {
      throw refuse("has rows of \(tensor.columns), which are not whole groups of \(integers.groupSize) in 32-bit words")
    }
    guard integers.form != .twoLevel else {
      throw refuse("has groups in two levels, which the format does not hold; quantize with --symmetric or --affine")
    }
    let parts = Parts(tensor, integers, layout)
    switch self {
    case .compressedTensors:
      guard integers.form == .symmetric else {
        throw refuse("has zeros that are no whole codes, which compressed-tensors needs; quantize with --symmetric")
      }
      if integers.bits == 8, isInput8 { return [parts.codes("weight", .I8, flip: 0), parts.scales("weight_scale")] }
      return [
        parts.codes("weight_packed", .I32, flip: integers.bits == 8 ? 0x80 : 0x88), parts.scales("weight_scale"),
        try parts.shape("weight_shape"),
      ]
    case .mlx:
      guard QuantizedLayout.mlxGroups.contains(integers.groupSize) else {
        throw refuse("has groups of \(integers.groupSize); MLX has 32, 64 and 128")
      }
      let flip: UInt8 = integers.isAffine ? 0 : integers.bits == 8 ? 0x80 : 0x88
      return [parts.codes("weight", .U32, flip: flip), parts.scales("scales"), parts.biases("biases")]
    }
  }

  /// The pieces of one tensor's bytes.
  private struct Parts {
    let tensor: Tensor
    let integers: GroupedInteger
    let layout: GroupedInteger.Layout

    init(_ tensor: Tensor, _ integers: GroupedInteger, _ layout: GroupedInteger.Layout) {
      self.tensor = tensor
      self.integers = integers
      self.layout = layout
    }

    /// `x.weight` to `x.NAME`.
    private func named(_ suffix: String) -> TensorName {
      TensorName(tensor.name.bytes.dropLast("weight".utf8.count) + [UInt8](suffix.utf8))
    }

    private func made(
      _ suffix: String, _ type: DType, _ shape: [Int], _ bytes: @escaping @Sendable (Buffer) throws(Failure) -> Buffer
    ) -> Tensor {
      let tensor = tensor
      let computation = Tensor.Computation { (threads) throws(Failure) in
        (try bytes(try tensor.load(threads: threads)), nil)
      }
      return Tensor(named(suffix), shape: shape, encoding: .plain(type), content: .computed(computation))
    }

    /// Codes as they lie, earlier ones in lower bits, with the bits of `flip` turned: two's complement to offset
    /// binary.
    func codes(_ suffix: String, _ type: DType, flip: UInt8) -> Tensor {
      let count = layout.rows * layout.rowBytes
      return made(suffix, type, [layout.rows, layout.rowBytes * 8 / type.bits]) { (all) throws(Failure) in
        let result = try Buffer(count: count)
        all.withBytes { from in
          result.withMutableBytes { to in for index in 0..<count { to[index] = from[index] ^ flip } }
        }
        return result
      }
    }

    private func copied(_ suffix: String, from: Int) -> Tensor {
      let size = layout.rows * layout.groups * integers.scaleType.bits / 8
      return made(suffix, integers.scaleType, [layout.rows, layout.groups]) { (all) throws(Failure) in
        let result = try Buffer(count: size)
        try ByteView(all).read((from, size, 0), into: result)
        return result
      }
    }

    func scales(_ suffix: String) -> Tensor { copied(suffix, from: layout.scalesAt) }

    /// What is added to `code · scale`: the zeros, or what offset binary adds to the codes, times the scale.
    func biases(_ suffix: String) -> Tensor {
      if integers.isAffine { return copied(suffix, from: layout.zerosAt) }
      let (integers, layout) = (integers, layout)
      let offset = Float(integers.bits == 8 ? -128 : -8)
      return made(suffix, integers.scaleType, [layout.rows, layout.groups]) { (all) throws(Failure) in
        let count = layout.rows * layout.groups
        let values = try Buffer(count: count * 4)
        let result = try Buffer(count: count * integers.scaleType.bits / 8)
        all.withBytes { from in
          values.with(Float.self) { values in
            if let base = from.baseAddress { integers.decodeScales(base + layout.scalesAt, into: values) }
            for index in values.indices { values[index] *= offset }
            result.withMutableBytes { to in
              if let target = to.baseAddress { integers.encodeScales(UnsafeBufferPointer(values), into: target) }
            }
          }
        }
        return result
      }
    }

    func shape(_ suffix: String) throws(Failure) -> Tensor {
      let buffer = try Buffer(count: 16)
      buffer.with(Int64.self) {
        $0[0] = Int64(layout.rows); $0[1] = Int64(layout.columns)
      }
      return Tensor(named(suffix), shape: [2], encoding: .plain(.I64), content: .bytes(ByteView(buffer)))
    }
  }
}

// MARK: Configuration

extension QuantizedLayout {
  /// What `config.json` says of the quantized weights.
  ///
  /// - Parameters:
  ///   - weights: names without `.weight`, as transformers' modules are called.
  ///   - kept: such names of matrices that are not quantized.
  func configuration(
    _ weights: [(module: String, integers: GroupedInteger, columns: Int, isInput8: Bool)], kept: [String]
  ) -> (key: String, value: JSONText) {
    switch self {
    case .compressedTensors: ("quantization_config", compressed(weights, kept))
    case .mlx: ("quantization", mlx(weights, kept))
    }
  }

  private func compressed(
    _ weights: [(module: String, integers: GroupedInteger, columns: Int, isInput8: Bool)], _ kept: [String]
  ) -> JSONText {
    var groups: [(scheme: JSONText, format: String, modules: [String])] = []
    for weight in weights {
      let isChannel = weight.integers.groupSize == weight.columns
      var numbers: [(String, JSONText)] = [
        ("num_bits", .int(weight.integers.bits)), ("type", "int"), ("symmetric", true),
        ("strategy", .string(isChannel ? "channel" : "group")),
      ]
      if !isChannel { numbers.append(("group_size", .int(weight.integers.groupSize))) }
      let input: JSONText =
        weight.isInput8
        ? ["num_bits": 8, "type": "int", "symmetric": true, "strategy": "token", "dynamic": true] : .null
      let scheme: JSONText = ["weights": .object(numbers), "input_activations": input, "output_activations": .null]
      if let index = groups.firstIndex(where: { $0.scheme == scheme }) {
        groups[index].modules.append(weight.module)
      } else {
        let isInteger = weight.isInput8 && weight.integers.bits == 8
        groups.append((scheme, isInteger ? "int-quantized" : "pack-quantized", [weight.module]))
      }
    }
    let formats = Set(groups.map(\.format))
    let members = groups.enumerated().map { index, group -> (String, JSONText) in
      guard case .object(var scheme) = group.scheme else { return ("", .null) }
      let targets = groups.count == 1 ? [JSONText.string("Linear")] : group.modules.map { .string(pattern($0)) }
      scheme.append(("targets", .array(targets)))
      scheme.append(("format", .string(group.format)))
      return ("group_\(index)", .object(scheme))
    }
    // transformers 5 leaves weights as codes until a hook of the whole model runs, which sentence-transformers does not
    // call, and for which a tower's layers have no weight to start from. Others do not know the key.
    return [
      "quant_method": "compressed-tensors", "quantization_status": "compressed", "dequantize": true,
      "format": .string(formats.count == 1 ? groups[0].format : "mixed-precision"), "config_groups": .object(members),
      "ignore": .array((kept.map(pattern) + ["lm_head"]).map(JSONText.string)), "kv_cache_scheme": .null,
    ]
  }

  /// Modules have a prefix or none, as the class that loads them goes; in transformers 5 a tower has no `vision_model`.
  private func pattern(_ module: String) -> String {
    let parts = module.split(separator: ".").map { $0 == "vision_model" ? "(vision_model\\.)?" : $0 + "\\." }
    return "re:(.*\\.)?\(parts.joined().dropLast(2))$"
  }

  private func mlx(
    _ weights: [(module: String, integers: GroupedInteger, columns: Int, isInput8: Bool)], _ kept: [String]
  ) -> JSONText {
    func numbers(_ integers: GroupedInteger) -> [(String, JSONText)] {
      [("group_size", .int(integers.groupSize)), ("bits", .int(integers.bits)), ("mode", "affine")]
    }
    guard let first = weights.first else { return .object([]) }
    var members = numbers(first.integers)
    for weight in weights where numbers(weight.integers).map(\.1) != numbers(first.integers).map(\.1) {
      members.append((weight.module, .object(numbers(weight.integers))))
    }
    for module in kept { members.append((module, false)) }
    return .object(members)
  }
}
