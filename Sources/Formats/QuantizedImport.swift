import Bytes
import Tensors

/// Checkpoints whose linear weights others have quantized: compressed-tensors, GPTQ, AWQ and MLX. Weights become
/// grouped integers of exactly the same values; what is packed otherwise (act-order, bits that are not four or eight)
/// is refused by name. Where compressed-tensors rounds inputs as we can, so do we.
public struct QuantizedImport {
  private enum Method { case compressedTensors, gptq(zeroOffset: Int), awq, mlx }

  private let method: Method
  private let settings: JSON
  private let tensors: [TensorName: Tensor]
  private var compressed: CompressedGroups?

  /// The checkpoint with plain names and grouped weights, and the weights whose inputs are rounded to eight bits; nil
  /// when its configuration speaks of no quantization.
  package static func decoded(
    _ checkpoint: Checkpoint, config: JSON, notes: inout [String]
  ) throws(Failure) -> (checkpoint: Checkpoint, roundedInputs: Set<TensorName>)? {
    guard let reader = try QuantizedImport(checkpoint, config, &notes) else { return nil }
    var result = checkpoint
    var rounded: Set<TensorName> = []
    result.tensors = []
    for tensor in checkpoint.tensors {
      do throws(Failure) {
        guard let weight = try reader.weight(tensor) else { continue }
        result.tensors.append(weight)
        let storage: CompressedGroups.Storage = tensor.name == weight.name ? .bytes : .packed
        if !weight.encoding.isPlain, reader.compressed?.roundedInputs.contains(storage) == true {
          rounded.insert(weight.name)
        }
      } catch { throw error.about("tensor \(tensor.name.quoted)") }
    }
    var members: [(String, JSONText)] = []
    for (key, value) in try config.members() {
      let name = String(decoding: key, as: UTF8.self)
      if !["quantization_config", "quantization"].contains(name) { members.append((name, try JSONText(value))) }
    }
    result.made["config.json"] = JSONText.object(members).bytes(pretty: true)
    return (result, rounded)
  }

  private init?(_ checkpoint: Checkpoint, _ config: JSON, _ notes: inout [String]) throws(Failure) {
    if let quantization = config.optional("quantization_config"), quantization["quant_method"] != nil {
      let name = try quantization.required("quant_method").string("quant_method")
      settings = quantization
      switch name {
      case "compressed-tensors":
        method = .compressedTensors
        let format = try quantization.required("format")
        guard ["pack-quantized", "int-quantized", "mixed-precision"].contains(try format.string("format")) else {
          throw format.failure(
            "compressed-tensors format \(Failure.quoted(try format.bytes())) is not read; pack-quantized and "
              + "int-quantized are",
            .unsupported)
        }
        compressed = try CompressedGroups(quantization, notes: &notes)
      case "gptq":
        // The first version stored zeros less one.
        let version = try quantization.optional("checkpoint_format")?.string("checkpoint_format") ?? "gptq"
        method = .gptq(zeroOffset: version == "gptq_v2" ? 0 : 1)
      case "awq":
        let version = try quantization.optional("version")?.string("version") ?? "gemm"
        guard version.lowercased() == "gemm" else {
          throw quantization.failure("AWQ version \(Failure.quoted(version)) is not read; gemm is", .unsupported)
        }
        method = .awq
      default:
        throw quantization.failure(
          "quant_method \(Failure.quoted(name)) is not read; compressed-tensors, gptq and awq are", .unsupported)
      }
    } else if let quantization = config.optional("quantization"), quantization["bits"] != nil {
      (method, settings) = (.mlx, quantization)
    } else {
      return nil
    }
    tensors = Dictionary(checkpoint.tensors.map { ($0.name, $0) }) { first, _ in first }
  }

  /// Tensors that belong to another one.
  private static let parts = [
    ".weight_scale", ".weight_zero_point", ".weight_shape", ".weight_g_idx", ".input_scale", ".qzeros", ".scales",
    ".g_idx",
    ".biases",
  ]

