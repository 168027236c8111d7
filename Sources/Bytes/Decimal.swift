extension Double {
  /// The number with `digits` decimals, halves away from zero; `undefined` for NaN. For people.
  public func fixed(_ digits: Int) -> String {
    guard isFinite else { return isNaN ? "undefined" : self < 0 ? "-∞" : "∞" }
    var scale = 1.0
    for _ in 0..<digits { scale *= 10 }
    let rounded = (abs(self) * scale).rounded()
    guard rounded < 1e15 else { return description }
    let whole = Int(rounded / scale)
    let sign = self < 0 && rounded > 0 ? "-" : ""
    guard digits > 0 else { return sign + String(whole) }
    let part = String(Int(rounded - Double(whole) * scale))
    return sign + String(whole) + "." + String(repeating: "0", count: max(0, digits - part.count)) + part
  }
}
