import Fidelity
import Inference

/// A page that shows when each operation of a run was at work: one lane for each kind, time to the right. Stands alone.
struct Timeline {
  private let title: String
  private let events: [Profile.Event]
  private static let colors = [
    "var(--blue)", "var(--purple)", "var(--green)", "var(--amber)", "var(--red)", "var(--grey)",
  ]

  init(_ title: String, _ events: [Profile.Event]) {
    self.title = title
    self.events = events
  }

  private var start: Double { events.first?.start ?? 0 }
  private var length: Double { max((events.map { $0.start + $0.duration }.max() ?? 1) - start, 1e-9) }

  var html: String {
    var kinds: [String: [Profile.Event]] = [:]
    for event in events { kinds[event.name, default: []].append(event) }
    let totals = kinds.mapValues { $0.reduce(0) { $0 + $1.duration } }
    let names = kinds.keys.sorted { (totals[$0] ?? 0, $0) > (totals[$1] ?? 0, $1) }
    let lanes = names.enumerated().map { place, name in
      lane(name, kinds[name] ?? [], totals[name] ?? 0, Timeline.colors[place % Timeline.colors.count])
    }
    let ticks = [0, 0.25, 0.5, 0.75, 1].map { share in
      "<span>\((length * share * 1e3).fixed(length < 0.1 ? 1 : 0)) ms</span>"
    }
    return Page.document(
      title: "Timeline",
      body: """
        <h1>Timeline</h1><p>\(Page.escaped(title)): \(events.count) operations in \(length.fixed(4)) s, those that
        took longest first. Point at one to see its size and time.</p>
        <div class="lanes"><div><span></span><div class="ticks">\(ticks.joined())</div></div>
        \(lanes.joined(separator: "\n"))</div>
        """)
  }

  /// A kind of operation. Lanes are as wide as the page, so their units are stretched and they hold no text.
  private func lane(_ name: String, _ events: [Profile.Event], _ total: Double, _ color: String) -> String {
    let bars = events.map { event in
      let x = (event.start - start) / length * 1_000
      let rate = event.products > 0 ? ", \((event.products / event.duration / 1e9).fixed(1)) GMAC/s" : ""
      return "<rect x=\"\(x.fixed(2))\" width=\"\(max(0.4, event.duration / length * 1_000).fixed(2))\" height=\"22\" "
        + "fill=\"\(color)\"><title>\(Page.escaped(name)): \(event.rows) × \(event.columns), "
        + "\((event.duration * 1e3).fixed(2)) ms\(rate)</title></rect>"
    }
    let share = "\((total * 1e3).fixed(1)) ms, \((total / length * 100).fixed(1)) %"
    return """
      <div><span>\(Page.escaped(name)) · \(events.count) · \(share)</span>
      <svg viewBox="0 0 1000 22" preserveAspectRatio="none" role="img" aria-label="\(Page.escaped(name)): \(share)">
      \(bars.joined(separator: "\n"))</svg></div>
      """
  }
}