  /// What stands in the new checkpoint for `tensor`; nil for a part of another one.
  private func weight(_ tensor: Tensor) throws(Failure) -> Tensor? {
    let name = tensor.name.text
    func stem(_ suffix: String) -> String? {
      name.hasSuffix("." + suffix) ? String(name.dropLast(suffix.count + 1)) : nil
    }
    switch method {
    case .compressedTensors:
      if let stem = stem("weight_packed") { return try packed(stem, tensor) }
      if let stem = stem("weight"), case .plain(.I8) = tensor.encoding { return try integers(stem, tensor) }
    case .gptq(let offset):
      if let stem = stem("qweight") { return try gptq(stem, tensor, zeroOffset: offset) }
    case .awq:
      if let stem = stem("qweight") { return try awq(stem, tensor) }
    case .mlx:
      if let stem = stem("weight"), case .plain(.U32) = tensor.encoding { return try mlx(stem, tensor) }
    }
    let isPart = QuantizedImport.parts.contains { name.hasSuffix($0) }
    let isOfWeight = ["weight_packed", "weight", "qweight"].contains { suffix in
      QuantizedImport.parts.contains { part in
        name.hasSuffix(part) && tensors[TensorName(name.dropLast(part.count) + "." + suffix)] != nil
      }
    }
    return isPart && isOfWeight ? nil : tensor
  }

  private func part(_ stem: String, _ suffix: String) throws(Failure) -> Tensor {
    guard let tensor = tensors[TensorName(stem + "." + suffix)] else {
      throw Failure(.malformed, "\(Failure.quoted(stem + "." + suffix)), which belongs to it, is missing")
    }
    return tensor
  }

  // MARK: Layouts

  private func packed(_ stem: String, _ words: Tensor) throws(Failure) -> Tensor {
    guard tensors[TensorName(stem + ".weight_g_idx")] == nil else {
      throw Failure(.unsupported, "groups in activation order (weight_g_idx) are not read")
    }
    let shape = try part(stem, "weight_shape")
    guard shape.count == 2, shape.encoding == .plain(.I64) else {
      throw Failure(.malformed, "weight_shape is \(shape.encoding.text) \(shape.shape), two I64 expected")
    }
    let sides = try shape.load().array(of: Int64.self)
    guard sides.count == 2, words.shape.count == 2, sides[0] == words.shape[0], sides[1] > 0, sides[1] <= 1 << 31 else {
      throw Failure(.malformed, "weight_shape \(sides) does not fit packed \(words.shape)")
    }
    let (rows, columns) = (words.shape[0], Int(sides[1]))
    guard let bits = [4, 8].first(where: { Checked.ceilDivide(columns * $0, 32) == words.shape[1] }) else {
      throw Failure(.unsupported, "\(words.shape[1]) words for \(columns) columns: only four and eight bits are read")
    }
    let scale = try part(stem, "weight_scale")
    let zero = tensors[TensorName(stem + ".weight_zero_point")]
    let form = try Form(stem, rows, columns, bits, scale: scale, isAffine: zero != nil)
    if let zero, zero.shape != [Checked.ceilDivide(rows * bits, 32), form.layout.groups] {
      throw Failure(
        .malformed, "weight_zero_point \(zero.shape) does not fit \(form.layout.groups) groups of \(rows) rows")
    }
    let (source, half) = (Words(words, bits), 1 << (bits - 1))
    let zeros = zero.map { Words($0, bits) }
    return form.tensor(isScaleExact: zero == nil) { (threads) throws(Failure) in
      let codes = try source.loaded(threads)
      let zeros = try zeros?.loaded(threads)
      let scales = try scale.floats(threads: threads)
      let groups = form.layout.groups
      return { rows, part in
        scales.with(Float.self) { scales in
          for (index, row) in rows.enumerated() {
            for column in 0..<columns {
              // Symmetric codes are two's complement here, so that the offset is only a change of sign bit.
              let code = codes.along(row, column) - (zeros == nil ? half : 0)
              part.codes[index * columns + column] = UInt8(truncatingIfNeeded: code)
            }
            for group in 0..<groups {
              let scale = scales[row * groups + group]
              part.scales[index * groups + group] = scale
              if let zeros { part.zeros[index * groups + group] = -Float(zeros.across(row, group)) * scale }
            }
          }
        }
      }
    }
  }

