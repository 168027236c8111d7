import Bytes
import Tensors

/// What a family's checkpoint must hold, as data: a row for each tensor name, with its shape in terms of the
/// configuration. The only code that knows checkpoint names is in this folder.
struct Architecture {
  struct Rule {
    enum Need {
      case required, optional
      /// Not read, but kept.
      case unused
      /// Not read by any embedding; left out.
      case dead
    }

    /// A name; `{layer}` stands for 0, 1, 2, …
    var pattern: String
    /// Names of dimensions, looked up in `dimensions`; nil where any shape will do.
    var shape: [String]?
    var need: Need
    /// Another spelling of the same tensor.
    var alias: String?
    /// What stands for the tensor where a fusion took it into another one; nil where none does.
    var folded: Folded?
    /// Layers before this one have no such tensor.
    var firstLayer = 0
    /// Layers that have such a tensor; all when nil.
    var layers: Set<Int>?

    /// A tensor of one value, which changes nothing.
    struct Folded {
      var value: Float
      /// What the names of weights begin with that read the result, `{layer}` filled in.
      var into: String?
    }

    init(
      _ pattern: String, _ shape: [String]?, _ need: Need = .required, alias: String? = nil, folded: Folded? = nil,
      firstLayer: Int = 0
    ) {
      self.firstLayer = firstLayer
      self.pattern = pattern
      self.shape = shape
      self.need = need
      self.alias = alias
      self.folded = folded
    }
  }

  var name: String
  var rules: [Rule]
  var dimensions: [String: Int]
  var stacks: [Stack]
  /// In front of every name of this checkpoint.
  var prefix: String

  /// Layers of one kind.
  struct Stack {
    /// What stands before the layer's number in their names.
    var head: String
    var layers: Int
    /// Whether more layers than that may be there; they are then left out.
    var mayHoldMore = false
  }

  /// What a checkpoint holds of this architecture.
  struct Match {
    /// Each rule's tensor, by pattern with the layer filled in.
    var tensors: [String: Tensor] = [:]
    /// Tensors that no embedding reads.
    var dead: Set<TensorName> = []
  }

  /// Holds the checkpoint to all rules.
  ///
  /// - Throws: `malformed` with every missing tensor, wrong shape and surplus layer at once; a missing tensor comes
  ///   with the nearest name that the checkpoint has and nobody else claims.
  func match(_ tensors: [Tensor], notes: inout [String]) throws(Failure) -> Match {
    var byName: [TensorName: Tensor] = [:]
    for tensor in tensors { byName[tensor.name] = tensor }
    var failures: [Failure] = []
    var result = Match()
    var depths: [String: Int] = [:]
    for stack in stacks {
      let held = Architecture.layersHeld(prefix + stack.head, tensors)
      depths[stack.head] = min(stack.layers, held)
      if held < stack.layers || held > stack.layers && !stack.mayHoldMore {
        failures.append(
          Failure(
            .malformed, "config.json says \(stack.layers) layers, the checkpoint holds \(held)",
            thing: stacks.count > 1 ? Failure.quoted(prefix + stack.head) : nil))
      }
      for layer in stack.layers..<max(held, stack.layers) {
        let head = Array("\(prefix)\(stack.head)\(layer).".utf8)
        result.dead.formUnion(tensors.lazy.map(\.name).filter { $0.bytes.starts(with: head) })
      }
    }
    var claimed = result.dead
    var missing: [String] = []
    for rule in rules {
      let depth = rule.stackHead.map { depths[$0] ?? 0 }
      for layer in rule.places(depth ?? 1) {
        let key = rule.pattern.filled(layer)
        let candidates = [prefix + key] + (rule.alias.map { [prefix + $0.filled(layer)] } ?? [])
        guard let tensor = candidates.lazy.compactMap({ byName[TensorName($0)] }).first else {
          if rule.need == .required { missing.append(prefix + key) }
          continue
        }
        claimed.insert(tensor.name)
        if rule.need == .dead { result.dead.insert(tensor.name) }
        if let failure = shapeProblem(tensor, rule) { failures.append(failure) }
        result.tensors[key] = tensor
      }
    }
    let unclaimed = tensors.filter { !claimed.contains($0.name) }
    failures += missing.map { missingFailure($0, unclaimed) }
    if let failure = Failure.all(failures) { throw failure }
    note(result.dead, unclaimed, byName, &notes)
    return result
  }

  private func note(
    _ dead: Set<TensorName>, _ unclaimed: [Tensor], _ byName: [TensorName: Tensor], _ notes: inout [String]
  ) {
    if !dead.isEmpty {
      let bytes = dead.reduce(0) { $0 + (byName[$1]?.byteCount ?? 0) }
      let shown = dead.map(\.text).sorted().prefix(3).joined(separator: ", ")
      notes.append(
        "\(dead.count) tensors of \(bytes) bytes that no embedding reads are left out: "
          + "\(shown)\(dead.count > 3 ? ", …" : "")"
      )
    }
    for tensor in unclaimed.prefix(20) {
      notes.append("tensor \(tensor.name.quoted) is unknown to \(name); kept, not used")
    }
    if unclaimed.count > 20 { notes.append("and \(unclaimed.count - 20) more unknown tensors") }
  }

