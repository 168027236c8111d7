import Tensors

/// What a weight is in its layer, and which layer: `a.layers.#.b` and 3 for `a.layers.3.b`.
struct LayerRole: Hashable {
  let role: String
  let layer: Int

  /// nil where no part of the name is a number.
  init?(_ name: TensorName) {
    var parts = name.text.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    guard let place = parts.firstIndex(where: { Int($0) != nil }), let layer = Int(parts[place]) else { return nil }
    parts[place] = "#"
    (role, self.layer) = (parts.joined(separator: "."), layer)
  }
}

extension Sensitivity {
  /// Weights of every so many layers, and of the last one; those of no layer always.
  public static func spread(_ names: [TensorName], every step: Int) -> Set<TensorName> {
    let last = Dictionary(names.compactMap(LayerRole.init).map { ($0.role, $0.layer) }, uniquingKeysWith: max)
    return Set(
      names.filter { name in
        guard let role = LayerRole(name) else { return true }
        return role.layer % step == 0 || role.layer == last[role.role]
      })
  }

  /// A number for a weight that was not measured, between those of its like in the nearest layers that were; nil
  /// without any.
  static func interpolated(_ name: TensorName, _ measured: [TensorName: Double]) -> Double? {
    guard let own = LayerRole(name) else { return nil }
    let like = measured.compactMap { name, value in LayerRole(name).map { ($0, value) } }
      .filter { $0.0.role == own.role }.sorted { $0.0.layer < $1.0.layer }
    guard let below = like.last(where: { $0.0.layer <= own.layer }) else { return like.first?.1 }
    guard let above = like.first(where: { $0.0.layer > own.layer }) else { return below.1 }
    let share = Double(own.layer - below.0.layer) / Double(above.0.layer - below.0.layer)
    return below.1 + share * (above.1 - below.1)
  }
}