  private func integers(_ stem: String, _ codes: Tensor) throws(Failure) -> Tensor {
    guard codes.shape.count == 2 else { throw Failure(.malformed, "has shape \(codes.shape), a matrix expected") }
    let (rows, columns) = (codes.shape[0], codes.shape[1])
    let scale = try part(stem, "weight_scale")
    let zero = tensors[TensorName(stem + ".weight_zero_point")]
    let bits = compressed?.bits[.bytes] == 4 ? 4 : 8
    let half = 1 << (bits - 1)
    let form = try Form(stem, rows, columns, bits, scale: scale, isAffine: zero != nil)
    let groups = form.layout.groups
    if let zero, zero.count != rows * groups || zero.encoding != .plain(.I8) {
      throw Failure(.malformed, "weight_zero_point \(zero.shape) does not fit scales of \(groups) groups")
    }
    return form.tensor(isScaleExact: zero == nil) { (threads) throws(Failure) in
      let source = try codes.load(threads: threads)
      let isInside = source.with(Int8.self) { $0.allSatisfy { $0 >= -half && $0 < half } }
      guard isInside else {
        throw Failure(
          .malformed, "holds codes that are no integers of \(bits) bits", thing: "tensor \(codes.name.quoted)")
      }
      let scales = try scale.floats(threads: threads)
      let zeros = try zero?.load(threads: threads).array(of: Int8.self)
      return { rows, part in
        source.with(Int8.self) { source in
          scales.with(Float.self) { scales in
            for (index, row) in rows.enumerated() {
              for column in 0..<columns {
                let code = Int(source[row * columns + column]) + (zeros == nil ? 0 : half)
                part.codes[index * columns + column] = UInt8(truncatingIfNeeded: code)
              }
              for group in 0..<groups {
                let scale = scales[row * groups + group]
                part.scales[index * groups + group] = scale
                if let zeros {
                  part.zeros[index * groups + group] = -Float(Int(zeros[row * groups + group]) + half) * scale
                }
              }
            }
          }
        }
      }
    }
  }

  private func gptq(_ stem: String, _ words: Tensor, zeroOffset: Int) throws(Failure) -> Tensor {
    let bits = try settings.required("bits").integer("bits", in: 1...16)
    guard bits == 4 || bits == 8 else { throw Failure(.unsupported, "GPTQ of \(bits) bits is not read; 4 and 8 are") }
    try checkMatrix(words)
    let (rows, columns) = (words.shape[1], words.shape[0] * 32 / bits)
    let columnMajor = try ColumnMajor(
      try part(stem, "scales"), try part(stem, "qzeros"), stem, rows, columns, bits, zeroOffset: zeroOffset)
    if let order = tensors[TensorName(stem + ".g_idx")] {
      let found = try order.load().array(of: Int32.self)
      let size = columnMajor.form.integers.groupSize
      guard found.count == columns, found.enumerated().allSatisfy({ Int($1) == $0 / size }) else {
        throw Failure(.unsupported, "groups in activation order (desc_act) are not read")
      }
    }
    return columnMajor.tensor(Words(words, bits)) { codes, row, column in
      codes.across(column, row)
    } place: {
      $0
    }
  }

  /// Where AWQ puts element k of every eight: the one at `order[k]` fours from the low end.
  private static let awqOrder = [0, 4, 1, 5, 2, 6, 3, 7]

  private func awq(_ stem: String, _ words: Tensor) throws(Failure) -> Tensor {
    guard try settings.required("bits").integer("bits", in: 1...16) == 4 else {
      throw Failure(.unsupported, "AWQ of other than 4 bits is not read")
    }
    try checkMatrix(words)
    let columnMajor = try ColumnMajor(
      try part(stem, "scales"), try part(stem, "qzeros"), stem, words.shape[1] * 8, words.shape[0], 4, zeroOffset: 0)
    @Sendable func place(_ row: Int) -> Int { row / 8 * 8 + QuantizedImport.awqOrder[row % 8] }
    return columnMajor.tensor(Words(words, 4)) { codes, row, column in
      codes.along(column, place(row))
    } place: {
      place($0)
    }
  }

  /// A tensor with elements has sides that numbers of bits can be multiplied with.
  private func checkMatrix(_ words: Tensor) throws(Failure) {
    guard words.shape.count == 2, words.count > 0 else {
      throw Failure(.malformed, "has shape \(words.shape), a matrix of words expected")
    }
  }