  private func shapeProblem(_ tensor: Tensor, _ rule: Rule) -> Failure? {
    guard rule.need == .required || rule.need == .optional else { return nil }
    let wanted = rule.shape?.map { dimensions[$0] ?? -1 }
    if let wanted, wanted != tensor.shape {
      let formula = rule.shape?.joined(separator: ", ") ?? ""
      return Failure(
        .malformed, "has shape \(tensor.shape), \(wanted) [\(formula)] expected from config.json",
        thing: "tensor \(tensor.name.quoted)")
    }
    if case .plain(let type) = tensor.encoding, !type.isWeight {
      return Failure(
        .unsupported, "has type \(type.rawValue), one of F32, F16, BF16, F64 expected",
        thing: "tensor \(tensor.name.quoted)")
    }
    return nil
  }

  private func missingFailure(_ name: String, _ unclaimed: [Tensor]) -> Failure {
    let nearest = unclaimed.prefix(2_000).map { (editDistance(name, $0.name.text), $0.name) }.min {
      ($0.0, $0.1) < ($1.0, $1.1)
    }
    let hint =
      if let nearest, nearest.0 <= max(3, name.utf8.count / 4) {
        "; the nearest name there is \(nearest.1.quoted)"
      } else { "" }
    return Failure(.malformed, "is missing\(hint)", thing: "tensor \(Failure.quoted(name))")
  }

  /// One more than the highest layer number behind `head`; decides before a number of layers from a file sizes
  /// anything.
  static func layersHeld(_ head: String, _ tensors: [Tensor]) -> Int {
    var numbers = Set<Int>()
    for tensor in tensors where tensor.name.bytes.starts(with: head.utf8) {
      let digits = tensor.name.bytes.dropFirst(head.utf8.count).prefix { $0 >= 48 && $0 <= 57 }
      if let number = Int(String(decoding: digits, as: UTF8.self)) { numbers.insert(number) }
    }
    var held = 0
    while numbers.contains(held) { held += 1 }
    return max(held, (numbers.max() ?? -1) < 100_000 ? (numbers.max() ?? -1) + 1 : held)
  }
}

extension Architecture.Rule {
  /// What stands before the layer's number, nil for a tensor outside the layers.
  var stackHead: String? {
    pattern.contains("{layer}") ? String(pattern.prefix { $0 != "{" }) : nil
  }

  /// Layers that have the tensor, of so many; the one place of a tensor outside the layers.
  func places(_ depth: Int) -> [Int] {
    (firstLayer..<max(depth, firstLayer)).filter { layers?.contains($0) ?? true }
  }

  /// The same for some layers alone.
  func only(in layers: Set<Int>?) -> Self {
    var rule = self
    rule.layers = layers
    return rule
  }

  /// Weight and bias of a linear operation.
  static func linear(_ name: String, _ out: String, _ input: String, bias: Bool = true) -> [Self] {
    [.init(name + ".weight", [out, input])] + (bias ? [.init(name + ".bias", [out])] : [])
  }

  /// Gain and bias of a norm with a mean.
  static func norm(_ name: String, _ width: String) -> [Self] {
    [.init(name + ".weight", [width]), .init(name + ".bias", [width])]
  }
}

extension String {
  func filled(_ layer: Int) -> String {
    guard let open = firstIndex(of: "{"), let close = firstIndex(of: "}") else { return self }
    return self[..<open] + String(layer) + self[index(after: close)...]
  }
}

/// Shapes of a checkpoint's tensors by name.
struct Shapes {
  let tensors: [Tensor]
  private let shapes: [TensorName: [Int]]

  init(_ tensors: [Tensor]) {
    self.tensors = tensors
    shapes = Dictionary(tensors.map { ($0.name, $0.shape) }) { first, _ in first }
  }

  func has(_ name: String) -> Bool { shapes[TensorName(name)] != nil }

  /// The first of some prefixes under which there is a tensor of this name; the first of all where there is none.
  func prefix(_ prefixes: [String], of name: String) -> String { prefixes.first { has($0 + name) } ?? prefixes[0] }

  func shape(_ name: String) throws(Failure) -> [Int] {
    guard let shape = shapes[TensorName(name)] else {
      throw Failure(.malformed, "is missing", thing: "tensor \(Failure.quoted(name))")
    }
    return shape
  }

  func matrix(_ name: String) throws(Failure) -> (rows: Int, columns: Int) {
    let shape = try shape(name)
    guard shape.count == 2, shape.allSatisfy({ $0 > 0 }) else {
      throw Failure(.malformed, "has shape \(shape), a matrix expected", thing: "tensor \(Failure.quoted(name))")
    }
    return (shape[0], shape[1])
  }
}
