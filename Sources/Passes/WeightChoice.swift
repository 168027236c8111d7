import Tensors

/// What becomes of one weight.
public enum WeightChoice: Sendable, Hashable {
  case keep
  /// Rounded to BF16, 16 bits.
  case bfloat16
  /// Rounded to half precision.
  case float16
  /// Codes of 2 to 8 bits; `group` elements share a step; nil for a whole row (a channel).
  case integers(bits: Int, group: Int?, form: Form)
  /// One of ggml's block types.
  case block(BlockForm)

  /// What steps and zeros of groups are.
  public enum Form: String, Sendable {
    /// A step in half precision; codes around zero.
    case symmetric
    /// A step and a zero in half precision.
    case affine
    /// A step in half precision, and a zero that is a whole code.
    case asymmetric
    /// A whole step and a whole zero under a scale of the row.
    case twoLevel = "two-level"
  }

  /// How a choice is written, for messages.
  public static let grammar =
    "keep, 16, F16, 2 to 8 with :gN, :channel, :affine, :asymmetric, :symmetric or :two-level, or one of ggml's "
    + "types, like Q4_K"

  /// `keep`, `16` for BF16, `F16`, a name of ggml's, or bits with optional `:gN`, `:channel`, `:affine`, `:asymmetric`,
  /// `:symmetric`, `:two-level`: `8`, `4:g64`, `8:channel`, `4:g32:symmetric`, `Q4_K`. Four bits and fewer are in two
  /// levels where nothing is said and groups allow it; groups have 32 weights, of four bits in two levels 16.
  public init?(_ text: String) {
    switch text {
    case "keep": self = .keep
    case "16": self = .bfloat16
    case "F16": self = .float16
    default:
      if let form = BlockForm(rawValue: text) {
        self = .block(form)
      } else if let integers = WeightChoice(integers: text) {
        self = integers
      } else {
        return nil
      }
    }
  }

  private init?(integers text: String) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard let bits = Int(parts[0]), (2...8).contains(bits) else { return nil }
    // Both nil where nothing is said; the inner one of the group is a whole row.
    var (group, form): (Int??, Form?) = (nil, nil)
    for part in parts.dropFirst() {
      switch part {
      case "channel": group = .some(nil)
      case _ where part.hasPrefix("g"):
        guard let size = Int(part.dropFirst()), size > 0, size <= 1 << 20 else { return nil }
        group = size
      default:
        guard let named = Form(rawValue: String(part)) else { return nil }
        form = named
      }
    }
    // Few bits need a zero of their own; eight do not. Two levels are for groups of whole eights.
    let hasLevels = if let size = group ?? 16 { bits <= 4 && size % 8 == 0 } else { false }
    let chosen = form ?? (bits == 8 ? .symmetric : hasLevels ? .twoLevel : .affine)
    guard chosen != .twoLevel || hasLevels else { return nil }
    self = .integers(bits: bits, group: group ?? (chosen == .twoLevel && bits == 4 ? 16 : 32), form: chosen)
  }

  public var text: String {
    switch self {
    case .keep: "keep"
    case .bfloat16: "16"
    case .float16: "F16"
    case .integers(let bits, let group, let form):
      "\(bits):\(group.map { "g\($0)" } ?? "channel"):\(form.rawValue)"
    case .block(let form): form.rawValue
    }
  }

  /// What elements may become in rows of so many; nil where they stay floats.
  public func grid(columns: Int) -> Grid? {
    switch self {
    case .keep, .bfloat16, .float16: nil
    case .block(let form): Grid(form)
    case .integers(let bits, let group, var form):
      {
        let size = min(group ?? columns, columns)
        if form == .twoLevel, size % 8 != 0 { form = .affine }
        return Grid(bits: bits, group: size, form: form)
      }()
    }
  }
}
