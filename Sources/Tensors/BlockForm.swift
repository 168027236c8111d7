import CKernels

/// ggml's block types that weights are rounded to: what their codes and steps may be, and how the IR holds the very
/// same values.
///
/// Layouts: Formats/gguf/spec.md.
public enum BlockForm: String, Sendable, CaseIterable {
  case q8_0 = "Q8_0"
  case q6K = "Q6_K"
  case q5K = "Q5_K"
  case q5_1 = "Q5_1"
  case q5_0 = "Q5_0"
  case q4K = "Q4_K"
  case q4_1 = "Q4_1"
  case q4_0 = "Q4_0"
  case iq4NL = "IQ4_NL"
  case q3K = "Q3_K"
  case q2K = "Q2_K"

  /// ggml's number of the type.
  public var number: Int {
    switch self {
    case .q8_0: LLV_Q8_0
    case .q6K: LLV_Q6_K
    case .q5K: LLV_Q5_K
    case .q5_1: LLV_Q5_1
    case .q5_0: LLV_Q5_0
    case .q4K: LLV_Q4_K
    case .q4_1: LLV_Q4_1
    case .q4_0: LLV_Q4_0
    case .iq4NL: LLV_IQ4_NL
    case .q3K: LLV_Q3_K
    case .q2K: LLV_Q2_K
    }
  }

  /// Elements of a block.
  public var elements: Int {
    switch self {
    case .q6K, .q5K, .q4K, .q3K, .q2K: 256
    default: 32
    }
  }

  /// Bytes of a block.
  public var bytes: Int {
    switch self {
    case .q8_0: 34
    case .q6K: 210
    case .q5K: 176
    case .q5_1: 24
    case .q5_0: 22
    case .q4K: 144
    case .q4_1: 20
    case .q4_0, .iq4NL: 18
    case .q3K: 110
    case .q2K: 84
    }
  }

  /// Bits of a code; a code book's count as those of its values.
  public var bits: Int {
    switch self {
    case .q8_0, .iq4NL: 8
    case .q6K: 6
    case .q5K, .q5_1, .q5_0: 5
    case .q4K, .q4_1, .q4_0: 4
    case .q3K: 3
    case .q2K: 2
    }
  }

  public var isAffine: Bool {
    switch self {
    case .q5K, .q5_1, .q4K, .q4_1, .q2K: true
    default: false
    }
  }

  /// Whether steps and zeros are whole multiples of two scales of the block.
  public var hasSuperBlocks: Bool { elements == 256 }

  /// What llama.cpp's quantizer takes where rows are no multiple of the block; nil for half precision.
  public var fallback: BlockForm? {
    switch self {
    case .q6K: .q8_0
    case .q5K: .q5_1
    case .q4K: .q5_0
    case .q3K, .q2K: .iq4NL
    default: nil
    }
  }

  /// Elements that share a step.
  public var groupSize: Int {
    switch self {
    case .q6K, .q3K, .q2K: 16
    default: 32
    }
  }

  /// How the IR holds the type. Codes of more than four bits, and those of a code book, take eight; products of a step
  /// and a scale take Float32.
  public var encoding: Encoding { encoding(GroupedInteger.room(bits)) }

  private func encoding(_ width: Int) -> Encoding {
    let integers = GroupedInteger(
      bits: width, groupSize: groupSize, isAffine: isAffine, scaleType: hasSuperBlocks ? .F32 : .F16)
    guard let integers else { preconditionFailure("every case names an encoding") }
    return .grouped(integers)
  }

  /// Whether a tensor's encoding is the type's, or that of containers written when codes took four bits at least.
  public func isHeld(by other: Encoding) -> Bool { other == encoding || bits < 4 && other == encoding(4) }
}
