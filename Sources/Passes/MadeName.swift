import Tensors

/// The names that passes give to what they make, read backwards: `a.{q,k}.{weight+gain+scaled,weight+gain}` is made of
/// `a.q.weight+gain+scaled` and `a.k.weight+gain`, and these of `a.q.weight` and `a.k.weight`.
extension TensorName {
  /// What passes put behind a name.
  private static let marks: Set<Substring> = ["gain", "shift", "scaled", "pixels", "padded", "bias", "scales"]

  private static func isMark(_ text: Substring) -> Bool {
    marks.contains(text) || text.hasPrefix("row") && text.count > 3 && text.dropFirst(3).allSatisfy(\.isNumber)
  }

  /// The name in the checkpoint.
  var base: TensorName { taken.name }

  /// What was done to it, first things first.
  var marks: [String] { taken.marks }

  /// The name before `mark` was put behind it; nil where it was not.
  func without(_ mark: String) -> TensorName? {
    guard let place = marks.lastIndex(of: mark) else { return nil }
    var rest = marks
    rest.remove(at: place)
    return rest.reduce(base) { $0.made($1) }
  }

  private var taken: (name: TensorName, marks: [String]) {
    var (rest, marks) = (text[...], [String]())
    while let plus = rest.lastIndex(of: "+"), case let mark = rest[rest.index(after: plus)...],
      TensorName.isMark(mark)
    {
      marks.insert(String(mark), at: 0)
      rest = rest[..<plus]
    }
    return marks.isEmpty ? (self, []) : (TensorName(String(rest)), marks)
  }

  /// The names that `joined` made this one of, in their order; nil for any other name.
  var members: [TensorName]? {
    // Literal text and choices take turns.
    var parts: [[Substring]] = []
    var rest = text[...]
    while let open = rest.firstIndex(of: "{") {
      guard let close = rest.firstIndex(of: "}"), open < close else { return nil }
      let choices = rest[rest.index(after: open)..<close]
      parts += [[rest[..<open]], choices.split(separator: ",", omittingEmptySubsequences: false)]
      rest = rest[rest.index(after: close)...]
    }
    let choices = parts.indices.filter { $0 % 2 == 1 }.map { parts[$0] }
    guard let count = choices.first?.count, count > 1, choices.allSatisfy({ $0.count == count }) else { return nil }
    let names = (0..<count).map { member in
      TensorName(parts.map { $0.count == 1 ? $0[0] : $0[member] }.joined() + rest)
    }
    return Set(names).count == count ? names : nil
  }

  /// What a checkpoint calls the bias beside this weight: `a.bias` for `a.weight`, `in_proj_bias` for `in_proj_weight`;
  /// nil for what is called otherwise.
  var biasBeside: TensorName? {
    let weight = Array("weight".utf8)
    let name = base.bytes
    return name.suffix(weight.count).elementsEqual(weight)
      ? TensorName(Array(name.dropLast(weight.count)) + Array("bias".utf8)) : nil
  }
}
