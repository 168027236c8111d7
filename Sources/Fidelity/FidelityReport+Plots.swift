import Glibc

// Plots of one candidate.
extension FidelityReport {
  /// Forty bins from just below the lowest cosine to 1.
  var histogram: String {
    let values = closeness.cosines.compactMap { $0 }
    guard let least = values.min() else { return "" }
    let low = least - max(1e-6, (1 - least) * 0.02)
    let bins = 40
    var counts = [Int](repeating: 0, count: bins)
    for value in values { counts[min(bins - 1, Int((value - low) / (1 - low + 1e-12) * Double(bins)))] += 1 }
    let most = counts.max() ?? 1
    var plot = Plot(x: "cosine of an item's two vectors", y: "items")
    let step = (Plot.right - Plot.left) / Double(bins)
    plot.tick(y: Plot.top, String(most))
    plot.text(Plot.left - 8, Plot.bottom + 4, "0", .end)
    for (index, count) in counts.enumerated() where count > 0 {
      let height = Double(count) / Double(most) * (Plot.bottom - Plot.top)
      plot.bar(Plot.left + Double(index) * step, Plot.bottom - height, step - 1, height, "var(--blue)")
    }
    let digits = min(7, max(2, Int(-log10(1 - low).rounded(.down)) + 1))
    plot.tick(x: Plot.left, low.fixed(digits), .start)
    plot.tick(x: (Plot.left + Plot.right) / 2, ((1 + low) / 2).fixed(digits))
    plot.tick(x: Plot.right, "1", .end)
    return plot.figure(
      "Cosines of \(values.count) items, from \(least.fixed(5)) to \(closeness.cosine.most.fixed(5))",
      caption: "How far \(values.count) vectors moved: the further right, the closer.")
  }

  /// Shares of queries whose positive is found, of three searches at three depths.
  var recallBars: String {
    let series = [
      ("reference", baseline, "var(--grey)"), ("candidate", own, "var(--blue)"),
      ("mixed index", mixed, "var(--purple)"),
    ]
    var plot = Plot()
    for (group, k) in [1, 5, 10].enumerated() {
      let top = 8 + Double(group) * 62
      plot.text(0, top + 30, k == 1 ? "P@1" : "recall@\(k)", .start)
      for (place, one) in series.enumerated() {
        let (value, y) = (one.1.recall(at: k), top + Double(place) * 17)
        let width = value.isFinite ? value * 250 : 0
        plot.bar(76, y, width, 14, one.2)
        plot.text(76 + width + 6, y + 11, Headline.percent(value), .start)
      }
    }
    for (place, one) in series.enumerated() {
      let x = 76 + Double(place) * 100
      plot.bar(x, 201, 12, 12, one.2)
      plot.text(x + 17, 211, one.0, .start)
    }
    return plot.figure(
      "P@1: " + series.map { "\($0.0) \(Headline.percent($0.1.recall(at: 1)))" }.joined(separator: ", "),
      caption: "Share of queries whose right document is first (P@1), or among the first 5 or 10.")
  }

  /// Relative error of what enters each linear operation, on a logarithmic scale.
  func layerCurve(_ divergence: Divergence) -> String {
    let layers = divergence.layers
    guard layers.count > 1 else { return "" }
    // What is not finite is drawn at the upper end.
    let values = layers.map { $0.relativeError.isFinite ? log10(min(max($0.relativeError, 1e-12), 1e3)) : 3 }
    let scale = LogScale(values, floor: -5)
    var plot = Plot(
      x: "weights in the order they run, first to last", y: "relative error of what they are multiplied with")
    for power in scale.ticks { plot.tick(y: scale.place(power), LogScale.percent(power)) }
    let step = (Plot.right - Plot.left - 16) / Double(layers.count - 1)
    for (index, layer) in layers.enumerated() {
      plot.point(
        Plot.left + 8 + Double(index) * step, scale.place(values[index]), .of(layer.part),
        isHollow: values[index] < scale.low,
        title: "\(layer.name): \((layer.relativeError * 100).fixed(values[index] < -4 ? 7 : 3)) %")
    }
    let below = values.count { $0 < scale.low }
    let parts = Set(layers.map(\.part))
    let names = Plot.Mark.all.filter { parts.contains($0.name) }.map { mark in
      "<svg viewBox=\"0 0 12 12\" aria-hidden=\"true\">"
        + mark.shape(6, 6, "fill=\"\(mark.color)\"") + "</\(mark.element)></svg> \(mark.name)"
    }
    return plot.figure(
      "Relative error in \(layers.count) places of the model, at most "
        + "\(((layers.map(\.relativeError).max() ?? 0) * 100).fixed(4)) %",
      caption: "Where values leave the reference's: \(names.joined(separator: ", "))."
        + (below > 0 ? " Hollow: \(below) below the scale." : ""))
  }

  /// A bar for each weight, as wide as its bytes and as high as its bits per element.
  func bitMap(_ divergence: Divergence) -> String {
    let weights = divergence.weights.filter { $0.bytes > 0 }
    let total = Double(weights.reduce(0) { $0 + $1.bytes })
    guard total > 0 else { return "" }
    let most = [4.0, 8, 16].first { top in weights.allSatisfy { $0.bits <= top } } ?? 32
    var plot = Plot(x: "weights in the order of the model, as wide as their bytes", y: "bits per element")
    for bits in stride(from: 0, through: most, by: most / 4) {
      plot.tick(y: Plot.bottom - bits / most * (Plot.bottom - Plot.top), bits.fixed(0))
    }
    var left = Plot.left
    for weight in weights {
      let width = Double(weight.bytes) / total * (Plot.right - Plot.left)
      let height = min(weight.bits, most) / most * (Plot.bottom - Plot.top)
      plot.bar(
        left, Plot.bottom - height, width * 0.95, height, "var(--blue)",
        title: "\(weight.name): \(weight.encoding), \(weight.bits.fixed(2)) bits, relative error "
          + "\((weight.relativeError * 100).fixed(2)) %")
      left += width
    }
    return plot.figure(
      "Bits per element of \(weights.count) weights, at most \((weights.map(\.bits).max() ?? 0).fixed(1))",
      caption: "Where the bytes are.")
  }
}

/// A logarithmic axis over most of the values: at most a tenth of them, and what lies four decades below the highest,
/// is drawn on its lower end, so that a few values near zero do not squash the others.
struct LogScale {
  /// Powers of ten.
  let low, high: Double

  /// - Parameters:
  ///   - values: logarithms, at least one.
  ///   - floor: what lies below counts as nothing.
  init(_ values: [Double], floor: Double) {
    let sorted = values.sorted()
    let top = (sorted.last ?? 0).rounded(.up)
    low = max(sorted[sorted.count / 10].rounded(.down), top - 4, floor)
    high = max(top, low + 1)
  }

  var ticks: [Double] { Array(stride(from: low, through: high, by: 1)) }

  func place(_ value: Double) -> Double {
    Plot.bottom - (max(value, low) - low) / (high - low) * (Plot.bottom - Plot.top)
  }

  /// `0.01 %`: as many digits as the power has.
  static func percent(_ power: Double) -> String {
    "\((pow(10, power) * 100).fixed(max(0, Int(-power.rounded(.down)) - 2))) %"
  }
}
