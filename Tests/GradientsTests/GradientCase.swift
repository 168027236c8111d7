import Bytes
import Formats
import Inference
import Tensors
import TestSupport

/// An operation with the inputs that Tools/make-gradient-goldens made, and what PyTorch says of it.
struct GradientCase: Sendable {
  let name: String
  let op: Op
  /// By place; numbers come from the golden in the order of the others.
  var indices: [Int: (values: [Int32], columns: Int)] = [:]
  /// Places of tensors of the model: everything else is a value of the batch.
  var tensors: Set<Int> = []
  /// Numbers that are given here.
  var fixed: [Int: (values: [Float], columns: Int)] = [:]
  /// Places that nothing is wanted by.
  var unwanted: Set<Int> = []

  static let starts: [Int32] = [0, 1, 5, 12]
  private static let shares: [Float] = [0.5, 0, 0.25, 0, 0.75, 0, 0.125, 0.5, 0, 0, 0, 1]

  static var all: [GradientCase] {
    var cases: [GradientCase] = [
      .init(name: "linear", op: .linear(.float), tensors: [1, 2]),
      .init(name: "add", op: .add), .init(name: "add row", op: .add, tensors: [1]),
      .init(name: "multiply", op: .multiply),
      .init(name: "norm", op: .norm(.layer, epsilon: 1e-12), tensors: [1, 2]),
      .init(name: "norm, bare", op: .norm(.layer, epsilon: 1e-5)),
      .init(name: "rms norm", op: .norm(.rms, epsilon: 1e-6), tensors: [1]),
      .init(
        name: "rms norm, heads, gain plus one", op: .norm(.rmsPlusOne, epsilon: 1e-6, heads: 3), tensors: [1]),
      .init(
        name: "rescale", op: .rescale(.init(factor: 1 / 255.0, mean: [0.5, 0.4, 0.3], deviation: [0.5, 0.2, 0.25]))),
      .init(name: "rope", op: .rope(.init(theta: 1e4, headWidth: 8)), indices: [1: (Array(0..<6), 1)]),
      .init(
        name: "interpolate", op: .interpolate, indices: [2: ([0, 1, 2, -1, -1, -1, 3, 0, 4, 4, 1, 2], 4)],
        tensors: [1], unwanted: [3]),
      .init(name: "slice", op: .slice(offset: 3, count: 5)), .init(name: "concatenate", op: .concatenate),
      .init(name: "route", op: .route(top: 2)),
      .init(name: "mix", op: .mix, fixed: [0: (shares, 3)], unwanted: [0]),
      .init(name: "routed", op: .routed(expert: 1), fixed: [1: (shares, 3)], unwanted: [1]),
      .init(name: "normalize", op: .normalize),
      .init(
        name: "embedding", op: .embedding(offset: 1), indices: [1: ([2, 0, -1, 3, 2, -3, 0], 1)], tensors: [0]),
      .init(name: "row", op: .row(3), tensors: [0]),
    ]
    cases += Op.Activation.allCases.map { .init(name: $0.rawValue, op: .activation($0)) }
    cases += Op.Pooling.allCases.map { .init(name: $0.rawValue, op: .pool($0), indices: [1: (starts, 1)]) }
    return cases + attention
  }

  private static var attention: [GradientCase] {
    let plain = Op.Attention(heads: 4, keyValueHeads: 4, headWidth: 8, scale: 0.35, isCausal: false)
    var (causal, window, both, slopes, biased) = (plain, plain, plain, plain, plain)
    (causal.isCausal, causal.keyValueHeads, window.window) = (true, 2, 3)
    (both.isCausal, both.window, slopes.hasSlopes, biased.farthest) = (true, 2, true, 6)
    return [
      ("attention", plain), ("attention, causal, shared keys", causal), ("attention, window", window),
      ("attention, causal window", both), ("attention, slopes", slopes), ("attention, biases", biased),
      ("attention, one query a sequence", plain), ("attention, one query for all", plain),
    ].map { .init(name: $0, op: .attention($1), indices: [3: (starts, 1)], tensors: $1.farthest == nil ? [] : [4]) }
  }

  // MARK: What the golden holds

  /// Tensors of a golden by name.
  static func golden(_ name: String) throws -> [String: Tensor] {
    let file = try Safetensors.read(InputFile(Repository.root + "/Tests/Goldens/gradients/\(name).safetensors"))
    return Dictionary(uniqueKeysWithValues: file.tensors.map { ($0.name.text, $0) })
  }

  /// An input as floats, and the place that the golden has it at; nil for indices.
  struct Input {
    let place: Int
    /// Of the golden's inputs; nil where it is given here.
    let number: Int?
    let values: [Float]
    let shape: [Int]
  }

  func inputs(_ golden: [String: Tensor]) throws -> [Input] {
    var (result, number, place) = ([Input](), 0, 0)
    while true {
      if let given = fixed[place] {
        let shape = [given.values.count / given.columns, given.columns]
        result.append(Input(place: place, number: nil, values: given.values, shape: shape))
      } else if indices[place] == nil {
        guard let tensor = golden["\(name)/\(number)"] else { return result }
        let values = try tensor.floats().array(of: Float.self)
        result.append(Input(place: place, number: number, values: values, shape: tensor.shape))
        number += 1
      }
      place += 1
    }
  }

  /// Uploads all inputs, with others in the place of one of them.
  func upload(
    _ inputs: [Input], changed: (place: Int, values: [Double])? = nil, to device: any Device
  ) throws -> [DeviceBuffer] {
    var buffers: [Int: DeviceBuffer] = [:]
    for (place, own) in indices { buffers[place] = try device.upload(indices: own.values, columns: own.columns) }
    for input in inputs {
      if device is ReferenceDevice {
        let values = changed?.place == input.place ? changed?.values ?? [] : input.values.map(Double.init)
        let bytes = try Buffer(count: values.count * 8)
        bytes.with(Double.self) { _ = $0.update(fromContentsOf: values) }
        buffers[input.place] = try device.upload(
          Tensor("x", shape: input.shape, encoding: .plain(.F64), content: .bytes(ByteView(bytes))))
      } else if tensors.contains(input.place) {
        let isLinear = if case .linear = op { input.place == 1 } else { false }
        buffers[input.place] = try device.upload(
          try Tensor("x", floats: input.values, shape: input.shape), isLinear: isLinear)
      } else {
        buffers[input.place] = try device.upload(floats: input.values, columns: input.shape[1])
      }
    }
    return (0..<buffers.count).compactMap { buffers[$0] }
  }
}
