import Bytes
import CKernels
import Tensors

/// Grouped integers as other programs store them beside safetensors: compressed-tensors (llm-compressor, vLLM,
/// transformers) and MLX. Codes and scales are taken over exactly; nothing is rounded.
public enum QuantizedLayout: String, Sendable {
  case compressedTensors = "compressed-tensors"
  case mlx

  /// Group sizes that MLX's kernels have.
  private static let mlxGroups = [32, 64, 128]

  /// A tensor's groups as the layout has them.
  struct Stored {
    let tensors: [Tensor]
    let bits: Int
    /// nil for one group a row.
    let group: Int?
    let isSymmetric: Bool
    /// Whether codes are bytes of their own, which goes with inputs that are rounded to eight bits.
    let isUnpacked: Bool
    let roundsInputs: Bool
  }

  /// What stands for `tensor`. Codes and steps are looked at, because the IR has one encoding for several bits.
  ///
  /// - Parameter isInput8: whether the operation that reads the weight rounds its input to eight bits.
  /// - Throws: `unsupported` for encodings that the layout cannot hold.
  func stored(_ tensor: Tensor, _ integers: GroupedInteger, isInput8: Bool) throws(Failure) -> Stored {
    guard let layout = integers.layout(tensor.shape), tensor.shape.count == 2 else {
      throw Failure(.unsupported, "is no matrix of groups", thing: "tensor \(tensor.name.quoted)")
    }
    func refuse(_ what: String) -> Failure { Failure(.unsupported, what, thing: "tensor \(tensor.name.quoted)") }
    guard tensor.columns % integers.groupSize == 0, tensor.columns * integers.bits % 32 == 0 else {
      throw refuse("has rows of \(tensor.columns), which are not whole groups of \(integers.groupSize) in 32-bit words")
    }
    guard integers.form != .twoLevel else {
      throw refuse("has groups in two levels, which the format does not hold; quantize --for \(rawValue)")
    }
    let parts = Parts(tensor, integers, layout)
    let group = integers.groupSize == tensor.columns ? nil : integers.groupSize
    switch self {
    case .compressedTensors:
      guard integers.bits >= 4 else {
        throw refuse(
          "has \(integers.bits) bits; programs that read the format have 4 and 8: quantize --for \(rawValue) --bits 4")
      }
      let scales = try parts.scaleType()
      let isSymmetric = integers.form == .symmetric
      guard isSymmetric ? true : try parts.hasWholeZeros() else {
        throw refuse("has zeros that are no whole codes, which the format needs; quantize --for \(rawValue)")
      }
      guard isInput8 else {
        let tensors = [
          parts.codes("weight_packed", .I32, flip: !isSymmetric ? 0 : integers.bits == 8 ? 0x80 : 0x88),
          parts.scales("weight_scale", scales), try parts.shape("weight_shape"),
        ]
        return Stored(
          tensors: tensors + (isSymmetric ? [] : [parts.packedZeros("weight_zero_point")]), bits: integers.bits,
          group: group, isSymmetric: isSymmetric, isUnpacked: false, roundsInputs: false)
      }
      guard isSymmetric else { throw refuse("has zeros, and inputs that are rounded; those need --symmetric weights") }
      let codes =
        integers.bits == 8 ? parts.codes("weight", .I8, flip: 0) : parts.unpacked("weight", .I8, bits: 8, offset: 0)
      return Stored(
        tensors: [codes, parts.scales("weight_scale", scales)], bits: integers.bits, group: group,
        isSymmetric: true, isUnpacked: true, roundsInputs: true)
    case .mlx:
      guard QuantizedLayout.mlxGroups.contains(integers.groupSize) else {
        throw refuse("has groups of \(integers.groupSize); MLX has 32, 64 and 128")
      }
      let bits = try parts.usedBits([2, 3, 4, 5, 6, 8])
      let half = integers.form == .symmetric ? 1 << (bits - 1) : 0
      return Stored(
        tensors: [
          parts.unpacked("weight", .U32, bits: bits, offset: half), parts.scales("scales", integers.scaleType),
          parts.biases("biases", half: half),
        ], bits: bits, group: integers.groupSize, isSymmetric: false, isUnpacked: false, roundsInputs: false)
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

    /// One code after the other, earlier ones in lower bits of a stream of `bits` each, with `offset` added.
    func unpacked(_ suffix: String, _ type: DType, bits: Int, offset: Int) -> Tensor {
      let (layout, integers) = (layout, integers)
      let rowBytes = layout.columns * bits / 8
      return made(suffix, type, [layout.rows, rowBytes * 8 / type.bits]) { (all) throws(Failure) in
        let result = try Buffer(count: layout.rows * rowBytes)
        let codes = try Buffer(count: layout.columns)
        result.clear()
        all.withBytes { from in
          codes.with(UInt8.self) { codes in
            result.withMutableBytes { to in
              guard let base = from.baseAddress, let row = codes.baseAddress else { return }
              for index in 0..<layout.rows {
                llv_unpack_bytes(
                  base + index * layout.rowBytes, layout.columns, Int32(integers.bits), integers.isAffine ? 1 : 0, row)
                for column in 0..<layout.columns {
                  let code = UInt16((Int(codes[column]) + offset) & ((1 << bits) - 1))
                  let place = column * bits
                  let shifted = code << UInt16(place % 8)
                  to[index * rowBytes + place / 8] |= UInt8(truncatingIfNeeded: shifted)
                  if place % 8 + bits > 8 { to[index * rowBytes + place / 8 + 1] |= UInt8(shifted >> 8) }
                }
              }
            }
          }
        }
        return result
      }
    }

    /// The least of some numbers of bits that all codes fit.
    func usedBits(_ choices: [Int]) throws(Failure) -> Int {
      let all = try tensor.load()
      let codes = try Buffer(count: layout.columns)
      var (least, most) = (0, 0)
      all.withBytes { from in
        codes.with(UInt8.self) { codes in
          guard let base = from.baseAddress, let row = codes.baseAddress else { return }
          for index in 0..<layout.rows {
            llv_unpack_bytes(
              base + index * layout.rowBytes, layout.columns, Int32(integers.bits), integers.isAffine ? 1 : 0, row)
            for code in codes {
              let value = integers.isAffine ? Int(code) : Int(Int8(bitPattern: code))
              (least, most) = (min(least, value), max(most, value))
            }
          }
        }
      }
      return choices.first { bits in
        integers.isAffine ? most < 1 << bits : least >= -(1 << (bits - 1)) && most < 1 << (bits - 1)
      } ?? integers.bits
    }

    /// The tensor's steps, and its zeros where it has some.
    private func steps() throws(Failure) -> (scales: [Float], zeros: [Float]) {
      let all = try tensor.load()
      let count = layout.rows * layout.groups
      return all.withBytes { from in
        func floats(_ at: Int) -> [Float] {
          [Float](unsafeUninitializedCapacity: count) { buffer, used in
            if let base = from.baseAddress { integers.decodeScales(base + at, into: buffer) }
            used = count
          }
        }
        return (floats(layout.scalesAt), integers.isAffine ? floats(layout.zerosAt) : [])
      }
    }

    /// The narrowest type that holds all steps.
    func scaleType() throws(Failure) -> DType {
      guard integers.scaleType == .F32 else { return integers.scaleType }
      let scales = try steps().scales
      if scales.allSatisfy({ Float(Float16($0)) == $0 }) { return .F16 }
      return scales.allSatisfy { $0.bitPattern & 0xFFFF == 0 } ? .BF16 : .F32
    }

    /// Whether every zero is minus a whole code times the step.
    func hasWholeZeros() throws(Failure) -> Bool {
      let (scales, zeros) = try steps()
      return zip(scales, zeros).allSatisfy { scale, zero in
        let code = scale == 0 ? 0 : (-zero / scale).rounded()
        return code >= 0 && code < Float(1 << integers.bits) && -code * scale == zero
      }
    }

    /// Zeros as codes, those of rows after each other in one column of words.
    func packedZeros(_ suffix: String) -> Tensor {
      let (integers, layout) = (integers, layout)
      let perWord = 32 / integers.bits
      let words = Checked.ceilDivide(layout.rows, perWord)
      return made(suffix, .I32, [words, layout.groups]) { (all) throws(Failure) in
        let count = layout.rows * layout.groups
        let (scales, zeros) = (try Buffer(count: count * 4), try Buffer(count: count * 4))
        let result = try Buffer(count: words * layout.groups * 4)
        result.clear()
        all.withBytes { from in
          guard let base = from.baseAddress else { return }
          scales.with(Float.self) { scales in
            zeros.with(Float.self) { zeros in
              integers.decodeScales(base + layout.scalesAt, into: scales)
              integers.decodeScales(base + layout.zerosAt, into: zeros)
              result.with(UInt32.self) { words in
                for index in 0..<count where scales[index] != 0 {
                  let (row, group) = (index / layout.groups, index % layout.groups)
                  let code = UInt32((-zeros[index] / scales[index]).rounded())
                  words[row / perWord * layout.groups + group] |= code << UInt32(row % perWord * integers.bits)
                }
              }
            }
          }
        }
        return result
      }
    }

    /// Steps in a type that holds them.
    func scales(_ suffix: String, _ type: DType) -> Tensor {
      values(suffix, type, from: layout.scalesAt)
    }

    /// What is added to `code · scale`: the zeros, or what offset binary adds to the codes, times the scale.
    func biases(_ suffix: String, half: Int) -> Tensor {
      integers.isAffine
        ? values(suffix, integers.scaleType, from: layout.zerosAt)
        : values(suffix, integers.scaleType, from: layout.scalesAt, times: Float(-half))
    }

    private func values(_ suffix: String, _ type: DType, from: Int, times factor: Float = 1) -> Tensor {
      let (integers, layout) = (integers, layout)
      return made(suffix, type, [layout.rows, layout.groups]) { (all) throws(Failure) in
        let count = layout.rows * layout.groups
        let values = try Buffer(count: count * 4)
        let result = try Buffer(count: count * type.bits / 8)
        all.withBytes { bytes in
          values.with(Float.self) { values in
            if let base = bytes.baseAddress { integers.decodeScales(base + from, into: values) }
            for index in values.indices { values[index] *= factor }
            result.withMutableBytes { to in
              if let target = to.baseAddress { type.encode(UnsafeBufferPointer(values), into: target) }
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
  func configuration(_ weights: [(module: String, stored: Stored)], kept: [String]) -> (key: String, value: JSONText) {
    switch self {
    case .compressedTensors: ("quantization_config", compressed(weights, kept))
    case .mlx: ("quantization", mlx(weights, kept))
    }
  }

  private func compressed(_ weights: [(module: String, stored: Stored)], _ kept: [String]) -> JSONText {
    var groups: [(scheme: JSONText, format: String, modules: [String])] = []
    for (module, stored) in weights {
      var numbers: [(String, JSONText)] = [
        ("num_bits", .int(stored.bits)), ("type", "int"), ("symmetric", .bool(stored.isSymmetric)),
        ("strategy", .string(stored.group == nil ? "channel" : "group")),
      ]
      if let group = stored.group { numbers.append(("group_size", .int(group))) }
      let input: JSONText =
        stored.roundsInputs
        ? ["num_bits": 8, "type": "int", "symmetric": true, "strategy": "token", "dynamic": true] : .null
      let scheme: JSONText = ["weights": .object(numbers), "input_activations": input, "output_activations": .null]
      if let index = groups.firstIndex(where: { $0.scheme == scheme }) {
        groups[index].modules.append(module)
      } else {
        groups.append((scheme, stored.isUnpacked ? "int-quantized" : "pack-quantized", [module]))
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
    // call, and for which a tower's layers have no weight to start from. Told to undo codes when it loads, it takes the
    // first group for all weights. Others do not know the key.
    let undone: [(String, JSONText)] = groups.count == 1 ? [("dequantize", true)] : []
    return .object(
      [("quant_method", "compressed-tensors"), ("quantization_status", "compressed")] + undone + [
        ("format", .string(formats.count == 1 ? groups[0].format : "mixed-precision")),
        ("config_groups", .object(members)),
        ("ignore", .array((kept.map(pattern) + ["lm_head"]).map(JSONText.string))), ("kv_cache_scheme", .null),
      ])
  }

  /// Modules have a prefix or none, as the class that loads them goes: a model without a head calls `model.layers.0`
  /// `layers.0`. In transformers 5 a tower has no `vision_model`.
  private func pattern(_ module: String) -> String {
    let parts = module.split(separator: ".").drop { $0 == "model" || $0 == "bert" }
      .map { $0 == "vision_model" ? "(vision_model\\.)?" : $0 + "\\." }
    return "re:(.*\\.)?\(parts.joined().dropLast(2))$"
  }

  private func mlx(_ weights: [(module: String, stored: Stored)], _ kept: [String]) -> JSONText {
    func numbers(_ stored: Stored) -> [(String, JSONText)] {
      [("group_size", .int(stored.group ?? 0)), ("bits", .int(stored.bits)), ("mode", "affine")]
    }
    guard let first = weights.first?.stored else { return .object([]) }
    var members = numbers(first)
    for (module, stored) in weights where numbers(stored).map(\.1) != numbers(first).map(\.1) {
      members.append((module, .object(numbers(stored))))
    }
    for module in kept { members.append((module, false)) }
    return .object(members)
  }
}
