import Tensors

/// The program that a quantized model is for: which fusions its files can hold, what weights may become, and what they
/// take there. What is measured of the container is then what the exported files hold.
public enum Target: String, Sendable, CaseIterable {
  /// This program's own containers.
  case llv
  /// llama.cpp and what is built on it.
  case gguf
  /// transformers and vLLM, by llm-compressor's format.
  case compressedTensors = "compressed-tensors"
  case mlx

  /// The passes before quantizing that the files can hold or that export undoes exactly. Gains of norms stay folded:
  /// the norm's own is then 1.
  ///
  /// - Parameter withTower: whether the vision tower is quantized too; otherwise its weights stay as they are.
  public func fusions(withTower: Bool) -> [Pass] {
    switch self {
    case .llv: Pass.fusions
    case .gguf, .compressedTensors, .mlx:
      // ggml's blocks need whole rows, which a tower's are not.
      (withTower ? [.foldNorms] + (self == .gguf ? [.padWidths] : []) : [.foldNorms(of: ["text"])])
        + [.fuseProjections, .dropUnused]
    }
  }

  /// Whether every linear operation can have a bias, also where the checkpoint has none.
  public var hasBiasEverywhere: Bool { self == .llv }

  /// Whether the files can hold token tables as integers.
  public var holdsTables: Bool { self != .compressedTensors }

  /// What plans choose from, from small to large.
  public var choices: [WeightChoice] {
    let texts: [String] =
      switch self {
      case .llv:
        [2, 3, 4].flatMap { bits in [64, 32, 16].map { "\(bits):g\($0):two-level" } }
          + ["4:g32", "8:channel", "8:g64", "8:g32", "16"]
      case .gguf:
        ["Q2_K", "Q3_K", "Q4_K", "IQ4_NL", "Q4_0", "Q4_1", "Q5_K", "Q5_0", "Q5_1", "Q6_K", "Q8_0", "F16"]
      // Zeros would cost less error, but transformers 5 cannot load them where groups are of several kinds.
      case .compressedTensors:
        ["4:g128:symmetric", "4:g64:symmetric", "4:g32:symmetric", "8:channel", "8:g64:symmetric", "16"]
      case .mlx:
        [2, 3, 4, 5, 6, 8].flatMap { bits in [128, 64, 32].map { "\(bits):g\($0):affine" } } + ["16"]
      }
    return texts.compactMap(WeightChoice.init)
  }

  /// Why a weight cannot become this in the target's files; nil where it can.
  public func objection(to choice: WeightChoice, columns: Int, isTable: Bool) -> String? {
    switch (self, choice) {
    case (_, .keep), (_, .bfloat16), (_, .float16): return nil
    case (.llv, .block), (.llv, .integers(_, _, .asymmetric)):
      return "is for another program's files: say which with --for"
    case (.llv, .integers(let bits, _, _)):
      return GroupedInteger.widths.contains(bits) ? nil : "has \(bits) bits; containers have 2, 3, 4 and 8"
    case (.gguf, .block(let form)):
      return columns % form.elements == 0
        ? nil : "needs rows of whole blocks of \(form.elements); these have \(columns)"
    case (.gguf, .integers): return "is no type of ggml's"
    case (.compressedTensors, .block), (.mlx, .block): return "is a type of ggml's alone"
    case (.compressedTensors, .integers(let bits, let group, let form)):
      if isTable { return "would round a token table, which the format leaves alone" }
      guard bits == 4 || bits == 8 else { return "has \(bits) bits; the format has 4 and 8" }
      guard form == .symmetric || form == .asymmetric else { return "has zeros that are no whole codes" }
      return wholeWords(bits, group, columns)
    case (.mlx, .integers(let bits, let group, let form)):
      guard [2, 3, 4, 5, 6, 8].contains(bits) else { return "has \(bits) bits; MLX has 2, 3, 4, 5, 6 and 8" }
      guard form == .affine || form == .symmetric else { return "is no affine group, which MLX has" }
      guard let group, [32, 64, 128].contains(group) else { return "has other groups than MLX's 32, 64 and 128" }
      return wholeWords(bits, group, columns)
    }
  }

  private func wholeWords(_ bits: Int, _ group: Int?, _ columns: Int) -> String? {
    let group = group ?? columns
    guard columns % group == 0 else { return "needs rows of whole groups of \(group); these have \(columns)" }
    return columns * bits % 32 == 0
      ? nil : "needs rows of whole 32-bit words; these have \(columns) codes of \(bits) bits"
  }

  /// Bytes that a weight of `shape` takes in the target's files, where inputs are treated like `input`.
  public func bytes(of choice: WeightChoice, plain: Encoding, _ shape: [Int], input: Op.LinearInput) -> Int {
    let (count, columns) = (shape.reduce(1, *), shape.last ?? 1)
    switch choice {
    case .keep: return plain.byteCount(shape) ?? 0
    case .bfloat16, .float16: return count * 2
    case .block(let form): return count / form.elements * form.bytes
    case .integers(let bits, let group, let form):
      guard let grid = choice.grid(columns: columns) else { return 0 }
      if self == .llv { return Encoding.grouped(grid.integers).byteCount(shape) ?? 0 }
      let groups = count / columns * ((columns + (group ?? columns) - 1) / (group ?? columns))
      // MLX has a bias for every group; zeros of compressed-tensors are packed codes.
      let zeros = self == .mlx ? groups * 2 : form == .asymmetric ? groups * bits / 8 : 0
      // Beside inputs that are rounded to bytes codes are bytes too.
      let codes = self == .compressedTensors && input == .int8 ? count : count * bits / 8
      return codes + groups * 2 + zeros
    }
  }
}
