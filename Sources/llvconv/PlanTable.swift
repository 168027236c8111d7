import Bytes
import Calibration
import LLVConv
import Passes
import Tensors

/// What each weight becomes and why, for people: weights of one kind in all layers together.
struct PlanTable {
  private struct Row {
    let choice: String
    var layers: [Int] = []
    var bytes = 0
    var cost = 0.0
    var largestError: Double?
  }

  let text: String

  /// - Parameter model: as the plan makes it.
  init(_ plan: Plan, _ model: Model) {
    let total = plan.entries.reduce(0) { $0 + ($1.cost ?? 0) }
    var kinds: [(name: String, rows: [Row])] = []
    for entry in plan.entries {
      let (kind, layer) = PlanTable.kind(entry.name.text)
      let place = kinds.firstIndex { $0.name == kind } ?? kinds.count
      if place == kinds.count { kinds.append((kind, [])) }
      let choice = entry.choice.text + (entry.hasFloatInput ? ", float input" : "")
      let at = kinds[place].rows.firstIndex { $0.choice == choice } ?? kinds[place].rows.count
      if at == kinds[place].rows.count { kinds[place].rows.append(Row(choice: choice)) }
      kinds[place].rows[at].layers += layer.map { [$0] } ?? []
      kinds[place].rows[at].bytes += model[entry.name]?.byteCount ?? 0
      kinds[place].rows[at].cost += entry.cost ?? 0
      if let error = entry.relativeError {
        kinds[place].rows[at].largestError = max(kinds[place].rows[at].largestError ?? 0, error)
      }
    }
    var lines: [String] = []
    for kind in kinds {
      lines.append(kind.name)
      for row in kind.rows { lines.append(PlanTable.line(row, total)) }
    }
    lines += ["Error: the largest relative error of a weight.", "Loss: its share of the plan's predicted loss."]
    text = (lines + PlanTable.summary(plan, total)).joined(separator: "\n")
  }

  private static func line(_ row: Row, _ total: Double) -> String {
    let layers = row.layers.isEmpty ? "" : "layers \(ranges(row.layers))"
    let error = row.largestError.map { "error \(($0 * 100).fixed(1)) %" } ?? ""
    let loss = total > 0 ? "loss \((row.cost / total * 100).fixed(1)) %" : ""
    return "  " + row.choice.padded(20) + " " + layers.padded(20) + " " + Output.size(row.bytes).padded(9) + " "
      + error.padded(12) + " " + loss
  }

  private static func summary(_ plan: Plan, _ total: Double) -> [String] {
    let notes = Dictionary(plan.notes.map { ($0.0, $0.1) }) { first, _ in first }
    var lines: [String] = []
    if case .number(let bits)? = notes["bits_per_weight"] {
      lines.append("weights: \(Output.size(plan.weightBytes)), \(bits.fixed(2)) bits each on average")
    }
    if case .string(let objective)? = notes["objective"] {
      lines.append("predicted loss \(total.fixed(6)); what is kept small: \(objective)")
    }
    if case .number(let cosine)? = notes["cosine"], case .int(let items)? = notes["items"] {
      lines.append("mean cosine \(cosine.fixed(5)) on \(items) items")
    }
    return lines
  }

  /// `encoder.layer.*.weight` and 3 of `encoder.layer.3.weight`.
  private static func kind(_ name: String) -> (String, Int?) {
    var parts = name.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    guard let place = parts.firstIndex(where: { Int($0) != nil }) else { return (name, nil) }
    let layer = Int(parts[place])
    parts[place] = "*"
    return (parts.joined(separator: "."), layer)
  }

  /// `0-3, 5` of 0, 1, 2, 3 and 5.
  static func ranges(_ numbers: [Int]) -> String {
    var ranges: [ClosedRange<Int>] = []
    for number in Set(numbers).sorted() {
      if let last = ranges.last, last.upperBound + 1 == number {
        ranges[ranges.count - 1] = last.lowerBound...number
      } else {
        ranges.append(number...number)
      }
    }
    return ranges.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }
      .joined(separator: ", ")
  }
}
