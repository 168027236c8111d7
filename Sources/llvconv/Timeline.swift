import Inference

/// A page that shows when each operation of a run was at work: one lane for each kind, time to the right. Stands alone.
struct Timeline {
  private let title: String
  private let events: [Profile.Event]
  private static let colors = ["#0969da", "#8250df", "#bf3989", "#cf222e", "#bc4c00", "#9a6700", "#1a7f37", "#0a7f86"]

  init(_ title: String, _ events: [Profile.Event]) {
    self.title = title
    self.events = events
  }

  var html: String {
    let start = events.first?.start ?? 0
    let end = events.map { $0.start + $0.duration }.max() ?? 1
    var totals: [String: Double] = [:]
    for event in events { totals[event.name, default: 0] += event.duration }
    let names = totals.keys.sorted { (totals[$0] ?? 0, $0) > (totals[$1] ?? 0, $1) }
    let (left, width, lane) = (270.0, 1_400.0, 24.0)
    let height = Double(names.count) * lane
    var parts: [String] = []
    for (place, name) in names.enumerated() {
      let y = 30 + Double(place) * lane
      let share = (totals[name] ?? 0) / max(end - start, 1e-9) * 100
      parts.append(
        "<text x=\"\(left - 8)\" y=\"\(y + 15)\" text-anchor=\"end\">\(name) · \(share.fixed(1)) %</text>"
          + "<rect class=\"lane\" x=\"\(left)\" y=\"\(y)\" width=\"\(width)\" height=\"\(lane - 3)\"/>")
    }
    for event in events {
      let place = names.firstIndex(of: event.name) ?? 0
      let x = left + (event.start - start) / (end - start) * width
      let rate = event.products > 0 ? ", \((event.products / event.duration / 1e9).fixed(1)) GMAC/s" : ""
      parts.append(
        "<rect x=\"\(x.fixed(2))\" y=\"\((30 + Double(place) * lane).fixed(0))\" width=\"\(max(0.4, event.duration / (end - start) * width).fixed(2))\" "
          + "height=\"\(lane - 3)\" fill=\"\(Timeline.colors[place % Timeline.colors.count])\">"
          + "<title>\(event.name): \(event.rows) × \(event.columns), \((event.duration * 1e3).fixed(2)) ms\(rate)</title></rect>"
      )
    }
    for tick in 0...10 {
      let x = left + width * Double(tick) / 10
      parts.append(
        "<text x=\"\(x)\" y=\"20\" text-anchor=\"middle\">\(((end - start) * Double(tick) * 100).fixed(end - start < 0.1 ? 1 : 0)) ms</text>"
      )
    }
    return """
      <!DOCTYPE html>
      <html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
      <title>Timeline</title>
      <style>
      :root { color-scheme: light dark; --text: #1f2328; --lane: #eaeef2; }
      @media (prefers-color-scheme: dark) { :root { --text: #d1d7e0; --lane: #262c36; } }
      body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); margin: 1rem; }
      .wide { overflow-x: auto; } svg { min-width: 60rem; width: 100%; }
      svg text { font: 12px system-ui, sans-serif; fill: var(--text); } .lane { fill: var(--lane); }
      </style></head><body>
      <h1 style="font-size: 1.2rem">\(title.replacing("&", with: "&amp;").replacing("<", with: "&lt;"))</h1>
      <p>\(events.count) operations in \((end - start).fixed(4)) s. Point at one to see its size and time.</p>
      <div class="wide"><svg viewBox="0 0 \(left + width + 40) \(height + 40)">\(parts.joined(separator: "\n"))</svg></div>
      </body></html>

      """
  }
}
