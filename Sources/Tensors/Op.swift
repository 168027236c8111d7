import Glibc

/// One operation of a graph. A closed list: adding a case makes the compiler name every device that must learn it.
///
/// Values are matrices. `tokens` is the number of tokens of a packed batch, all sequences one after the other with no
/// padding; `sequences` is how many there are. Tokens before the first sequence's start are a prefix that all sequences
/// share. A tensor of more than two dimensions is seen as a matrix of its outermost. Inputs are listed after each case,
/// optional ones in brackets.
public enum Op: Sendable, Hashable {
  /// Row `ids[i] + offset` of the table; where an id is negative, row `-1 - ids[i]` of the features. Inputs: table `[n,
  /// width]`, ids `[tokens]`, (features `[features, width]`). Result `[tokens, width]`.
  case embedding(offset: Int = 0)
  /// One row of a table, to be added to every token. Inputs: table `[n, width]`. Result `[1, width]`.
  case row(Int)
  /// `x Wᵀ + b`. Inputs: x `[m, in]`, W `[out, in]`, (b `[1, out]`). Result `[m, out]`.
  case linear(LinearInput)
  /// Element-wise sum. Inputs: a `[m, n]`, b `[m, n]` or `[1, n]`. Result `[m, n]`.
  case add
  /// Element-wise product. Inputs: a `[m, n]`, b `[m, n]`. Result `[m, n]`.
  case multiply
  /// `(x - mean) / sqrt(variance + ε) · gain + bias` or, without mean, the RMS form. Each row is `heads` rows of n side
  /// by side, each normalised by itself. Inputs: x `[m, heads · n]`, (gain `[1, n]`), (bias `[1, n]`). Variance over n,
  /// not n - 1.
  case norm(Norm, epsilon: Double, heads: Int = 1)
  /// Element-wise. Inputs: x.
  case activation(Activation)
  /// `(x · factor - mean[c]) / deviation[c]`, rounded to Float32 after the first and the second step; channel c of
  /// column i is `i / (n / channels)`. Inputs: pixels `[m, n]`.
  case rescale(Rescale)
  /// Rotary position embedding (Su et al. 2021) of each head: with angles `position · frequency[i]` for i < width/2,
  /// column i and column i + width/2 are turned as a pair. Inputs: x `[m, heads · width]`, positions `[m]`.
  case rope(Rotation)
  /// `Σ weights[i, j] · x[indices[i, j]]`; index -1 stands for the row given apart. Inputs: x `[m, n]`, row `[1, n]`,
  /// indices `[features, taps]`, weights `[features, taps]`. Result `[features, n]`.
  case interpolate
  /// Columns `offset ..< offset + count`. Inputs: x `[m, n]`. Result `[m, count]`.
  case slice(offset: Int, count: Int)
  /// Columns of values side by side. Inputs: two or more `[m, n]` each of its own n. Result `[m, Σ n]`.
  case concatenate
  /// A row's shares of experts: the softmax of its scores, and 0 for all but the `top` largest (of equal ones the first
  /// ones); they are not made to sum to one. Inputs: scores `[m, experts]`. Result `[m, experts]`.
  case route(top: Int)
  /// The rows whose share in column `expert` is not 0, in order. Inputs: x `[m, n]`, shares `[m, experts]`. Result
  /// `[chosen, n]`.
  case routed(expert: Int)
  /// `Σ shares[i, e] · y_e`, of the experts whose share in row i is not 0, in order. Inputs: shares `[m, experts]`, for
  /// each expert what was made of its rows `[chosen, n]`. Result `[m, n]`.
  case mix
  /// `softmax(scale · q kᵀ + bias) v` within each sequence and head. Inputs: q `[tokens, heads · width]`, k and v
  /// `[tokens, keyValueHeads · width]`, sequence starts `[sequences + 1]`, (biases by distance `[buckets, heads]`).
  /// Result like q. q may also have one row for each sequence, or one row for all, that sees its whole sequence; the
  /// result is then `[sequences, heads · width]`.
  case attention(Attention)
  /// One row for each sequence, or one index. Inputs: x `[tokens, n]`, sequence starts. Result `[sequences, n]`.
  case pool(Pooling)
  /// Each row divided by its Euclidean length; a row of zeros stays zero. Inputs: x.
  case normalize

  public enum Norm: String, Sendable, Hashable, CaseIterable {
    case layer, rms
    /// RMS with a gain that is one more than its tensor says.
    case rmsPlusOne = "rms-plus-one"

    /// How much larger a gain is than its tensor says.
    public var gainOffset: Float { self == .rmsPlusOne ? 1 : 0 }
  }

