import Bytes
import Fidelity
import Inference
import Tensors

/// Whether a model is the same on two devices: its integer products bit for bit, its embeddings nearly.
package struct DeviceAgreement {
  /// What the two vectors of every item must have at least. What a GPU computes in BF16, pixels' projection and
  /// attention of floats, moves a value that lies between two 8-bit codes to either side (Docs/reference/gpu.md has
  /// measured values).
  package static let leastCosine = 0.999

  package let model: String
  package let devices: (String, String)
  package let least, mean: Double
  /// Kinds of integer products that were compared, and those that differ.
  package let products: Int
  package let differing: [String]
  package var passes: Bool { least >= DeviceAgreement.leastCosine && differing.isEmpty }

  package init(
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
    func compare(
      _ kind: String, _ run: (any Device) throws(Failure) -> DeviceBuffer
    ) throws(Failure) {
      guard seen.insert(kind).inserted else { return }
      let found = try one.download(try run(one)).map(\.bitPattern)
      if try other.download(try run(other)).map(\.bitPattern) != found { differing.append(kind) }
    }
    for (_, graph) in model.graphs {
      for node in graph.nodes {
        switch node.op {
        case .linear(.int8):
          guard case .tensor(let name) = node.inputs[1], let weight = model[name], !weight.encoding.isPlain else {
            continue
          }
          let matrix = weight.matrix
          try compare("\(matrix.rows) × \(matrix.columns) \(weight.encoding.text)") { (device) throws(Failure) in
            let x = try device.upload(floats: normals(37 * matrix.columns), columns: matrix.columns)
            return try device.run(node.op, [x, try device.upload(weight, isLinear: true)])
          }
        // A GPU computes wider heads in Float32.
        case .attention(let attention) where attention.input == .int8 && attention.headWidth <= 128:
          let (heads, shared, width) = (attention.heads, attention.keyValueHeads, attention.headWidth)
          try compare("attention of \(heads) / \(shared) heads of \(width)") { (device) throws(Failure) in
            // Two blocks of keys.
            let tokens = 270
            let values = try [heads, shared, shared].enumerated().map { (place, heads) throws(Failure) in
              try device.upload(floats: normals(tokens * heads * width, seed: place), columns: heads * width)
            }
            return try device.run(node.op, values + [try device.upload(indices: [0, Int32(tokens)])])
          }
        default: break
        }
      }
    }
    return (seen.count, differing)
  }

  private static func normals(_ count: Int, seed: Int = 1) -> [Float] {
    var random = Random(seed: UInt64(seed))
    return (0..<count).map { _ in random.normal() }
  }

  package var text: String {
    let verdict = least >= DeviceAgreement.leastCosine ? "pass" : "FAIL"
    let integers =
      products == 0
      ? "the model has no integer products"
      : differing.isEmpty
        ? "integer products: the same bits, \(products) kinds   pass"
        : "integer products: other bits in \(differing.joined(separator: ", "))   FAIL"
    let cosines = "least \(least.fixed(6)), mean \(mean.fixed(6)); wanted \(DeviceAgreement.leastCosine)"
    return """
      \(model) on \(devices.0) and \(devices.1): \(passes ? "PASS" : "FAIL")
        cosine of an item's two vectors: \(cosines)   \(verdict)
        \(integers)
      """
  }

  package var json: JSONText {
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
