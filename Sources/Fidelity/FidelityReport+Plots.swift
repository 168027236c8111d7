import Glibc

// Plots of what is inside the models, and of several candidates.
extension FidelityReport {
  /// Relative error of what enters each linear operation, on a logarithmic scale.
  func layerCurve(_ divergence: Divergence) -> String {
    let layers = divergence.layers
    guard layers.count > 1 else { return "" }
    // What is not finite is drawn at the upper end.
    let values = layers.map { $0.relativeError.isFinite ? log10(min(max($0.relativeError, 1e-8), 1e3)) : 3 }
    let (low, high) = (
      (values.min() ?? 0).rounded(.down), max((values.max() ?? 0).rounded(.up), (values.min() ?? 0) + 1)
    )
    func x(_ index: Int) -> Double { 40 + Double(index) / Double(layers.count - 1) * 390 }
    func y(_ value: Double) -> Double { 165 - (value - low) / (high - low) * 150 }
    let colors = ["vision": "var(--purple)", "projector": "var(--green)", "text": "var(--blue)"]
    let points = layers.enumerated().map { index, layer in
      "<circle cx=\"\(x(index).fixed(1))\" cy=\"\(y(values[index]).fixed(1))\" r=\"2.5\" fill=\"\(colors[layer.part] ?? "var(--grey)")\"><title>"
        + "\(escaped(layer.name)): \((layer.relativeError * 100).fixed(3)) %</title></circle>"
    }
    let lines = stride(from: low, through: high, by: 1).map { power in
      "<line x1=\"40\" y1=\"\(y(power).fixed(1))\" x2=\"430\" y2=\"\(y(power).fixed(1))\" stroke=\"var(--line)\"/>"
        + "<text x=\"36\" y=\"\((y(power) + 4).fixed(1))\" text-anchor=\"end\">\((pow(10, power) * 100).fixed(power < -2 ? 3 : 0)) %</text>"
    }
    return "<figure><svg viewBox=\"0 0 450 200\" role=\"img\">\(lines.joined())\(points.joined())"
      + "<text x=\"40\" y=\"190\">first layer</text><text x=\"430\" y=\"190\" text-anchor=\"end\">last</text></svg>"
      + "<figcaption>Relative error of what enters each linear operation: vision purple, projector green, text blue.</figcaption></figure>"
  }

  /// A bar for each weight, as wide as its bytes and as high as its bits per element.
  func bitMap(_ divergence: Divergence) -> String {
    let weights = divergence.weights.filter { $0.bytes > 0 }
    let total = Double(weights.reduce(0) { $0 + $1.bytes })
    guard total > 0 else { return "" }
    var left = 30.0
    let bars = weights.map { weight in
      let width = Double(weight.bytes) / total * 400
      defer { left += width }
      let height = min(weight.bits, 32) / 32 * 150
      return
        "<rect x=\"\(left.fixed(2))\" y=\"\((165 - height).fixed(1))\" width=\"\(max(0.2, width * 0.95).fixed(2))\" height=\"\(height.fixed(1))\" "
        + "fill=\"var(--blue)\"><title>\(escaped(weight.name)): \(escaped(weight.encoding)), \(weight.bits.fixed(2)) bits, relative error \((weight.relativeError * 100).fixed(2)) %</title></rect>"
    }
    return
      "<figure><svg viewBox=\"0 0 450 200\" role=\"img\">\(bars.joined())<line x1=\"30\" y1=\"165\" x2=\"430\" y2=\"165\" stroke=\"var(--grey)\"/>"
      + "<text x=\"26\" y=\"20\" text-anchor=\"end\">32</text><text x=\"26\" y=\"169\" text-anchor=\"end\">0</text><text x=\"230\" y=\"188\" text-anchor=\"middle\">weights in the order of the model</text></svg>"
      + "<figcaption>Bits per element; a bar is as wide as its share of the bytes.</figcaption></figure>"
  }

  /// Size against what is lost, and a table, for several candidates.
  static func comparison(_ reports: [FidelityReport]) -> String {
    let rows = reports.map { report in
      "<tr><td>\(escaped(report.candidate.name))</td><td class=\"n\">\(report.candidate.bytes.map { (Double($0) / 1e6).fixed(1) + " MB" } ?? "")</td>"
        + "<td class=\"n\">\(report.closeness.cosine.mean.fixed(5))</td><td class=\"n\">\(report.own.recall(at: 1).fixed(4))</td>"
        + "<td class=\"n\">\(report.overlap(report.mixed, 10).fixed(4))</td><td class=\"\(report.passes ? "ok\">pass" : "bad\">fail")</td></tr>"
    }
    return
      "<h2>Candidates</h2><div class=\"plots\"><figure>\(pareto(reports))<figcaption>Bytes against 1 - mean cosine, logarithmic: the lower left is "
      + "better.</figcaption></figure></div><div class=\"wide\"><table><tr><th>candidate</th><th class=\"n\">size</th><th class=\"n\">mean cosine</th>"
      + "<th class=\"n\">P@1</th><th class=\"n\">overlap@10, mixed</th><th></th></tr>\(rows.joined())</table></div>"
  }

  private static func pareto(_ reports: [FidelityReport]) -> String {
    let points = reports.compactMap { report in
      report.candidate.bytes.map {
        (name: report.candidate.name, x: Double($0), y: log10(max(1e-8, 1 - report.closeness.cosine.mean)))
      }
    }
    guard let most = points.map(\.x).max(), let low = points.map(\.y).min(), let high = points.map(\.y).max() else {
      return ""
    }
    let (bottom, top) = (low - 0.2, high + 0.2)
    let dots = points.map { point in
      let (x, y) = (40 + point.x / (most * 1.1) * 380, 165 - (point.y - bottom) / (top - bottom) * 150)
      return "<circle cx=\"\(x.fixed(1))\" cy=\"\(y.fixed(1))\" r=\"5\" fill=\"var(--blue)\"/>"
        + "<text x=\"\(x.fixed(1))\" y=\"\((y - 9).fixed(1))\" text-anchor=\"\(x > 300 ? "end" : "middle")\">\(escaped(point.name))</text>"
    }
    return
      "<svg viewBox=\"0 0 450 200\" role=\"img\">\(dots.joined())<line x1=\"40\" y1=\"165\" x2=\"430\" y2=\"165\" stroke=\"var(--grey)\"/>"
      + "<line x1=\"40\" y1=\"10\" x2=\"40\" y2=\"165\" stroke=\"var(--grey)\"/><text x=\"40\" y=\"185\">0</text>"
      + "<text x=\"430\" y=\"185\" text-anchor=\"end\">\((most * 1.1 / 1e6).fixed(1)) MB</text>"
      + "<text x=\"46\" y=\"16\">\(pow(10, top).fixed(4))</text></svg>"
  }
}
