/// Which of several options each of many things gets, so that all fit into a budget and cost least together: the
/// multiple-choice knapsack problem, by dynamic programming over sizes.
public enum Allocation {
  public struct Option: Sendable {
    public var bytes: Int
    public var cost: Double

    public init(bytes: Int, cost: Double) { (self.bytes, self.cost) = (bytes, cost) }
  }

  private static let cells = 1 << 16

  /// - Returns: an option's place for each thing; nil when the smallest options do not fit.
  /// - Rounding: what an option takes more than the smallest is rounded up to 1/65,536 of what they leave, so the
  ///   result is within `things / 65,536` of the budget of the best.
  /// - Cost: `65,536 · options` steps, a byte of memory for each thing and cell.
  public static func best(_ options: [[Option]], budget: Int) -> [Int]? {
    let least = options.map { $0.map(\.bytes).min() ?? 0 }
    let spare = budget - least.reduce(0, +)
    guard spare >= 0, options.allSatisfy({ !$0.isEmpty && $0.count < 256 }) else { return nil }
    let unit = max(1, (spare + cells - 1) / cells)
    let width = spare / unit + 1
    var costs = [Double](repeating: 0, count: width)
    var taken: [[UInt8]] = []
    for (place, choices) in options.enumerated() {
      var next = [Double](repeating: .infinity, count: width)
      var taking = [UInt8](repeating: 0, count: width)
      for (index, option) in choices.enumerated() {
        let size = (option.bytes - least[place] + unit - 1) / unit
        guard size < width else { continue }
        for cell in size..<width where costs[cell - size] + option.cost < next[cell] {
          next[cell] = costs[cell - size] + option.cost
          taking[cell] = UInt8(index)
        }
      }
      costs = next
      taken.append(taking)
    }
    var cell = width - 1
    var result = [Int](repeating: 0, count: options.count)
    for place in options.indices.reversed() {
      let index = Int(taken[place][cell])
      result[place] = index
      cell -= (options[place][index].bytes - least[place] + unit - 1) / unit
    }
    return result
  }
}
