/// A plot as inline SVG, 400 by 220, with room for the names of both axes. Its type is as large as the page's captions.
struct Plot {
  enum Anchor: String { case start, middle, end }

  static let (left, right, top, bottom) = (58.0, 392.0, 30.0, 172.0)
  private var parts: [String] = []

  /// - Parameters:
  ///   - x, y: names of the axes.
  init(x: String, y: String) {
    text(0, 14, y, .start)
    text((Plot.left + Plot.right) / 2, 212, x, .middle)
    line(Plot.left, Plot.bottom, Plot.right, Plot.bottom, "var(--grey)")
  }

  /// A plot without axes.
  init() {}

  mutating func text(_ x: Double, _ y: Double, _ text: String, _ anchor: Anchor, _ style: String = "") {
    parts.append(
      "<text x=\"\(x.fixed(1))\" y=\"\(y.fixed(1))\" text-anchor=\"\(anchor)\"\(style)>\(Page.escaped(text))</text>")
  }

  /// Below the horizontal axis.
  mutating func tick(x: Double, _ name: String, _ anchor: Anchor = .middle) { text(x, 190, name, anchor) }

  /// Left of the plot, with a line through it.
  mutating func tick(y: Double, _ name: String) {
    text(Plot.left - 8, y + 4, name, .end)
    line(Plot.left, y, Plot.right, y, "var(--line)")
  }

  mutating func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ color: String) {
    parts.append(
      "<line x1=\"\(x1.fixed(1))\" y1=\"\(y1.fixed(1))\" x2=\"\(x2.fixed(1))\" y2=\"\(y2.fixed(1))\" "
        + "stroke=\"\(color)\"/>"
    )
  }

  mutating func bar(_ x: Double, _ y: Double, _ width: Double, _ height: Double, _ color: String, title: String? = nil)
  {
    parts.append(
      "<rect x=\"\(x.fixed(2))\" y=\"\(y.fixed(1))\" width=\"\(max(0.3, width).fixed(2))\" "
        + "height=\"\(height.fixed(1))\" fill=\"\(color)\""
        + (title.map { "><title>\(Page.escaped($0))</title></rect>" } ?? "/>"))
  }

  /// A point; parts of a model differ in shape as well as in colour.
  mutating func point(_ x: Double, _ y: Double, _ mark: Mark, isHollow: Bool = false, title: String) {
    let paint = isHollow ? "fill=\"none\" stroke=\"\(mark.color)\"" : "fill=\"\(mark.color)\""
    parts.append("\(mark.shape(x, y, paint))<title>\(Page.escaped(title))</title></\(mark.element)>")
  }

  /// A place for a number beside a point where no other number is.
  static func free(_ x: Double, _ y: Double, _ taken: [(x: Double, y: Double)]) -> (x: Double, y: Double) {
    var places: [(x: Double, y: Double)] = []
    for ring in 0..<12 {
      let reach = Double(ring) * 16
      places += [(x, y - 8 - reach), (x + 14 + reach, y + 4), (x, y + 17 + reach), (x - 14 - reach, y + 4)]
    }
    let inside = places.filter {
      $0.x > Plot.left + 8 && $0.x < Plot.right - 8 && $0.y > Plot.top && $0.y < Plot.bottom - 2
    }
    return inside.first { place in
      taken.allSatisfy { abs($0.x - place.x) > 18 || abs($0.y - place.y) > 15 }
    } ?? inside.first ?? (x, y - 8)
  }

  /// - Parameter label: what the plot shows, for those who do not see it.
  func figure(_ label: String, caption: String) -> String {
    "<figure><svg viewBox=\"0 0 400 220\" role=\"img\" aria-label=\"\(Page.escaped(label))\">"
      + parts.joined() + "</svg>"
      + "<figcaption>\(caption)</figcaption></figure>"
  }

  struct Mark {
    let name, color, element: String

    static let all = [
      Mark(name: "vision", color: "var(--purple)", element: "rect"),
      Mark(name: "projector", color: "var(--green)", element: "path"),
      Mark(name: "text", color: "var(--blue)", element: "circle"),
    ]

    static func of(_ part: String) -> Mark { all.first { $0.name == part } ?? all[2] }

    /// The element up to its content.
    func shape(_ x: Double, _ y: Double, _ paint: String) -> String {
      switch element {
      case "rect": "<rect x=\"\((x - 2.5).fixed(1))\" y=\"\((y - 2.5).fixed(1))\" width=\"5\" height=\"5\" \(paint)>"
      case "path": "<path d=\"M\(x.fixed(1)) \((y - 4).fixed(1)) l4 7 h-8 z\" \(paint)>"
      default: "<circle cx=\"\(x.fixed(1))\" cy=\"\(y.fixed(1))\" r=\"3\" \(paint)>"
      }
    }
  }
}
