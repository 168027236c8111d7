import Bytes
import LLVConv
import Tensors

/// What was measured of candidates for a speed, for people and for plans.
struct SpeedTable {
  let candidates: [SpeedTrial.Candidate]
  /// Places of those that no other beats in both speed and fidelity.
  let front: Set<Int>
  let chosen: Int?
  /// Of the model as it is.
  let itemsPerSecond: Double

  /// The fastest first.
  private var order: [Int] {
    candidates.indices.sorted { (candidates[$0].speed, $1) > (candidates[$1].speed, $0) }
  }

  var text: String {
    let head = SpeedTable.line(
      "", ["speed", "items/s", "cosine", "bytes", "views", "pooled", "tokens", "weights", "inputs"])
    let rows = order.map { place in
      SpeedTable.line(place == chosen ? "->" : front.contains(place) ? "*" : "", cells(candidates[place]))
    }
    let legend =
      "*: no other is faster and as faithful; ->: chosen. "
      + "Speed: times the model as it is, which embeds \(itemsPerSecond.fixed(1)) items/s."
    return ([head] + rows + [legend]).joined(separator: "\n")
  }

  /// A candidate in words.
  func row(_ place: Int) -> String {
    let own = candidates[place]
    let pictures = own.views.map { views in
      ", \(views == 1 ? "one view" : "at most \(views) views"), \(own.pooling == 1 ? "not pooled" : "pooled")"
    }
    let inputs = own.input == .int8 ? "8-bit" : "float"
    return "\(own.speed.fixed(2)) times as fast, mean cosine \(own.cosine.fixed(5))\(pictures ?? ""), "
      + "weights \(own.weights), \(inputs) inputs, \(Output.size(own.bytes))"
  }

  private func cells(_ own: SpeedTrial.Candidate) -> [String] {
    [
      own.speed.fixed(2), (own.speed * itemsPerSecond).fixed(1), own.cosine.fixed(5), String(own.bytes),
      own.views.map(String.init) ?? "-", own.pooling.map { $0 == 1 ? "no" : "\($0) x \($0)" } ?? "-",
      own.tokens?.fixed(1) ?? "-", own.weights, own.input == .int8 ? "8 bits" : "float",
    ]
  }

  private static func line(_ mark: String, _ cells: [String]) -> String {
    let widths = [6, 9, 8, 12, 5, 6, 7, 10, 6]
    let padded = zip(cells, widths).map { text, width in
      String(repeating: " ", count: max(0, width - text.count)) + text
    }
    return mark.padded(3) + padded.joined(separator: "  ")
  }

  var json: JSONText {
    .array(
      order.map { place in
        let own = candidates[place]
        return [
          "views": own.views.map(JSONText.int) ?? .null, "pool_pictures": own.pooling.map(JSONText.int) ?? .null,
          "tokens_per_picture": own.tokens.map(JSONText.number) ?? .null, "weights": .string(own.weights),
          "input": .string(own.input.rawValue), "bytes": .int(own.bytes), "speed": .number(own.speed),
          "items_per_second": .number(own.speed * itemsPerSecond), "cosine": .number(own.cosine),
          "front": .bool(front.contains(place)), "chosen": .bool(place == chosen),
        ]
      })
  }
}