  private func mlx(_ stem: String, _ words: Tensor) throws(Failure) -> Tensor {
    let own = settings.optional(stem)
    let holder = own?.kind == .object ? own ?? settings : settings
    let bits = try holder.required("bits").integer("bits", in: 1...16)
    guard [2, 3, 4, 5, 6, 8].contains(bits) else {
      throw Failure(.unsupported, "MLX of \(bits) bits is not read; 2, 3, 4, 5, 6 and 8 are")
    }
    if let mode = holder.optional("mode"), try mode.string("mode") != "affine" {
      throw mode.failure("MLX mode \(Failure.quoted(try mode.bytes())) is not read; affine is", .unsupported)
    }
    let (scale, bias) = (try part(stem, "scales"), try part(stem, "biases"))
    try checkMatrix(words)
    guard bias.shape == scale.shape, bias.encoding == scale.encoding else {
      throw Failure(.malformed, "weight \(words.shape), scales \(scale.shape) and biases \(bias.shape) do not fit")
    }
    guard words.shape[1] * 32 % bits == 0 else {
      throw Failure(.malformed, "weight \(words.shape): rows are no whole codes of \(bits) bits")
    }
    let (rows, columns) = (words.shape[0], words.shape[1] * 32 / bits)
    let form = try Form(stem, rows, columns, GroupedInteger.room(bits), scale: scale, isAffine: true)
    let groups = form.layout.groups
    let source = Words(words, bits)
    return form.tensor(isScaleExact: true) { (threads) throws(Failure) in
      let codes = try source.loaded(threads)
      let scales = try scale.floats(threads: threads)
      let biases = try bias.floats(threads: threads)
      return { rows, part in
        for (index, row) in rows.enumerated() {
          for column in 0..<columns {
            part.codes[index * columns + column] = UInt8(truncatingIfNeeded: codes.along(row, column))
          }
          scales.with(Float.self) { scales in
            biases.with(Float.self) { biases in
              for group in 0..<groups {
                part.scales[index * groups + group] = scales[row * groups + group]
                part.zeros[index * groups + group] = biases[row * groups + group]
              }
            }
          }
        }
      }
    }
  }
}

// MARK: Parts of a quantized weight

/// The grouped tensor that a weight becomes.
private struct Form: Sendable {
  let name: TensorName
  let shape: [Int]
  let integers: GroupedInteger
  let layout: GroupedInteger.Layout
  private let stored: DType

  /// - Parameter scale: `[rows, groups]`.
  init(_ stem: String, _ rows: Int, _ columns: Int, _ bits: Int, scale: Tensor, isAffine: Bool) throws(Failure) {
    guard scale.shape.count == 2, scale.shape[0] == rows else {
      throw Failure(.malformed, "scales \(scale.shape) do not fit \(rows) rows")
    }
    try self.init(stem, rows, columns, bits, groups: scale.shape[1], scale, isAffine: isAffine)
  }

  /// - Parameter scale: `[groups, rows]`.
  init(_ stem: String, _ rows: Int, _ columns: Int, _ bits: Int, transposed scale: Tensor) throws(Failure) {
    try self.init(stem, rows, columns, bits, groups: scale.shape[0], scale, isAffine: true)
  }

  private init(
    _ stem: String, _ rows: Int, _ columns: Int, _ bits: Int, groups: Int, _ scale: Tensor, isAffine: Bool
  ) throws(Failure) {
    guard groups > 0, columns % groups == 0, case .plain(let type) = scale.encoding, type.isWeight,
      let integers = GroupedInteger(
        bits: bits, groupSize: columns / groups, isAffine: isAffine, scaleType: isAffine || type == .F64 ? .F32 : type),
      let layout = integers.layout([rows, columns])
    else { throw Failure(.malformed, "\(groups) groups do not divide \(columns) columns") }
    (name, shape, stored) = (TensorName(stem + ".weight"), [rows, columns], type)
    (self.integers, self.layout) = (integers, layout)
  }

  typealias Fill = @Sendable (_ rows: Range<Int>, _ part: GroupedWriter.Part) -> Void

