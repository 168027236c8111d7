import Bytes
import CGPU

/// The kernels' modules; kernels/NAME.cu is the source and ptx/NAME.ptx what is given to the driver.
package enum Module: String, CaseIterable, Sendable {
  case attention, gemm, hopper, lookup, rows, truth, weights
  case attentionInt8 = "attention_int8"

  package var text: UnsafePointer<CChar> {
    switch self {
    case .attention: llv_ptx_attention
    case .attentionInt8: llv_ptx_attention_int8
    case .gemm: llv_ptx_gemm
    case .hopper: llv_ptx_hopper
    case .lookup: llv_ptx_lookup
    case .rows: llv_ptx_rows
    case .truth: llv_ptx_truth
    case .weights: llv_ptx_weights
    }
  }

  /// Bytes of each parameter of an entry, as the PTX declares them: `.entry NAME(.param .u64 …, .param .f32 …)`.
  package func arguments(of name: String) throws(Failure) -> [Int] {
    guard let entry = Module.find(" \(name)(", in: text), let end = Module.find(")", in: entry) else {
      throw Failure(.internal, "the \(rawValue) kernels have no \(name)")
    }
    let list = String(decoding: UnsafeRawBufferPointer(start: entry, count: end - entry), as: UTF8.self)
    return list.split(separator: ".").compactMap { word in
      switch word.prefix(3) {
      case "u64", "f64", "b64": 8
      case "u32", "f32", "b32": 4
      default: nil
      }
    }
  }

  /// What follows the first `word` of a text.
  private static func find(_ word: String, in text: UnsafePointer<CChar>) -> UnsafePointer<CChar>? {
    guard let place = llv_find(text, word) else { return nil }
    return place + word.utf8.count
  }
}

/// A kernel as it is launched: threads of a block, and bytes of its shared memory.
package struct Kernel: Sendable {
  package let name: String
  package let module: Module
  package let threads, shared: Int

  init(_ name: String, _ module: Module, threads: Int = 256, shared: Int = 0) {
    (self.name, self.module, self.threads, self.shared) = (name, module, threads, shared)
  }

  // Shared memory as the sources lay it out: of products, the larger of slices and results.
  static let gemmInt8 = Kernel("gemm_int8", .gemm, shared: 128 * (128 + 4) * 4)
  static let gemmInt8Groups = Kernel("gemm_int8_groups", .gemm, shared: 128 * (128 + 4) * 4)
  static let gemmBFloat16 = Kernel("gemm_bfloat16", .gemm, shared: 128 * (128 + 4) * 4)
  static let hopperInt8 = Kernel("hopper_int8", .hopper, shared: 4 * (128 + 256) * 128)
  static let hopperBFloat16 = Kernel("hopper_bfloat16", .hopper, shared: 4 * (128 + 256) * 128)
  static let rowsFloat = Kernel("rows_float", .rows, shared: 64)
  static let rowsBFloat16 = Kernel("rows_bfloat16", .rows, shared: 64)
  static let rowsInt8 = Kernel("rows_int8", .rows, shared: 64)
  static let normHeads = Kernel("norm_heads", .rows)
  static let rope = Kernel("rope", .rows)
  static let rescale = Kernel("rescale", .rows)
  static let lookup = Kernel("lookup", .lookup)
  static let interpolate = Kernel("interpolate", .lookup)
  static let distanceBiases = Kernel("distance_biases", .lookup)
  static let pool = Kernel("pool", .lookup)
  static let weightCodes = Kernel("weight_codes", .weights)
  static let weightScales = Kernel("weight_scales", .weights)
  static let weightBFloat16 = Kernel("weight_bfloat16", .weights)
  static let truth = Kernel("truth", .truth, threads: 32, shared: 512)

  /// Widths of heads that have products of their own.
  static let flashWidths = [32, 64, 72, 128, 256]

  static func flash(_ width: Int) -> Kernel {
    Kernel("attention_\(width)", .attention, threads: 128, shared: 3 * 64 * ((width + 15) / 16 * 32 + 16))
  }

  static let widestHead = 512
  static let attentionAny = Kernel("attention_any", .attention, threads: 128, shared: (128 + 4 + widestHead) * 4)

  // Attention by 8-bit codes.
  static let attentionSums = Kernel("attention_sums", .attentionInt8, threads: 128)
  static let attentionMeans = Kernel("attention_means", .attentionInt8, threads: 128)
  static let attentionCodes = Kernel("attention_codes", .attentionInt8, threads: 128)

  /// Columns that heads are filled up to.
  static let codedWidths = [32, 64, 80, 128]

  /// Queries, keys with their scales, values, and what is known of each query.
  static func coded(_ width: Int) -> Kernel {
    let row = (width + 31) / 32 * 32 + 16
    return Kernel(
      "attention_int8_\(width)", .attentionInt8, threads: 128,
      shared: (64 + 256) * row + width * (256 + 16) + 256 * 4 + 3 * 64 * 4)
  }

  /// All of them.
  package static let all =
    [
      gemmInt8, gemmInt8Groups, gemmBFloat16, hopperInt8, hopperBFloat16, rowsFloat, rowsBFloat16, rowsInt8, normHeads,
      rope, rescale, lookup, interpolate, distanceBiases, pool, weightCodes, weightScales, weightBFloat16, truth,
      attentionAny,
      attentionSums, attentionMeans, attentionCodes,
    ] + flashWidths.map(flash) + codedWidths.map(coded)
}

/// A value that a kernel takes.
enum Argument: Sendable {
  /// Memory from an offset on, held until the kernel is in the stream: what is freed after that is freed behind it.
  case memory(Memory, at: Int)
  case address(UInt64)
  /// Of 32 bits; a launch refuses what does not fit.
  case int(Int)
  case float(Float)
  case double(Double)

  static let null = Argument.address(0)
  static func memory(_ memory: Memory?) -> Argument { memory.map { .memory($0, at: 0) } ?? .null }

  var fits: Bool { if case .int(let value) = self { Int32(exactly: value) != nil } else { true } }

  var size: Int {
    switch self {
    case .memory, .address, .double: 8
    case .int, .float: 4
    }
  }

  /// The value in the low end of a word.
  var bits: UInt64 {
    switch self {
    case .memory(let memory, let offset): memory.address + UInt64(offset)
    case .address(let value): value
    case .int(let value): UInt64(UInt32(truncatingIfNeeded: value))
    case .float(let value): UInt64(value.bitPattern)
    case .double(let value): value.bitPattern
    }
  }
}
