import Bytes
import Tensors

// A model whose fusions were undone lacks what is gone for good: the gain of a norm is in the weights behind it. A
// checkpoint has a tensor there all the same, one that changes nothing.
extension Architecture {
  /// Values of a tensor made like this at most: they are small in every model.
  private static let most = 1 << 24
  private static let gain = Array("+gain".utf8)

  /// The model's tensors and those that a checkpoint must have besides. A gain that a pass gave to a norm, called
  /// `WEIGHT+gain` for what reads the norm, gets its name.
  func completed(_ tensors: [Tensor]) throws(Failure) -> [Tensor] {
    var result = tensors.map { tensor in gainName(tensor.name).map(tensor.renamed) ?? tensor }
    let names = Set(result.map(\.name))
    guard names.count == result.count else { throw Failure(.malformed, "two tensors have one name") }
    for rule in rules {
      guard let folded = rule.folded else { continue }
      for layer in rule.places(depth(rule, tensors)) {
        let spellings = [rule.pattern] + (rule.alias.map { [$0] } ?? [])
        guard !spellings.contains(where: { names.contains(TensorName(prefix + $0.filled(layer))) }) else { continue }
        let shape = rule.shape?.map { dimensions[$0] ?? 0 } ?? []
        let name = TensorName(prefix + rule.pattern.filled(layer))
        guard let count = Checked.product(shape), count <= Architecture.most else {
          throw Failure(.limit, "would have shape \(shape), as config.json says", thing: "tensor \(name.quoted)")
        }
        result.append(try Tensor(name, floats: [Float](repeating: folded.value, count: count), shape: shape))
      }
    }
    return result
  }

  /// Whether a checkpoint of this architecture has a tensor of this name.
  func has(_ name: TensorName, among tensors: [Tensor]) -> Bool {
    rules.contains { rule in
      rule.places(depth(rule, tensors)).contains { layer in
        [rule.pattern, rule.alias].contains { $0.map { TensorName(prefix + $0.filled(layer)) } == name }
      }
    }
  }

  /// What the norm is called whose gain was made for the weight that `name` begins with; nil for any other name.
  func gainName(_ name: TensorName) -> TensorName? {
    guard name.bytes.suffix(Architecture.gain.count).elementsEqual(Architecture.gain) else { return nil }
    for rule in rules {
      guard let into = rule.folded?.into, rule.folded?.value == 1 else { continue }
      // The layer, if any, is the number behind what comes before it.
      let head = Array((prefix + into.prefix { $0 != "{" }).utf8)
      let digits = name.bytes.starts(with: head) ? name.bytes.dropFirst(head.count).prefix { $0 >= 48 && $0 <= 57 } : []
      let layer = Int(String(decoding: digits, as: UTF8.self)) ?? 0
      if name.bytes.starts(with: (prefix + into.filled(layer)).utf8) {
        return TensorName(prefix + rule.pattern.filled(layer))
      }
    }
    return nil
  }

  /// Places of a rule: the layers that are there, 1 outside of them.
  private func depth(_ rule: Rule, _ tensors: [Tensor]) -> Int {
    guard let head = rule.stackHead else { return 1 }
    let layers = stacks.first { $0.head == head }?.layers ?? 0
    return min(layers, Architecture.layersHeld(prefix + head, tensors))
  }
}