  /// - Parameters:
  ///   - isScaleExact: whether scales and zeros are in the stored type; Float32 otherwise, which holds code times
  ///     scale.
  ///   - open: loads what `Fill` reads.
  func tensor(
    isScaleExact: Bool, _ open: @escaping @Sendable (_ threads: Int) throws(Failure) -> Fill
  ) -> Tensor {
    let type = isScaleExact && stored != .F64 ? stored : .F32
    let exact = GroupedInteger(
      bits: integers.bits, groupSize: integers.groupSize, isAffine: integers.isAffine, scaleType: type)
    let final = exact ?? integers
    let place = final.layout(shape) ?? layout
    let computation = Tensor.Computation { (threads) throws(Failure) in
      let fill = try open(threads)
      let writer = try GroupedWriter(final, place)
      try writer.forEachSpan(threads: threads) { rows, part in fill(rows, part) }
      return (writer.result, nil)
    }
    return Tensor(name, shape: shape, encoding: .grouped(final), content: .computed(computation))
  }
}

/// GPTQ's and AWQ's way: scales `[groups, rows]`, zeros as packed codes `[groups, rows]`.
private struct ColumnMajor: Sendable {
  let form: Form
  private let rows, columns, zeroOffset: Int
  private let scale: Tensor
  private let zeros: Words

  init(
    _ scale: Tensor, _ zero: Tensor, _ stem: String, _ rows: Int, _ columns: Int, _ bits: Int, zeroOffset: Int
  ) throws(Failure) {
    guard scale.shape.count == 2, scale.shape[1] == rows else {
      throw Failure(.malformed, "scales \(scale.shape) do not fit \(rows) rows")
    }
    form = try Form(stem, rows, columns, bits, transposed: scale)
    guard zero.shape == [form.layout.groups, Checked.ceilDivide(rows * bits, 32)] else {
      throw Failure(.malformed, "qzeros \(zero.shape) do not fit \(form.layout.groups) groups of \(rows) rows")
    }
    (self.rows, self.columns, self.zeroOffset, self.scale, zeros) = (
      rows, columns, zeroOffset, scale, Words(zero, bits)
    )
  }

  /// - Parameters:
  ///   - code: the code of a row and column.
  ///   - place: where a row's zero stands among its group's.
  func tensor(
    _ source: Words, _ code: @escaping @Sendable (_ codes: Words.Loaded, _ row: Int, _ column: Int) -> Int,
    place: @escaping @Sendable (_ row: Int) -> Int
  ) -> Tensor {
    form.tensor(isScaleExact: false) { (threads) throws(Failure) in
      let (codes, zeros) = (try source.loaded(threads), try zeros.loaded(threads))
      let scales = try scale.floats(threads: threads)
      return { span, part in
        scales.with(Float.self) { scales in
          for (index, row) in span.enumerated() {
            for column in 0..<columns {
              part.codes[index * columns + column] = UInt8(truncatingIfNeeded: code(codes, row, column))
            }
            for group in 0..<form.layout.groups {
              let scale = scales[group * rows + row]
              part.scales[index * form.layout.groups + group] = scale
              part.zeros[index * form.layout.groups + group] =
                -Float(zeros.along(group, place(row)) + zeroOffset) * scale
            }
          }
        }
      }
    }
  }
}

/// Codes in 32-bit words, earlier ones in lower bits.
private struct Words: Sendable {
  private let tensor: Tensor
  private let bits: Int

  init(_ tensor: Tensor, _ bits: Int) {
    self.tensor = tensor
    self.bits = bits
  }

  func loaded(_ threads: Int) throws(Failure) -> Loaded {
    guard case .plain(let type) = tensor.encoding, type.bits == 32 else {
      throw Failure(
        .malformed, "is \(tensor.encoding.text); words of 32 bits expected", thing: "tensor \(tensor.name.quoted)")
    }
    return Loaded(bytes: try tensor.load(threads: threads), width: tensor.columns, bits: bits)
  }

  struct Loaded: Sendable {
    let bytes: Buffer
    let width, bits: Int

    /// Code `index` of row `row`, packed along the row.
    func along(_ row: Int, _ index: Int) -> Int {
      value(row * width + index * bits / 32, index * bits % 32)
    }

    /// Code `index` of column `column`, packed along the column.
    func across(_ index: Int, _ column: Int) -> Int {
      value(index * bits / 32 * width + column, index * bits % 32)
    }

    /// Codes of 3, 5 and 6 bits go on in the next word of the row.
    private func value(_ word: Int, _ shift: Int) -> Int {
      bytes.with(UInt32.self) { words in
        let rest = shift + bits > 32 ? UInt64(words[word + 1]) << 32 : 0
        return Int((rest | UInt64(words[word])) >> UInt64(shift)) & ((1 << bits) - 1)
      }
    }
  }
}