  /// What a linear operation with integer or BF16 weights does with its input.
  public enum LinearInput: String, Sendable, Hashable, CaseIterable {
    /// Multiplied as Float32.
    case float
    /// Where W is BF16, rounded to BF16 too (magnitudes below 2^-126 to zero); products are added in Float32.
    case bfloat16
    /// Rounded to 8-bit integers, one scale for each token and each group of the weight's columns; products are
    /// integers.
    case int8
  }

  public enum Activation: String, Sendable, Hashable, CaseIterable {
    /// `x Φ(x)` with the exact error function.
    case gelu
    /// `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
    case geluTanh = "gelu-tanh"
    /// `x / (1 + e^-x)`.
    case silu
    case relu
    case tanh
  }

  public struct Rescale: Sendable, Hashable {
    public var factor: Double
    /// One for each channel.
    public var mean, deviation: [Double]

    public init(factor: Double, mean: [Double], deviation: [Double]) {
      self.factor = factor
      self.mean = mean
      self.deviation = deviation
    }
  }

  public struct Attention: Sendable, Hashable {
    public var heads: Int
    /// Divides `heads`; each key and value head serves `heads / keyValueHeads` query heads in a row.
    public var keyValueHeads: Int
    public var headWidth: Int
    public var scale: Double
    /// Whether a token sees only itself and those before it in its sequence.
    public var isCausal: Bool
    /// Where set, a token sees those alone that are fewer places than this away from it.
    public var window: Int?
    /// Where there are biases, the distance from which on all keys share a bucket (`bucket(_:of:)`).
    public var farthest: Int?
    /// Whether a score falls with the distance of its key, by the head's slope (ALiBi, Press et al. 2022).
    public var hasSlopes = false
    /// What queries, keys, values and the weights of the sum may be rounded to; a device may keep more of them.
    public var input = LinearInput.float

    public init(heads: Int, keyValueHeads: Int, headWidth: Int, scale: Double, isCausal: Bool) {
      self.heads = heads
      self.keyValueHeads = keyValueHeads
      self.headWidth = headWidth
      self.scale = scale
      self.isCausal = isCausal
    }
  }

  public enum Pooling: String, Sendable, Hashable, CaseIterable {
    case mean, first, last
    /// The largest of each column.
    case max
    /// The mean with weights 1, 2, 3, … from the first token on.
    case weightedMean = "weighted-mean"
    /// The sum over the square root of how many there are.
    case rootMean = "root-mean"

    /// Whether it takes one of the rows as it is.
    public var picksRow: Bool { self == .first || self == .last }
  }
}

extension Op.Attention {
  /// Whether what a token sees depends on its place, and not only on who comes before it.
  public var dependsOnPlace: Bool { window != nil || hasBiases }

  /// Whether something is added to scores that depends on the distance.
  public var hasBiases: Bool { farthest != nil || hasSlopes }

  /// By how much a score falls with each place of distance: powers of `2^(-8/n)` for n heads; where n is no power of
  /// two, those of the largest one below it, then every second one of twice as many heads.
  public func slope(_ head: Int) -> Float {
    let whole = 1 << (Int.bitWidth - 1 - heads.leadingZeroBitCount)
    let power = head < whole ? Double(8 * (head + 1)) : Double(4 * (2 * (head - whole) + 1))
    return Float(exp2(-power / Double(whole)))
  }

  /// The bucket of keys `distance` places after the query, of T5 (Raffel et al. 2020) without causality: half of the
  /// buckets for each side; of those half for one distance each, half for distances that grow geometrically up to
  /// `farthest`. Logarithms are Float32, as the models were trained.
  public static func bucket(_ distance: Int, of buckets: Int, farthest: Int) -> Int {
    let half = buckets / 2
    let exact = half / 2
    let side = distance > 0 ? half : 0
    let n = abs(distance)
    guard n >= exact else { return side + n }
    let steps = Float(half - exact)
    let place = logf(Float(n) / Float(exact)) / Float(log(Double(farthest) / Double(exact))) * steps
    return side + min(exact + Int(place), half - 1)
  }
}

extension Op {
  public var isEmbedding: Bool { if case .embedding = self { true } else { false } }

  /// The operation's name in a manifest and in reports.
  public var name: String {
    switch self {
    case .embedding: "embedding"
    case .row: "row"
    case .linear: "linear"
    case .add: "add"
    case .norm: "norm"
    case .activation: "activation"
    case .multiply: "multiply"
    case .rescale: "rescale"
    case .rope: "rope"
    case .interpolate: "interpolate"
    case .slice: "slice"
    case .concatenate: "concatenate"
    case .route: "route"
    case .routed: "routed"
    case .mix: "mix"
    case .attention: "attention"
    case .pool: "pool"
    case .normalize: "normalize"
    }
  }
}
