import Tensors

/// Tensor names as a tree over their dots. Branches with one child are drawn as one.
struct TensorTree {
  struct Line {
    let label: String
    let tensor: Tensor?
    let bytes: Int
  }

  private(set) var lines: [Line] = []

  init(_ tensors: [Tensor]) {
    let rows = tensors.map {
      (parts: $0.name.text.split(separator: ".", omittingEmptySubsequences: false).map(String.init), tensor: $0)
    }
    add(rows[...].sorted { TensorTree.isBefore($0.parts, $1.parts) }[...], depth: 0, indent: "")
  }

  /// Numbers by value, so that layer 10 comes after layer 9.
  private static func isBefore(_ a: [String], _ b: [String]) -> Bool {
    for (x, y) in zip(a, b) where x != y {
      if let p = Int(x), let q = Int(y) { return p < q }
      return x < y
    }
    return a.count < b.count
  }

  private mutating func add(_ rows: ArraySlice<(parts: [String], tensor: Tensor)>, depth: Int, indent: String) {
    var rest = rows
    while let first = rest.first {
      let part = depth < first.parts.count ? first.parts[depth] : ""
      let group = rest.prefix { depth < $0.parts.count && $0.parts[depth] == part }
      let same = group.isEmpty ? rest.prefix(1) : group
      rest = rest.dropFirst(same.count)
      if same.count == 1 {
        lines.append(
          Line(label: indent + first.parts.dropFirst(depth).joined(separator: "."), tensor: first.tensor, bytes: 0))
        continue
      }
      var label = part
      var next = depth + 1
      while let shared = same.first.flatMap({ next < $0.parts.count - 1 ? $0.parts[next] : nil }),
        same.allSatisfy({ next < $0.parts.count - 1 && $0.parts[next] == shared })
      {
        label += "." + shared
        next += 1
      }
      lines.append(Line(label: indent + label, tensor: nil, bytes: same.reduce(0) { $0 + $1.tensor.byteCount }))
      add(same, depth: next, indent: indent + "  ")
    }
  }
}
