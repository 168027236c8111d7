import Bytes
import Fidelity
import Inference
import Tensors

/// Whether a model is the same on two devices: its integer products bit for bit, its embeddings nearly.
struct DeviceAgreement {
  /// What the two vectors of every item must have at least. Attention is computed in BF16 on a GPU, and a value that lies between two 8-bit codes
  /// may fall to either side (Docs/GPU.md has measured values).
  static let leastCosine = 0.999

  let model: String
  let devices: (String, String)
  let least, mean: Double
  /// Kinds of integer products that were compared, and those that differ.
  let products: Int
  let differing: [String]
  var passes: Bool { least >= DeviceAgreement.leastCosine && differing.isEmpty }

  init(
    _ path: String, _ one: (name: String, model: LoadedModel, vectors: FidelityReport.Vectors),
    _ other: (name: String, model: LoadedModel, vectors: FidelityReport.Vectors), devices: (any Device, any Device)
  ) throws(Failure) {
    model = path
    self.devices = (one.name, other.name)
    var (least, sum, count) = (1.0, 0.0, 0)
    for (a, b) in [(one.vectors.queries, other.vectors.queries), (one.vectors.documents, other.vectors.documents)] {
      for (x, y) in zip(try a.rows(0..<a.count).chunks(a.width), try b.rows(0..<b.count).chunks(b.width)) {
        let cosine = zip(x, y).reduce(0) { $0 + Double($1.0) * Double($1.1) }
        least = cosine < least || cosine.isNaN ? cosine : least
        sum += cosine
        count += 1
      }
    }
    (self.least, mean) = (least, sum / Double(max(count, 1)))
    (products, differing) = try DeviceAgreement.products(one.model.prepared, devices.0, devices.1)
  }

  /// One product of every kind that the model has, by shape and encoding, with random inputs on both devices.
  private static func products(
    _ model: Model, _ one: any Device, _ other: any Device
  ) throws(Failure) -> (count: Int, differing: [String]) {
    var seen = Set<String>()
    var differing: [String] = []
    for (_, graph) in model.graphs {
      for node in graph.nodes where node.op == .linear(.int8) {
        guard case .tensor(let name) = node.inputs[1], let weight = model[name], !weight.encoding.isPlain else {
          continue
        }
        let matrix = weight.matrix
        let kind = "\(matrix.rows) × \(matrix.columns) \(weight.encoding.text)"
        guard seen.insert(kind).inserted else { continue }
        var random = Random(seed: 1)
        let inputs = (0..<37 * matrix.columns).map { _ in random.normal() }
        func run(_ device: any Device) throws(Failure) -> [UInt32] {
          let x = try device.upload(floats: inputs, columns: matrix.columns)
          return try device.download(try device.run(node.op, [x, try device.upload(weight, isLinear: true)]))
            .map(\.bitPattern)
        }
        if try run(one) != run(other) { differing.append(kind) }
      }
    }
    return (seen.count, differing)
  }

  var text: String {
    let verdict = least >= DeviceAgreement.leastCosine ? "pass" : "FAIL"
    let integers =
      products == 0
      ? "the model has no integer products"
      : differing.isEmpty
        ? "integer products: the same bits, \(products) kinds   pass"
        : "integer products: other bits in \(differing.joined(separator: ", "))   FAIL"
    return """
      \(model) on \(devices.0) and \(devices.1): \(passes ? "PASS" : "FAIL")
        cosine of an item's two vectors: least \(least.fixed(6)), mean \(mean.fixed(6)); wanted \(DeviceAgreement.leastCosine)   \(verdict)
        \(integers)
      """
  }

  var json: JSONText {
    .object([
      ("model", .string(model)), ("devices", .array([.string(devices.0), .string(devices.1)])),
      ("passes", .bool(passes)),
      ("leastCosine", .number(least)), ("meanCosine", .number(mean)),
      ("wantedCosine", .number(DeviceAgreement.leastCosine)),
      ("integerProducts", .int(products)), ("differingProducts", .array(differing.map { .string($0) })),
    ])
  }
}

extension Array {
  fileprivate func chunks(_ size: Int) -> [ArraySlice<Element>] {
    stride(from: 0, to: count, by: Swift.max(size, 1)).map { self[$0..<Swift.min($0 + size, count)] }
  }
}
